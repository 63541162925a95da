//! Taking stock of what runs on the VMs: read-only commands over SSH.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::context::{Context, instance_id};
use super::first_boot::FirstBoot;
use crate::cluster::{Node, NodeName, Role};
use crate::kubeadm::{balance, etcd, facts, ready};
use crate::plan::inventory::{
    EtcdMember, Inventory, KubeNode, KubernetesState, NodeState, VmState,
};

/// How long a running node may take to let us in before it counts as not booted yet.
const REACH: Duration = Duration::from_secs(15);

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
    look_balancers(context, inventory).await;
    look_etcd(context, inventory).await;
    let first = &context.cluster.first_master().name;
    if inventory.nodes.get(first).is_some_and(|state| state.booted) {
        inventory.kubernetes = kubernetes(context).await;
    }
}

async fn ask(context: &Context, node: &Node) -> Option<NodeState> {
    let remote = context.remote(&node.name);
    let seen = tokio::time::timeout(REACH, FirstBoot::ask(remote)).await.ok()?.ok()?;
    let instance = instance_id(&context.cluster, node, &context.creation);
    let failed = seen.status == "error" && seen.instance == instance;
    Some(NodeState { booted: seen.is_over(node, &instance), failed, kernel: seen.kernel })
}

/// Asks the load balancers that have booted for the files that are kept up to date.
async fn look_balancers(context: &Context, inventory: &mut Inventory) {
    let mut asking = JoinSet::new();
    for (name, files) in context.kept.iter().filter(|(_, files)| !files.is_empty()) {
        if inventory.nodes.get(name).is_some_and(|state| state.booted) {
            let (name, files) = (name.clone(), files.clone());
            let remote = context.remote(&name).clone();
            asking.spawn(async move {
                let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
                let asked = balance::look(&remote, &paths);
                Some((name, tokio::time::timeout(REACH, asked).await.ok()?.ok()?))
            });
        }
    }
    inventory.balancers = asking.join_all().await.into_iter().flatten().collect();
}

/// Asks the members of our etcd, and the masters for the certificate with which they call it. What
/// cannot be asked counts as not there yet.
async fn look_etcd(context: &Arc<Context>, inventory: &mut Inventory) {
    let booted = |name: &NodeName| inventory.nodes.get(name).is_some_and(|state| state.booted);
    let mut asking = JoinSet::new();
    for machine in context.etcd_machines.iter().filter(|machine| booted(&machine.name)).cloned() {
        asking.spawn(async move {
            let seen = tokio::time::timeout(REACH, machine.look()).await.ok()?.ok()?;
            let member = EtcdMember { planted: seen.planted, healthy: seen.healthy };
            Some((machine.name.clone(), member))
        });
    }
    let mut outdated = JoinSet::new();
    let client = context.etcd_client.as_ref().filter(|_| context.cluster.etcd.is_ours());
    let masters = context.cluster.with_role(Role::Master).filter(|node| booted(&node.name));
    for (node, client) in masters.filter_map(|node| Some((node.clone(), client?.clone()))) {
        let remote = context.remote(&node.name).clone();
        outdated.spawn(async move {
            let asked = etcd::is_outdated(&remote, &client);
            let outdated = tokio::time::timeout(REACH, asked).await.ok()?.ok()?;
            outdated.then_some(node.name)
        });
    }
    inventory.etcd = asking.join_all().await.into_iter().flatten().collect();
    inventory.etcd_outdated = outdated.join_all().await.into_iter().flatten().collect();
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
