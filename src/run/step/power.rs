//! Machines that are switched off while a step waits for them.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::cluster::Node;
use crate::error::{Exit, Failure};
use crate::run::context::Context;

/// How often Proxmox VE is asked whether the machines still run.
const LOOK: Duration = Duration::from_secs(5);

/// Does what waits for nodes, and gives up when the VM of one does not run any more: the patience that a
/// step has with a node is for networks, which come back by themselves.
///
/// The work is boxed: within another future it would be too large for a thread's stack.
///
/// # Errors
/// Those of the work, or that a VM was switched off.
pub(super) async fn while_on<T>(
    context: &Context,
    nodes: &[&Node],
    work: Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + '_>>,
) -> Result<T, Failure> {
    let failure = tokio::select! {
        result = work => match result {
            Ok(done) => return Ok(done),
            Err(failure) => failure,
        },
        failure = switched_off(context, nodes) => return Err(failure),
    };
    // Whatever a node does not do any more, this is why.
    all_on(context, nodes).await?;
    // And another one may be why this one could not: an API without its etcd answers nobody.
    let all: Vec<&Node> = context.cluster.nodes.iter().collect();
    Err(match all_on(context, &all).await {
        Ok(()) => failure,
        Err(off) => {
            Failure { said: format!("{}\n{}", failure.said, off.said), hint: off.hint, ..failure }
        }
    })
}

async fn switched_off(context: &Context, nodes: &[&Node]) -> Failure {
    loop {
        context.tempo.pause(LOOK).await;
        if let Err(failure) = all_on(context, nodes).await {
            return failure;
        }
    }
}

/// Sees that the VMs run.
///
/// # Errors
/// Which ones do not. A host that does not answer says nothing about its VMs.
pub(super) async fn all_on(context: &Context, nodes: &[&Node]) -> Result<(), Failure> {
    let mut off = Vec::new();
    for node in nodes {
        let Ok(client) = context.client(&node.host) else { continue };
        if client.vm_status(node.vmid).await.is_ok_and(|status| !status.is_running()) {
            off.push(node);
        }
    }
    if off.is_empty() {
        return Ok(());
    }
    let said = |node: &&&Node| format!("VM {} on {} was switched off", node.vmid, node.host);
    let names: Vec<&str> = off.iter().map(|node| node.name.as_str()).collect();
    let said: Vec<String> = off.iter().map(said).collect();
    Err(Failure::new(Exit::Node, "see that the machines run", said.join("\n"))
        .on(names.join(", "))
        .hint("`k8sha up` starts what is off and goes on where this run ended".to_owned()))
}
