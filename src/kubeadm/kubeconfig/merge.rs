//! Merges this cluster into a kubeconfig and keeps the entries of other clusters.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::{endpoint, is_ours, write};
use crate::cluster::Cluster;
use crate::files::{self, Kind};
use crate::kubeadm::Error;
use crate::kubeadm::files::spki_hash;

/// The suffix that the backup of the file adds to the file's name.
pub const BACKUP: &str = "k8sha-backup";
/// The lists of a kubeconfig, each with named entries.
const LISTS: [&str; 3] = ["clusters", "users", "contexts"];

/// Whether a file of any shape contains complete access to this cluster: a truncated one may have
/// lost its end.
pub(super) fn holds(cluster: &Cluster, ca: Option<&str>, text: &str) -> bool {
    let there: Value = serde_saphyr::from_str(text).unwrap_or_default();
    let trusts = |one: &Value| {
        let Some(known) = ca else { return true };
        let data = one["cluster"]["certificate-authority-data"].as_str().unwrap_or_default();
        let pem = STANDARD.decode(data).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        pem.and_then(|pem| spki_hash(&pem).ok()).is_some_and(|hash| hash == known)
    };
    let owned = entry(&there, "clusters", &cluster.name)
        .is_some_and(|one| owns(cluster, one) && trusts(one));
    let contexts = there["contexts"].as_array().into_iter().flatten();
    let mut ours = contexts.filter(|one| one["context"]["cluster"] == cluster.name);
    let user = |context: &Value| {
        let name = context["context"]["user"].as_str()?.to_owned();
        let user = &entry(&there, "users", &name)?["user"];
        // A user may configure another program for the login; kubeadm's credentials are a
        // certificate and its key.
        let other = user.is_object() && user["client-certificate-data"].is_null();
        let key = user["client-key-data"].as_str().filter(|key| !key.is_empty());
        (other || key.is_some_and(|key| STANDARD.decode(key).is_ok())).then_some(())
    };
    owned && ours.any(|context| user(context).is_some())
}

fn owns(cluster: &Cluster, entry: &Value) -> bool {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    is_ours(cluster, &text(&entry["name"]), &text(&entry["cluster"]["server"]))
}

fn entry<'a>(config: &'a Value, list: &str, name: &str) -> Option<&'a Value> {
    config[list].as_array()?.iter().find(|one| one["name"] == name)
}

/// Merges this cluster's kubeconfig into a file.
pub(super) fn into(cluster: &Cluster, ours: &SecretString, to: &Path) -> Result<bool, Error> {
    // A link to the file is kept: its target is replaced.
    let to = fs::canonicalize(to).unwrap_or_else(|_| to.to_owned());
    let to = to.as_path();
    let file = |doing| {
        move |source: std::io::Error| Error::File { doing, path: to.into(), source: source.into() }
    };
    let before = match files::read_text(to, Kind::Kubeconfig) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(file("read")(error)),
    };
    let refuse = |what: &str| Error::Kubeconfig { path: to.into(), what: what.to_owned() };
    let there = match before.as_deref().map(str::trim) {
        None | Some("") => json!({ "apiVersion": "v1", "kind": "Config" }),
        // A parser's error quotes the file, which contains secrets.
        Some(text) => serde_saphyr::from_str(text)
            .ok()
            .filter(|there: &Value| there.is_object() && there["kind"] == "Config")
            .ok_or_else(|| refuse("something other than a kubeconfig"))?,
    };
    let ours = serde_saphyr::from_str(ours.expose_secret())
        .map_err(|_| refuse("entries that cannot be serialized"))?;
    let merged = merged(cluster, there.clone(), &ours).map_err(|what| refuse(&what))?;
    if merged == there {
        return Ok(false);
    }
    let text = serde_saphyr::to_string(&merged)
        .map(SecretString::from)
        .map_err(|_| refuse("data that cannot be serialized"))?;
    if before.is_none() {
        write(to, &text).map_err(file("write"))?;
        return Ok(true);
    }
    let _lock = Lock::take(to)?;
    // If another program wrote to the file in the meantime, its changes must not be lost.
    if files::read_text(to, Kind::Kubeconfig).ok() != before {
        return Err(refuse("different data than a moment ago: another program is writing to it"));
    }
    let copy = SecretString::from(before.unwrap_or_default());
    write(&beside(to, BACKUP), &copy).map_err(file("copy"))?;
    write(to, &text).map_err(file("write"))?;
    Ok(true)
}

/// The file with this cluster's entries.
fn merged(cluster: &Cluster, mut there: Value, ours: &Value) -> Result<Value, String> {
    let known = entry(&there, "clusters", &cluster.name);
    if let Some(known) = known.filter(|known| !owns(cluster, known)) {
        let server = known["cluster"]["server"].as_str().unwrap_or("nowhere");
        return Err(format!(
            "another cluster named `{}` (at {server}, not {})",
            cluster.name,
            endpoint(cluster)
        ));
    }
    let owned = known.is_some();
    for list in LISTS {
        for new in ours[list].as_array().into_iter().flatten() {
            let name = new["name"].as_str().unwrap_or_default();
            let place = there[list]
                .as_array()
                .and_then(|all| all.iter().position(|one| one["name"] == name));
            match place {
                Some(place) if owned => there[list][place] = new.clone(),
                Some(_) => {
                    return Err(format!(
                        "an entry `{name}` in its `{list}` that k8sha did not create"
                    ));
                }
                None => match &mut there[list] {
                    Value::Array(all) => all.push(new.clone()),
                    // kubectl writes `null` for an empty list.
                    absent @ Value::Null => *absent = json!([new]),
                    _ => return Err(format!("`{list}` that are no list")),
                },
            }
        }
    }
    if there["current-context"].as_str().unwrap_or_default().is_empty() {
        there["current-context"] = ours["current-context"].clone();
    }
    Ok(there)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(ending);
    path.with_file_name(name)
}

/// kubectl's own lock on a kubeconfig (client-go `tools/clientcmd/config.go`), released when
/// dropped.
struct Lock(PathBuf);

impl Lock {
    fn take(path: &Path) -> Result<Self, Error> {
        let lock = beside(path, "lock");
        match OpenOptions::new().write(true).create_new(true).open(&lock) {
            Ok(_) => Ok(Self(lock)),
            Err(source) => Err(Error::File { doing: "lock", path: lock, source: source.into() }),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::cluster::fixture::k8s1;

    const OURS: &str = "apiVersion: v1\nkind: Config\nclusters:\n- name: k8s1-cluster\n  cluster:\n    \
        certificate-authority-data: Q0E=\n    server: https://k8s1api.kloud.lan:6443\ncontexts:\n- \
        name: k8s1-cluster\n  context:\n    cluster: k8s1-cluster\n    user: k8s1-cluster-admin\n\
        current-context: k8s1-cluster\nusers:\n- name: k8s1-cluster-admin\n  user:\n    \
        client-certificate-data: Q0VSVA==\n    client-key-data: S0VZ\n";
    /// With unknown fields, and words that are not strings without their quotes.
    const THEIRS: &str = "apiVersion: v1\nkind: Config\npreferences:\n  colors: true\nclusters:\n- \
        name: prod\n  cluster:\n    server: https://10.0.0.1:6443\n    tls-server-name: \"0123\"\n    \
        extensions:\n    - name: \"yes\"\n      extension: {last-update: \"2026-01-01\", n: 7}\n\
        contexts:\n- name: prod\n  context: {cluster: prod, user: me, namespace: \"1e3\"}\n\
        current-context: prod\nusers:\n- name: me\n  user:\n    exec:\n      apiVersion: \
        client.authentication.k8s.io/v1\n      command: aws\n      args: [eks, get-token]\n      \
        env: null\n";

    fn parsed(text: &str) -> Value {
        serde_saphyr::from_str(text).unwrap()
    }

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn what_others_have_there_stays_as_it_is() {
        let (_folder, path) = file(THEIRS);
        assert!(into(&k8s1(), &OURS.into(), &path).unwrap());
        let mut now = parsed(&fs::read_to_string(&path).unwrap());
        for list in LISTS {
            let all = now[list].as_array_mut().unwrap();
            assert_eq!(all.len(), 2, "{list}");
            all.pop();
        }
        assert_eq!(now, parsed(THEIRS));
        assert_eq!(fs::read_to_string(path.with_file_name("config.k8sha-backup")).unwrap(), THEIRS);
        for name in ["config", "config.k8sha-backup"] {
            let mode = fs::metadata(path.with_file_name(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        assert!(!path.with_file_name("config.lock").exists());
        assert!(holds(&k8s1(), None, &fs::read_to_string(&path).unwrap()));
        assert!(!into(&k8s1(), &OURS.into(), &path).unwrap(), "nothing new the second time");
    }

    #[test]
    fn a_cluster_made_again_takes_the_place_of_its_former_self() {
        let (_folder, path) = file(THEIRS);
        into(&k8s1(), &OURS.into(), &path).unwrap();
        let again = OURS.replace("Q0E=", "TkVX").replace("S0VZ", "TkVX");
        assert!(into(&k8s1(), &again.as_str().into(), &path).unwrap());
        let now = parsed(&fs::read_to_string(&path).unwrap());
        assert_eq!(now["clusters"].as_array().unwrap().len(), 2);
        assert_eq!(now["clusters"][1]["cluster"]["certificate-authority-data"], "TkVX");
        assert_eq!(now["users"][1]["user"]["client-key-data"], "TkVX");
        assert_eq!(now["current-context"], "prod");
    }

    #[test]
    fn an_absent_or_empty_file_becomes_ours() {
        for before in [None, Some(""), Some("apiVersion: v1\nkind: Config\nclusters: null\n")] {
            let (_folder, path) = file(before.unwrap_or_default());
            if before.is_none() {
                fs::remove_file(&path).unwrap();
            }
            assert!(into(&k8s1(), &OURS.into(), &path).unwrap());
            assert_eq!(parsed(&fs::read_to_string(&path).unwrap()), parsed(OURS), "{before:?}");
        }
    }

    #[test]
    fn another_clusters_entry_of_our_name_is_left_alone() {
        let moved = OURS.replace("k8s1api.kloud.lan", "elsewhere.lan");
        let user = THEIRS.replace("name: me", "name: k8s1-cluster-admin");
        for (there, what) in [
            (moved.as_str(), "another cluster named `k8s1-cluster` (at https://elsewhere.lan:6443"),
            (
                user.as_str(),
                "an entry `k8s1-cluster-admin` in its `users` that k8sha did not create",
            ),
            ("just: text\n", "something other than a kubeconfig"),
            ("a: [", "something other than a kubeconfig"),
        ] {
            let (_folder, path) = file(there);
            let error = into(&k8s1(), &OURS.into(), &path).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), there);
            assert!(!path.with_file_name("config.k8sha-backup").exists());
        }
    }

    #[test]
    fn a_link_stays_a_link_and_a_lock_is_respected() {
        let (folder, path) = file(THEIRS);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        fs::write(path.with_file_name("config.lock"), "").unwrap();
        let error = into(&k8s1(), &OURS.into(), &link).unwrap_err().to_string();
        assert!(error.starts_with("cannot lock") && error.contains("config.lock"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), THEIRS);
        fs::remove_file(path.with_file_name("config.lock")).unwrap();
        assert!(into(&k8s1(), &OURS.into(), &link).unwrap());
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(holds(&k8s1(), None, &fs::read_to_string(&path).unwrap()));
    }

    #[test]
    fn a_file_that_grows_without_bound_when_it_is_read_is_left_as_it_is() {
        let mut bomb = "kind: Config\na0: &a0 [x]\n".to_owned();
        for level in 1..40 {
            let before = format!("*a{}", level - 1);
            bomb.push_str(&format!("a{level}: &a{level} [{}]\n", [before.as_str(); 10].join(", ")));
        }
        let deep = format!("kind: Config\nx: {}\n", "[".repeat(200_000));
        for text in [bomb, deep] {
            let (_folder, path) = file(&text);
            assert!(!super::super::is_there(&k8s1(), None, &path));
            assert!(into(&k8s1(), &OURS.into(), &path).is_err());
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
