//! Checks per row: the address of a machine that is to be created, and the pool and documents of an
//! existing one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::context::{Context, SSH_PORT, made_from};
use super::look::{self, Scope};
use super::look_watch::Watch;
use crate::cluster::NodeName;
use crate::error::Failure;
use crate::files;
use crate::plan::inventory::{Inventory, VmState};
use crate::plan::{documents, spec};
use crate::proxmox::Topology;
use crate::proxmox::wire::VmResource;

/// How long a machine at an address may take to answer; an existing one does so in milliseconds.
const KNOCK: Duration = Duration::from_secs(1);

/// The rows whose VMs do not exist but whose addresses answer: another machine has the address,
/// possibly one of k8sha's whose mark was deleted.
pub(super) async fn taken(
    context: &Arc<Context>,
    scope: &Scope,
    inventory: &Inventory,
    watch: &Watch,
) -> BTreeMap<NodeName, String> {
    let mut knocking = JoinSet::new();
    for node in &context.cluster.nodes {
        let absent = matches!(inventory.vms.get(&node.name), Some(VmState::Absent) | None);
        if !absent || !scope.part.covers(&node.host) {
            continue;
        }
        let (context, node) = (Arc::clone(context), node.clone());
        knocking.spawn(async move {
            let to = SocketAddr::new(node.ip.into(), SSH_PORT);
            let limit = context.clock.patience(KNOCK, KNOCK / 4);
            context.dialer.tcp(to, limit).await.ok()?;
            Some((node.name.clone(), format!("a machine answers at {to}")))
        });
    }
    let knocked = knocking.join_all();
    let seen = watch.over("addresses", "the addresses of new machines", knocked).await;
    seen.into_iter().flatten().collect()
}

/// The pool of each row's VM, if the profile sets one. Proxmox VE shows a VM's pool to everyone who
/// may see the VM (pve-manager PVE/API2/Cluster.pm, `resources`).
pub(super) async fn pools(
    context: &Context,
    topology: &Topology,
    inventory: &Inventory,
    watch: &Watch,
) -> Result<BTreeMap<NodeName, Option<String>>, Failure> {
    let mut pools = BTreeMap::new();
    if context.cluster.proxmox.pool.is_none() {
        return Ok(pools);
    }
    for group in &topology.clusters {
        let ours = context.cluster.nodes.iter().filter_map(|node| {
            let vm = inventory.ours(&node.name)?;
            group.hosts.contains(&vm.host).then_some((&node.name, vm))
        });
        let ours: Vec<_> = ours.collect();
        let Some(asked) = group.hosts.first().filter(|_| !ours.is_empty()) else { continue };
        let client = context.client(asked)?;
        let listed = watch.over(asked.as_str(), "the pools of its VMs", client.cluster_vms()).await;
        let listed = listed.map_err(|error| look::proxmox("list the VMs", &error).on(asked))?;
        for (name, vm) in ours {
            let is_it = |seen: &&VmResource| seen.vmid == vm.vmid && seen.kind == "qemu";
            if let Some(seen) = listed.iter().find(is_it) {
                pools.insert(name.clone(), seen.pool.clone());
            }
        }
    }
    Ok(pools)
}

/// The changes in the documents of each machine since it was created, if it was created with this
/// state folder.
pub(super) fn changed_documents(
    context: &Context,
    inventory: &Inventory,
) -> BTreeMap<NodeName, documents::Changed> {
    let mut all = BTreeMap::new();
    for (name, now) in &context.documents {
        let Some(vm) = inventory.ours(name) else { continue };
        let made = vm.mark.machine.as_ref().map(|made| made.seed.as_str());
        let Some(hashes) = vm.mark.read.as_deref().or(made) else { continue };
        if hashes == spec::seed_hashes(&context.specs[name].seed_file) {
            continue;
        }
        let path = made_from(&context.made_from, name, hashes);
        if let Ok(then) = files::read_text(&path, files::Kind::State) {
            all.insert(name.clone(), documents::changed(&then, now));
        }
    }
    all
}
