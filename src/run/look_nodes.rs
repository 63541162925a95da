//! Taking stock of what runs on the VMs: read-only commands over SSH.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::context::{Context, instance_id};
use super::first_boot::FirstBoot;
use crate::cluster::{Node, NodeName};
use crate::kubeadm::{facts, ready};
use crate::plan::inventory::{Inventory, KubeNode, KubernetesState, NodeState, VmState};

/// How long a running node may take to let us in before it counts as not booted yet.
const REACH: Duration = Duration::from_secs(5);

/// Asks every running node of this making; what cannot be reached counts as not booted.
pub(super) async fn look(context: &Arc<Context>, inventory: &mut Inventory) {
    let mut asking = JoinSet::new();
    for node in &context.cluster.nodes {
        let ours = match inventory.vms.get(&node.name) {
            Some(VmState::Ours(vm)) => vm.running && vm.creation == context.creation,
            _ => false,
        };
        if ours {
            let (context, node) = (Arc::clone(context), node.clone());
            asking.spawn(async move { (node.name.clone(), ask(&context, &node).await) });
        }
    }
    let answers: BTreeMap<NodeName, Option<NodeState>> =
        asking.join_all().await.into_iter().collect();
    inventory.nodes =
        answers.into_iter().filter_map(|(name, state)| Some((name, state?))).collect();
    let first = &context.cluster.first_master().name;
    if inventory.nodes.get(first).is_some_and(|state| state.booted) {
        inventory.kubernetes = kubernetes(context).await;
    }
}

async fn ask(context: &Context, node: &Node) -> Option<NodeState> {
    let remote = context.remote(&node.name);
    let limit = context.tempo.scaled(REACH).max(Duration::from_secs(2));
    let seen = tokio::time::timeout(limit, FirstBoot::ask(remote)).await.ok()?.ok()?;
    let instance = instance_id(&context.cluster, node, &context.creation);
    Some(NodeState { booted: seen.is_over(node, &instance), kernel: seen.kernel })
}

/// What the first master says of its cluster; `None` where there is none yet.
async fn kubernetes(context: &Context) -> Option<KubernetesState> {
    let first = context.first();
    let found = facts::gather(first).await.ok()?;
    if !found.admin {
        return None;
    }
    let initialised = crate::kubeadm::init::is_done(first, &context.cluster).await.unwrap_or(false);
    let nodes = ready::nodes(first).await.unwrap_or_default();
    let nodes = nodes
        .into_iter()
        .map(|node| {
            (node.name, KubeNode { roles: node.roles.into_iter().collect(), ready: node.ready })
        })
        .collect();
    Some(KubernetesState { initialised, nodes })
}
