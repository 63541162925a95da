//! `k8sha kubeconfig` and `k8sha kubectl`: access to the cluster's API.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde::Serialize;

use super::args::Common;
use super::session::Session;
use crate::error::{Exit, Failure};
use crate::exits::failure;
use crate::kubeadm::kubeconfig;

/// The location of the kubeconfig.
#[derive(Serialize)]
struct Place {
    cluster: String,
    kubeconfig: PathBuf,
    /// The context of the cluster.
    context: String,
    /// Whether merging changed the other file.
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<bool>,
}

/// Prints the path of the kubeconfig, or merges it into another file and prints the path of that file.
pub(super) async fn show(
    common: &Common,
    started: Instant,
    merge: Option<&Path>,
) -> Result<Exit, Failure> {
    let session = Session::open(common, started, "kubeconfig").await?;
    let own = find(&session, "find the kubeconfig")?;
    let cluster = &session.cluster;
    let (path, changed) = match merge {
        None => (own, None),
        Some(to) => {
            let changed = kubeconfig::merge(cluster, &own, to)
                .map_err(|error| failure("merge the kubeconfig", &error))?;
            (to.to_owned(), Some(changed))
        }
    };
    let path = std::path::absolute(&path).unwrap_or(path);
    if common.json {
        let name = cluster.name.clone();
        let context = name.clone();
        super::print_json(&Place { cluster: name, kubeconfig: path, context, changed })?;
    } else {
        super::print(&path.display().to_string())?;
    }
    Ok(Exit::Ok)
}

/// Replaces this process with the `kubectl` in the PATH, using the cluster's kubeconfig.
pub(super) async fn kubectl(
    common: &Common,
    started: Instant,
    args: &[String],
) -> Result<Exit, Failure> {
    let doing = "run kubectl";
    let session = Session::open(common, started, "kubectl").await?;
    if session.world.simulated() {
        let said =
            "the cluster is simulated: it has no real API server that kubectl could connect to";
        let node = &session.cluster.first_master().name;
        return Err(Failure::new(Exit::Usage, doing, said).hint(format!(
            "its nodes know some kubectl commands: `k8sha ssh{} {node} -- sudo kubectl \
             --kubeconfig /etc/kubernetes/admin.conf get nodes`",
            session.flags()
        )));
    }
    let config = find(&session, doing)?;
    // Only a failed call returns.
    let error = Command::new("kubectl").args(args).env("KUBECONFIG", &config).exec();
    if error.kind() == std::io::ErrorKind::NotFound {
        return Err(Failure::new(Exit::NotAsAsked, doing, "there is no `kubectl` in the PATH")
            .hint(format!(
                "install it (https://kubernetes.io/docs/tasks/tools/); other clients can use \
                 `export KUBECONFIG=\"$(k8sha kubeconfig{})\"`",
                session.flags()
            )));
    }
    Err(Failure::caused(Exit::Local, doing, error))
}

/// The kubeconfig in the state folder, if it is this cluster's.
fn find(session: &Session, doing: &str) -> Result<PathBuf, Failure> {
    let path = session.state.kubeconfig();
    if kubeconfig::is_there(&session.cluster, None, &path) {
        return Ok(path);
    }
    let said = match path.exists() {
        false => "there is no kubeconfig of this cluster yet",
        true => "the file is not a complete kubeconfig of this cluster",
    };
    let flags = session.flags();
    Err(Failure::new(Exit::NotAsAsked, doing, said).on(path.display()).hint(format!(
        "`k8sha up{flags}` creates the cluster and writes the file; if the cluster already runs, \
         `k8sha bootstrap{flags}` downloads it"
    )))
}
