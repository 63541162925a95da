//! Runs `kubeadm reset` on a machine whose own join did not finish. It is destructive, so k8sha
//! checks again before, and refuses if the machine may serve a cluster.

use std::time::Duration;

use super::error::Doing;
use super::unit::{self, State, Unit};
use super::{Error, facts, path, ready};
use crate::cluster::{Node, Role};
use crate::report::event;
use crate::ssh::{Command, Remote};

/// How long a reset may take.
const LIMIT: Duration = Duration::from_secs(5 * 60);

/// Removes an unfinished join from a machine.
///
/// # Errors
/// [`Error::NotLitter`] if no unfinished k8sha join is recorded there, or the kubelet serves the
/// cluster under any name: then nothing is touched.
pub async fn run(remote: &Remote, via: &Remote, node: &Node) -> Result<bool, Error> {
    let facts = facts::gather(remote).await?;
    if facts.is_fresh() {
        return Ok(false);
    }
    let refuse = |why: &str| Error::NotLitter { node: remote.node().to_owned(), why: why.into() };
    if facts.init_config || facts.init != State::Absent {
        return Err(refuse("`kubeadm init` was run there"));
    }
    match facts.join {
        State::Running => return Err(refuse("its `kubeadm join` is still running")),
        State::Done => return Err(refuse("its `kubeadm join` succeeded")),
        State::Absent if !facts.join_config => {
            return Err(refuse("no unfinished `kubeadm join` is on record there"));
        }
        State::Absent | State::Failed { .. } => {}
    }
    let nodes = ready::nodes(via).await?;
    if let Some(own) = nodes.iter().find(|seen| seen.machine_id == facts.machine_id)
        && serves(own, node, facts.apiserver)
    {
        return Err(refuse(&format!("its kubelet serves the cluster as the node `{}`", own.name)));
    }
    event::progress("an earlier join did not finish: running kubeadm reset");
    unit::forget(remote, Unit::Join).await?;
    let command = Command::sudo("kubeadm")
        .args(["reset", "-f", "--cri-socket", "unix:///run/containerd/containerd.sock"])
        .limit(LIMIT);
    remote.run_ok(&command).await.doing("undo an unfinished join")?;
    super::files::remove(remote, path::JOIN).await?;
    Ok(true)
}

/// Whether the kubelet that registered this Node serves it. One that registered in the middle of a
/// master's join, whose control plane was never completed, does not.
fn serves(own: &ready::Registered, node: &Node, apiserver: bool) -> bool {
    let half_a_master = node.role == Role::Master
        && own.name == node.fqdn
        && !own.is(Role::Worker)
        && !(apiserver && own.is(Role::Master));
    own.ready || !half_a_master
}
