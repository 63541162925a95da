//! Steps that track the cluster's identity, and machines that were lost or replaced.

use std::collections::BTreeSet;

use super::bootstrap::fault;
use crate::cluster::{Identity, NodeName};
use crate::error::{Exit, Failure};
use crate::files::write_private;
use crate::kubeadm::cluster_mark::{self, ClusterMark};
use crate::kubeadm::forget::{self, Gone};
use crate::kubeadm::kubectl::Api;
use crate::kubeadm::{facts, init, reset, running};
use crate::mark::Marked;
use crate::plan::action;
use crate::run::context::Context;
use crate::run::look::proxmox;

/// Records the cluster's identity: in the state folder first, then inside the cluster.
pub(super) async fn mark(context: &Context, it: &action::Mark) -> Result<bool, Failure> {
    let action::Mark { via, cni } = it;
    let remote = context.remote(via);
    let doing = "record which cluster this is";
    let said = |error| fault(doing, &error).on(via);
    let facts = facts::gather(remote).await.map_err(said)?;
    let running = running::ask(&Api::through_vip(remote), &context.cluster).await.map_err(said)?;
    let found = Identity {
        creation: context.creation.clone(),
        ca: facts.ca.unwrap_or_default(),
        uid: running.uid,
    };
    let mut changed = false;
    match &context.known {
        Some(known) if *known != found => {
            let text = format!("it is {found:?}, but the state folder has {known:?}");
            return Err(Failure::new(Exit::NotAsAsked, doing, text).on(via));
        }
        Some(_) => {}
        None => {
            let text = serde_json::to_string_pretty(&found)
                .map_err(|error| Failure::new(Exit::Local, doing, error))?;
            write_private(&context.identity, text.as_bytes())
                .map_err(|error| Failure::new(Exit::Local, doing, error))?;
            changed = true;
        }
    }
    let noted = running.mark.as_ref().and_then(|mark| mark.cni.clone());
    let mark = ClusterMark {
        cluster: context.cluster.name.clone(),
        creation: context.creation.clone(),
        cni: cni.clone().or(noted),
    };
    changed |= cluster_mark::write(remote, &mark).await.map_err(said)?;
    changed |= init::record(remote).await.map_err(said)?;
    Ok(changed)
}

/// Removes a lost machine from the cluster.
pub(super) async fn forget(context: &Context, it: &action::Forget) -> Result<bool, Failure> {
    let action::Forget { node, via, name, machine_id, members, .. } = it;
    let gone =
        &Gone { name: name.clone(), machine_id: machine_id.clone(), members: members.clone() };
    let doing = "remove the lost machine from the cluster";
    prove_gone(context, node, gone, doing).await?;
    let stacked = context.cluster.etcd.endpoints().is_none();
    forget::run(context.remote(via), gone, stacked, context.clock)
        .await
        .map_err(|error| fault(doing, &error).on(node))
}

/// Checks again that no VM of this creation with the node's mark runs except the row's own, and
/// that the row's own is not the machine that is to be removed.
async fn prove_gone(
    context: &Context,
    name: &NodeName,
    gone: &Gone,
    doing: &str,
) -> Result<(), Failure> {
    let node = context.node(name);
    let mut alive = BTreeSet::new();
    for client in context.fleet.clients() {
        let listed = client.vms().await.map_err(|error| proxmox(doing, &error).on(name))?;
        for vm in listed.iter().filter(|vm| vm.tags.contains(crate::mark::TAG)) {
            let row = vm.vmid == node.vmid && *client.host() == node.host;
            let config = client.find_vm(vm.vmid).await;
            let config = config.map_err(|error| proxmox(doing, &error).on(name))?;
            let mark = config.and_then(|config| config.mark());
            let same = mark.is_some_and(|mark| {
                mark.cluster == context.cluster.name && mark.node.as_ref() == Some(name)
            });
            if same && !row && vm.status == "running" {
                alive.insert(format!("VM {} on {}", vm.vmid, client.host()));
            }
        }
    }
    if !alive.is_empty() {
        let alive: Vec<String> = alive.into_iter().collect();
        let text = format!("{} is running with its mark; nothing was removed", alive.join(", "));
        return Err(Failure::new(Exit::NotAsAsked, doing, text).on(name));
    }
    if gone.machine_id.is_empty() {
        return Ok(());
    }
    // The machine that took its place may be on already; one that is still being created is not.
    match facts::gather(context.remote(name)).await {
        Ok(facts) if facts.machine_id == gone.machine_id && !facts.is_fresh() => {
            let text =
                format!("the machine {} is still running, and is not fresh", gone.machine_id);
            Err(Failure::new(Exit::NotAsAsked, doing, text).on(name))
        }
        _ => Ok(()),
    }
}

/// Undoes the node's own unfinished join.
pub(super) async fn reset(context: &Context, it: &action::Reset) -> Result<bool, Failure> {
    let (name, via) = (&it.node, &it.via);
    reset::run(context.remote(name), context.remote(via), context.node(name))
        .await
        .map_err(|error| fault("undo the unfinished join", &error).on(name))
}
