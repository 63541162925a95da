//! Collects the state of the running VMs: read-only commands over SSH.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::context::{Context, instance_id};
use super::first_boot::FirstBoot;
use super::look_watch::Watch;
use crate::cluster::{Node, NodeName, Role};
use crate::kubeadm::{balance, etcd};
use crate::plan::inventory::{EtcdMember, Inventory, NodeState, Silent};
use crate::ssh::Remote;

/// How long a login to a running node may take before the node counts as not booted yet.
pub(super) const REACH: Duration = Duration::from_secs(15);

/// Queries every running node of this creation; a node that cannot be reached counts as not booted.
pub(super) async fn look(context: &Arc<Context>, inventory: &mut Inventory, watch: &Watch) {
    let mut asking = JoinSet::new();
    for node in &context.cluster.nodes {
        let Some(vm) = inventory.ours(&node.name) else { continue };
        if !vm.awake() || vm.mark.creation != context.creation {
            continue;
        }
        if let Some(remote) = context.remote_to(&node.name, vm) {
            let (context, node, watch) = (Arc::clone(context), node.clone(), watch.clone());
            asking.spawn(async move {
                let asked = ask(&context, &node, &remote);
                let state = watch.over(node.name.as_str(), "its answers by SSH", asked).await;
                (node.name.clone(), state)
            });
        }
    }
    for (name, state) in asking.join_all().await {
        match state {
            Ok(state) => drop(inventory.nodes.insert(name, state)),
            Err(silent) => drop(inventory.silent.insert(name, silent)),
        }
    }
    watch.over("load balancers", "their files", look_balancers(context, inventory)).await;
    watch.over("etcd", "its members", look_etcd(context, inventory)).await;
}

async fn ask(context: &Context, node: &Node, remote: &Remote) -> Result<NodeState, Silent> {
    let seen = match tokio::time::timeout(REACH, FirstBoot::ask(remote)).await {
        Ok(Ok(seen)) => seen,
        Ok(Err(error)) => {
            return Err(Silent { said: error.to_string(), hint: error.hint() });
        }
        Err(_) => {
            let said = format!("no answer within {} s", REACH.as_secs());
            return Err(Silent { said, hint: None });
        }
    };
    let instance = instance_id(&context.cluster, node, &context.creation);
    let failed = seen.status == "error" && seen.instance == instance;
    Ok(NodeState { booted: seen.is_over(node, &instance), failed, kernel: seen.kernel })
}

/// Reads the files that are kept up to date from the load balancers that have booted.
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

/// Queries the members of k8sha's etcd, and reads the masters' client certificates for it. What
/// cannot be queried counts as not there yet.
async fn look_etcd(context: &Arc<Context>, inventory: &mut Inventory) {
    let booted = |name: &NodeName| inventory.nodes.get(name).is_some_and(|state| state.booted);
    let mut asking = JoinSet::new();
    for machine in context.etcd_machines.iter().filter(|machine| booted(&machine.name)).cloned() {
        asking.spawn(async move {
            let seen = tokio::time::timeout(REACH, machine.look()).await.ok()?.ok()?;
            let member =
                EtcdMember { planted: seen.planted, foreign: seen.foreign, healthy: seen.healthy };
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
