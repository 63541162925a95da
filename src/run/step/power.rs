//! Detects machines that are powered off while a step waits for them.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::cluster::Node;
use crate::error::{Exit, Failure};
use crate::limits::excerpt;
use crate::plan::halt;
use crate::run::context::Context;

/// How often Proxmox VE is queried for whether the machines still run: one list of a host serves
/// every step that waits for machines there.
const LOOK: Duration = Duration::from_secs(5);
/// After this many checks every machine is queried individually: the list does not show that QEMU
/// has halted one.
const CLOSER: u32 = 6;

/// Runs work that waits for nodes, and gives up when the VM of one no longer runs: a step's
/// patience with a node is meant for networks, which recover by themselves.
///
/// The work is boxed: inside another future it would be too large for a thread's stack.
///
/// # Errors
/// Those of the work, or that a VM was powered off.
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
    // If the VM does not run, this is the cause of the node's failure.
    all_on(context, nodes).await?;
    // Another VM may be the cause: an API without its etcd does not answer.
    let all: Vec<&Node> = context.cluster.nodes.iter().collect();
    Err(match all_on(context, &all).await {
        Ok(()) => failure,
        Err(off) => {
            Failure { said: format!("{}\n{}", failure.said, off.said), hint: off.hint, ..failure }
        }
    })
}

async fn switched_off(context: &Context, nodes: &[&Node]) -> Failure {
    let mut looks = 0;
    loop {
        context.clock.pause(LOOK).await;
        looks += 1;
        let close = looks % CLOSER == 0;
        let mut doubtful = Vec::new();
        for node in nodes {
            if close || !is_listed_on(context, node).await {
                doubtful.push(*node);
            }
        }
        if let Err(failure) = all_on(context, &doubtful).await {
            return failure;
        }
    }
}

/// Whether its host lists a VM as running.
async fn is_listed_on(context: &Context, node: &Node) -> bool {
    let Ok(client) = context.client(&node.host) else { return false };
    let listed = client.watched_vms(context.clock.scaled(LOOK)).await.unwrap_or_default();
    listed.iter().any(|vm| vm.vmid == node.vmid && vm.status == "running")
}

/// Checks that the VMs run.
///
/// # Errors
/// The VMs that do not run. A host that does not answer proves nothing about its VMs.
pub(super) async fn all_on(context: &Context, nodes: &[&Node]) -> Result<(), Failure> {
    let (mut names, mut said, mut hints) = (Vec::new(), Vec::new(), Vec::new());
    for node in nodes {
        let Ok(client) = context.client(&node.host) else { continue };
        let Ok(status) = client.vm_status(node.vmid).await else { continue };
        let (vmid, host) = (node.vmid, &node.host);
        if !status.is_running() {
            said.push(format!("VM {vmid} on {host} was powered off"));
        } else if let Some(state) = status.halted() {
            let state = excerpt(state, 40);
            said.push(format!("VM {vmid} on {host} no longer runs: QEMU reports `{state}`"));
            hints.push(halt::fix(vmid, host, &state));
        } else {
            continue;
        }
        names.push(node.name.as_str());
    }
    if said.is_empty() {
        return Ok(());
    }
    hints.push("`k8sha up` starts VMs that are off and resumes where this run stopped".to_owned());
    Err(Failure::new(Exit::Node, "check that the machines run", said.join("\n"))
        .on(names.join(", "))
        .hint(hints.join("\n")))
}
