//! Stops a control plane before its data in an external etcd is removed.

use super::Error;
use super::error::Doing;
use crate::ssh::{Command, Remote};

/// Ends a master's API server for good: as long as one runs, it writes leases and events again into
/// the etcd that has just been emptied. The kubelet goes first, for it would start it again.
///
/// # Errors
/// Where the node cannot be asked.
pub async fn api_server(master: &Remote) -> Result<(), Error> {
    // Each may already be gone, which is not an error.
    let stop = Command::sudo("systemctl").args(["stop", "kubelet"]);
    master.run(&stop).await.doing("stop the kubelet")?;
    let end = Command::sudo("pkill").args(["-KILL", "-x", "kube-apiserver"]);
    master.run(&end).await.doing("stop the API server")?;
    Ok(())
}
