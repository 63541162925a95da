//! Removes a lost machine from the cluster, so that its replacement can join: its member of a
//! stacked etcd first, then its Node object.
//!
//! Order and reasons: a member that stays listed counts for the quorum and blocks other masters; a
//! Node object that remains keeps the name (`cmd/kubeadm/app/phases/kubelet` and
//! `cmd/kubeadm/app/cmd/phases/join/kubelet.go` of kubernetes/kubernetes).

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Error, etcd, kubectl, ready};
use crate::clock::{Clock, Wait};
use crate::report::event;
use crate::ssh::Remote;

/// How long a Node may stay Ready whose machine is lost: kube-controller-manager's
/// `--node-monitor-grace-period`, 40 s or 50 s by version, and a little more.
const GRACE: Duration = Duration::from_secs(90);
/// The pause between two checks.
const LOOK: Duration = Duration::from_secs(5);

/// A lost machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// The name of its Node object.
    pub name: String,
    /// Its `/etc/machine-id` in that object; empty if it has no Node object.
    pub machine_id: String,
    /// The addresses at which its member of a stacked etcd may be listed.
    pub members: Vec<Ipv4Addr>,
}

/// Removes what the machine has left in the cluster, through a healthy master. The caller has
/// proved that the machine is lost.
///
/// # Errors
/// [`Error::Etcd`] if its member still answers or the quorum would be lost; [`Error::OtherMachine`]
/// if another machine has registered under its name since.
pub async fn run(via: &Remote, gone: &Gone, stacked: bool, clock: Clock) -> Result<bool, Error> {
    let mut changed = false;
    if stacked && !gone.members.is_empty() {
        changed |= etcd::stacked::remove(via, &gone.members, clock).await?;
    }
    let nodes = ready::nodes(via).await?;
    if let Some(node) = nodes.iter().find(|node| node.name == gone.name) {
        if node.machine_id != gone.machine_id {
            return Err(Error::OtherMachine {
                node: via.node().to_owned(),
                name: gone.name.clone(),
                found: node.machine_id.clone(),
                wanted: gone.machine_id.clone(),
            });
        }
        silent(via, gone, clock).await?;
        event::progress(format!("delete the Node object `{}`", gone.name));
        kubectl::text(via, &["delete", "node", &gone.name]).await?;
        changed = true;
    }
    Ok(changed)
}

/// Waits until the API has received nothing from the machine's kubelet for its grace period: a
/// machine whose kubelet reports is not lost, whatever Proxmox VE shows.
pub(super) async fn silent(via: &Remote, gone: &Gone, clock: Clock) -> Result<(), Error> {
    let mut wait = Wait::new(clock, GRACE, LOOK);
    loop {
        let nodes = ready::nodes(via).await?;
        let ready = nodes.iter().any(|node| node.name == gone.name && node.ready);
        if !ready {
            return Ok(());
        }
        event::progress(format!(
            "waiting until `{}` is no longer Ready: its VM is gone",
            gone.name
        ));
        wait.not_yet(()).await.map_err(|_| Error::StillReports {
            node: via.node().to_owned(),
            name: gone.name.clone(),
        })?;
    }
}
