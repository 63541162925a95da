//! Downloads the administrator's kubeconfig.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::{Error, files, path};
use crate::cause::cause;
use crate::cluster::Cluster;
use crate::files as local;
use crate::report::event;
use crate::ssh::Remote;

mod merge;

/// A kubeconfig, limited to the fields that kubeadm writes
/// (kubernetes.io/docs/reference/config-api/kubeconfig.v1).
#[derive(Serialize, Deserialize)]
struct Kubeconfig {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    clusters: Vec<NamedCluster>,
    contexts: Vec<NamedContext>,
    #[serde(rename = "current-context", default)]
    current_context: String,
    users: Vec<NamedUser>,
}

#[derive(Serialize, Deserialize)]
struct NamedCluster {
    name: String,
    cluster: ClusterEntry,
}

#[derive(Serialize, Deserialize)]
struct ClusterEntry {
    #[serde(rename = "certificate-authority-data", default)]
    ca: String,
    server: String,
}

#[derive(Serialize, Deserialize)]
struct NamedContext {
    name: String,
    context: ContextEntry,
}

#[derive(Serialize, Deserialize)]
struct ContextEntry {
    cluster: String,
    user: String,
}

#[derive(Serialize, Deserialize)]
struct NamedUser {
    name: String,
    user: UserEntry,
}

#[derive(Serialize, Deserialize)]
struct UserEntry {
    #[serde(rename = "client-certificate-data", default)]
    certificate: String,
    #[serde(rename = "client-key-data", default)]
    key: String,
}

/// Whether a file contains access to this cluster: the cluster, with the CA of this hash if it is
/// known, a context for it, and that context's user.
pub fn is_there(cluster: &Cluster, ca: Option<&str>, path: &Path) -> bool {
    let text = local::read_text(path, local::Kind::Kubeconfig).unwrap_or_default();
    merge::holds(cluster, ca, &text)
}

/// Whether a file shows that this cluster was created once: it contains the cluster, at any
/// address, or is the rest of a damaged one.
pub fn tells_of(cluster: &Cluster, path: &Path) -> bool {
    let Ok(text) = local::read_text(path, local::Kind::Kubeconfig) else { return false };
    match serde_saphyr::from_str::<Kubeconfig>(&text) {
        Ok(there) => there.clusters.iter().any(|one| one.name == cluster.name),
        Err(_) => true,
    }
}

fn is_ours(cluster: &Cluster, name: &str, server: &str) -> bool {
    name == cluster.name && server == endpoint(cluster)
}

/// Downloads the kubeconfig from the first master into a file that only its owner can read.
///
/// Cluster, context and user get the cluster's name. An existing file is replaced only if it
/// contains nothing but this cluster; with `merge`, its entries for other clusters are kept and a
/// copy of it is saved as [`merge::BACKUP`].
///
/// # Errors
/// [`Error::Endpoint`] if it has another endpoint than the API's name; [`Error::Kubeconfig`] if
/// another cluster's file is at that path.
pub async fn fetch(
    first: &Remote,
    cluster: &Cluster,
    to: &Path,
    merge: bool,
) -> Result<bool, Error> {
    let text = SecretString::from(files::read(first, path::ADMIN).await?);
    let ours = rename(first, cluster, &text)?;
    let changed = if merge {
        merge::into(cluster, &ours, to)?
    } else {
        match local::read_text(to, local::Kind::Kubeconfig) {
            Ok(there) if there == ours.expose_secret() => return Ok(false),
            Ok(there) => replaceable(cluster, to, &there)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(Error::File { doing: "read", path: to.into(), source: source.into() });
            }
        }
        write(to, &ours).map_err(|source| Error::File {
            doing: "write",
            path: to.into(),
            source: source.into(),
        })?;
        true
    };
    if changed {
        event::progress(format!("kubeconfig: {}", to.display()));
    }
    Ok(changed)
}

/// Merges this cluster's kubeconfig, as [`fetch`] wrote it, into another file; says whether that changed.
///
/// # Errors
/// [`Error::File`] if one of the files cannot be read or written; [`Error::Kubeconfig`] if the
/// cluster cannot be added to the other one.
pub fn merge(cluster: &Cluster, own: &Path, to: &Path) -> Result<bool, Error> {
    let text = local::read_text(own, local::Kind::Kubeconfig).map_err(|source| Error::File {
        doing: "read",
        path: own.into(),
        source: source.into(),
    })?;
    merge::into(cluster, &SecretString::from(text), to)
}

/// Whether [`fetch`] may write there, checked before anything is created; without `merge`.
///
/// # Errors
/// [`Error::Kubeconfig`] if another file is at that path, or if it cannot be read.
pub fn is_free(cluster: &Cluster, to: &Path) -> Result<(), Error> {
    match local::read_text(to, local::Kind::Kubeconfig) {
        Ok(there) => replaceable(cluster, to, &there),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(Error::File { doing: "read", path: to.into(), source: source.into() }),
    }
}

fn rename(first: &Remote, cluster: &Cluster, text: &SecretString) -> Result<SecretString, Error> {
    let unread = |said: &str| Error::Unread {
        what: format!("`{}`", path::ADMIN),
        node: first.node().to_owned(),
        cause: cause(said),
    };
    // Parse errors quote the file: only their first line, which describes the error, may be shown.
    let mut config: Kubeconfig = serde_saphyr::from_str(text.expose_secret())
        .map_err(|_| unread("it is not a kubeconfig"))?;
    let ([one], [context], [user]) =
        (&mut config.clusters[..], &mut config.contexts[..], &mut config.users[..])
    else {
        return Err(unread("it does not hold exactly one cluster, context and user"));
    };
    let wanted = endpoint(cluster);
    if one.cluster.server != wanted {
        return Err(Error::Endpoint {
            node: first.node().to_owned(),
            found: one.cluster.server.clone(),
            wanted,
        });
    }
    crate::secrets::learn(&user.user.key);
    let admin = format!("{}-admin", cluster.name);
    one.name.clone_from(&cluster.name);
    context.name.clone_from(&cluster.name);
    context.context = ContextEntry { cluster: cluster.name.clone(), user: admin.clone() };
    user.name = admin;
    config.current_context.clone_from(&cluster.name);
    serde_saphyr::to_string(&config)
        .map(SecretString::from)
        .map_err(|_| unread("it cannot be written again"))
}

/// The port of the API servers, from a master's own kubeconfig.
///
/// # Errors
/// If the node cannot be queried, or has none.
pub(super) async fn port(master: &Remote) -> Result<u16, Error> {
    let text = SecretString::from(files::read(master, path::ADMIN).await?);
    let unread = || Error::Unread {
        what: format!("`{}`", path::ADMIN),
        node: master.node().to_owned(),
        cause: cause("it names no server"),
    };
    let config: Kubeconfig = serde_saphyr::from_str(text.expose_secret()).map_err(|_| unread())?;
    let server = config.clusters.first().map(|one| one.cluster.server.as_str()).unwrap_or_default();
    let port = server.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    port.ok_or_else(unread)
}

fn endpoint(cluster: &Cluster) -> String {
    format!("https://{}:{}", cluster.api.fqdn, cluster.api.port)
}

/// Whether an existing file may be replaced. The CA may differ: a rebuilt cluster has a new one.
fn replaceable(cluster: &Cluster, to: &Path, there: &str) -> Result<(), Error> {
    let refuse = |what: String| Err(Error::Kubeconfig { path: PathBuf::from(to), what });
    let Ok(there) = serde_saphyr::from_str::<Kubeconfig>(there) else {
        return refuse("something other than a kubeconfig of k8sha".into());
    };
    let others: Vec<&str> = there
        .clusters
        .iter()
        .filter(|one| !is_ours(cluster, &one.name, &one.cluster.server))
        .map(|one| one.cluster.server.as_str())
        .collect();
    if !others.is_empty() {
        return refuse(format!("access to another cluster ({})", others.join(", ")));
    }
    if there.contexts.len() > 1 || there.users.len() > 1 {
        return refuse("contexts or users that k8sha did not create".into());
    }
    Ok(())
}

/// Writes the whole file or nothing, readable only by its owner from the first byte on.
fn write(to: &Path, text: &SecretString) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let folder = match to.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // An existing folder keeps its mode: it may be the user's own `~/.kube`.
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // tempfile creates files with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.expose_secret().as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(to)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::cluster::fixture::k8s1;
    use crate::kubeadm::fake::Host;

    fn admin(server: &str, ca: &str) -> String {
        format!(
            "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {ca}\n    \
             server: {server}\n  name: k8s1-cluster\ncontexts:\n- context:\n    cluster: \
             k8s1-cluster\n    user: kubernetes-admin\n  name: kubernetes-admin@k8s1-cluster\n\
             current-context: kubernetes-admin@k8s1-cluster\nkind: Config\npreferences: {{}}\n\
             users:\n- name: kubernetes-admin\n  user:\n    client-certificate-data: Q0VSVA==\n    \
             client-key-data: S0VZ\n"
        )
    }

    const SERVER: &str = "https://k8s1api.kloud.lan:6443";

    #[tokio::test]
    async fn it_is_renamed_and_written_for_its_owner_only() {
        let host = Host::start(|_, _| None).await;
        host.put(path::ADMIN, admin(SERVER, "Q0E="));
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("deep/er/k8s1-cluster.yaml");
        let first = host.remote("m1");
        assert!(fetch(&first, &k8s1(), &to, false).await.unwrap());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&to), mode(to.parent().unwrap())), (0o600, 0o700));
        let text = std::fs::read_to_string(&to).unwrap();
        let config: Kubeconfig = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(config.current_context, "k8s1-cluster");
        assert_eq!(config.contexts[0].context.user, config.users[0].name);
        assert_eq!(config.users[0].user.key, "S0VZ");
        assert!(!fetch(&first, &k8s1(), &to, false).await.unwrap(), "nothing new the second time");
        host.put(path::ADMIN, admin(SERVER, "TkVX"));
        assert!(
            fetch(&first, &k8s1(), &to, false).await.unwrap(),
            "a rebuilt cluster has a new CA"
        );
    }

    #[tokio::test]
    async fn another_clusters_file_is_left_as_it_is() {
        let host = Host::start(|_, _| None).await;
        host.put(path::ADMIN, admin(SERVER, "Q0E="));
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("config");
        for other in [
            admin("https://10.0.0.1:6443", "Q0E="),
            admin(SERVER, "Q0E=").replace("  name: k8s1-cluster", "  name: prod"),
            "not yaml: [".to_owned(),
        ] {
            std::fs::write(&to, &other).unwrap();
            let error = fetch(&host.remote("m1"), &k8s1(), &to, false).await.unwrap_err();
            assert!(matches!(error, Error::Kubeconfig { .. }), "{error}");
            assert_eq!(std::fs::read_to_string(&to).unwrap(), other);
        }
    }

    #[tokio::test]
    async fn one_that_names_a_single_master_is_refused() {
        let host = Host::start(|_, _| None).await;
        host.put(path::ADMIN, admin("https://10.101.1.101:6443", "Q0E="));
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("config");
        let error = fetch(&host.remote("m1"), &k8s1(), &to, false).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the kubeconfig of `m1` names `https://10.101.1.101:6443`, not \
             `https://k8s1api.kloud.lan:6443`"
        );
        assert!(!to.exists());
    }
}
