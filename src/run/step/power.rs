//! A machine that is switched off while a step waits for it.

use std::future::{Future, pending};
use std::pin::Pin;
use std::time::Duration;

use crate::cluster::NodeName;
use crate::error::{Exit, Failure};
use crate::run::context::Context;

/// How often Proxmox VE is asked whether the machine still runs.
const LOOK: Duration = Duration::from_secs(5);

/// Does what waits for a node, and gives up when its VM does not run any more: the patience that a step
/// has with a node is for networks, which come back by themselves.
///
/// The work is boxed: within another future it would be too large for a thread's stack.
///
/// # Errors
/// Those of the work, or that the VM was switched off.
pub(super) async fn while_on<T>(
    context: &Context,
    name: &NodeName,
    work: Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + '_>>,
) -> Result<T, Failure> {
    tokio::select! {
        result = work => result,
        failure = switched_off(context, name) => Err(failure),
    }
}

async fn switched_off(context: &Context, name: &NodeName) -> Failure {
    let node = context.node(name);
    let Ok(client) = context.client(&node.host) else { return pending().await };
    loop {
        context.tempo.pause(LOOK).await;
        // A host that does not answer says nothing about the node.
        if client.vm_status(node.vmid).await.is_ok_and(|status| !status.is_running()) {
            let said = format!("VM {} on {} was switched off meanwhile", node.vmid, node.host);
            return Failure::new(Exit::Node, "wait for kubeadm", said)
                .on(name)
                .hint("`k8sha up` starts it and goes on where this run ended".to_owned());
        }
    }
}
