//! Stops a control plane before its data in an external etcd is removed.

use super::Error;
use super::error::Doing;
use crate::ssh::{Command, Remote};

/// Stops a master's API server permanently: as long as one runs, it writes leases and events into
/// the etcd that has just been emptied. The kubelet is stopped first, because it would restart the
/// API server.
///
/// # Errors
/// If the node cannot be queried.
pub async fn api_server(master: &Remote) -> Result<(), Error> {
    // Each may already be stopped, which is not an error.
    let stop = Command::sudo("systemctl").args(["stop", "kubelet"]);
    master.run(&stop).await.doing("stop the kubelet")?;
    let end = Command::sudo("pkill").args(["-KILL", "-x", "kube-apiserver"]);
    master.run(&end).await.doing("stop the API server")?;
    Ok(())
}
