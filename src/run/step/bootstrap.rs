//! Steps of the Kubernetes stage: each hands the phase what it needs and says what failed.

use std::time::Duration;

use super::power::{all_on, while_on};
use crate::cluster::{Cni, Node, NodeName, Role};
use crate::error::{Exit, Failure};
use crate::files::write_private;
use crate::kubeadm::etcd::{self, Keys, Owner};
use crate::kubeadm::{self, Error, cni, init, join, kubeconfig, label, ready, silence, vip};
use crate::mark::{Marked, TAG};
use crate::run::context::{Context, Options};
use crate::run::look::proxmox;

/// How long the API may take to answer through the VIP.
const API_PATIENCE: Duration = Duration::from_secs(120);
/// How long nodes may take to register, or to become Ready where a CNI was asked for.
const NODES_PATIENCE: Duration = Duration::from_secs(600);

pub(super) async fn vip(context: &Context) -> Result<bool, Failure> {
    vip::check(&context.balancers(), &context.cluster, context.clock)
        .await
        .map(|_| false)
        .map_err(|error| fault("see one load balancer hold the VIP", &error))
}

pub(super) async fn etcd(
    context: &Context,
    node: &NodeName,
    resumed: bool,
) -> Result<bool, Failure> {
    // Before the first key: a run that is killed in between must know that there may be one.
    write_private(&context.etcd_claim, context.creation.as_bytes())
        .map_err(|error| Failure::new(Exit::Local, "note that etcd is used", error))?;
    let Some(client) = &context.etcd_client else { return Ok(false) };
    let what = if context.cluster.etcd.is_ours() { "use etcd" } else { "use the external etcd" };
    let keys = match (&context.options.wipe_etcd, resumed) {
        // What an unfinished init of ours has written belongs to the certificates that it made.
        (_, true) => Keys::Resumed,
        (Some(of), false) => Keys::Wiped { of: of.clone() },
        (None, false) => Keys::Refused,
    };
    if let Keys::Wiped { of: Some(of) } = &keys
        && *of != context.cluster.name
    {
        gone(context, of).await?;
    }
    etcd::prepare(context.remote(node), &context.cluster, client, &owner(context), keys)
        .await
        .map_err(|error| fault(what, &error))
}

pub(super) async fn init(context: &Context, name: &NodeName) -> Result<bool, Failure> {
    let (remote, node) = (context.remote(name), context.node(name));
    let work = Box::pin(async {
        let changed = init::run(remote, node, &context.cluster, context.clock)
            .await
            .map_err(|error| fault("initialise the cluster", &error).on(name))?;
        // At once: from here on no other control plane may be made.
        super::lifecycle::mark(context, name, None).await?;
        Ok(changed)
    });
    while_on(context, &[node], work).await
}

pub(super) async fn keys(context: &Context, via: &NodeName) -> Result<bool, Failure> {
    context
        .credentials
        .prepare(context.remote(via), &context.cluster)
        .await
        .map(|()| false)
        .map_err(|error| fault("renew token and certificate key", &error))
}

pub(super) async fn join(
    context: &Context,
    name: &NodeName,
    via: &NodeName,
) -> Result<bool, Failure> {
    let (remote, node, via) = (context.remote(name), context.node(name), context.remote(via));
    let work = Box::pin(async {
        join::run(remote, via, node, &context.cluster, &context.credentials, context.clock)
            .await
            .map_err(|error| fault("join the cluster", &error).on(name))
    });
    while_on(context, &[node], work).await
}

pub(super) async fn label(
    context: &Context,
    name: &NodeName,
    via: &NodeName,
) -> Result<bool, Failure> {
    label::worker(context.remote(via), context.node(name))
        .await
        .map_err(|error| fault("label the worker", &error).on(name))
}

pub(super) async fn kubeconfig(context: &Context, via: &NodeName) -> Result<bool, Failure> {
    let Options { kubeconfig: to, merge, .. } = &context.options;
    kubeconfig::fetch(context.remote(via), &context.cluster, to, *merge)
        .await
        .map_err(|error| fault("fetch the kubeconfig", &error))
}

pub(super) async fn cni(context: &Context, via: &NodeName) -> Result<bool, Failure> {
    let work = Box::pin(async {
        cni::install(context.remote(via), &context.cluster, context.clock)
            .await
            .map_err(|error| fault("install the pod network", &error))
    });
    while_on(context, &kubernetes(context), work).await
}

/// The rows that Kubernetes runs on.
fn kubernetes(context: &Context) -> Vec<&Node> {
    context.cluster.nodes.iter().filter(|node| node.role.is_kubernetes()).collect()
}

/// The end: the API answers by its name through the VIP, every node of the table is there, and every
/// machine runs.
pub(super) async fn verify(context: &Context, via: &NodeName) -> Result<bool, Failure> {
    let doing = "see the cluster as asked";
    let (via, cluster, clock) = (context.remote(via), &context.cluster, context.clock);
    ready::through_vip(via, cluster, clock, API_PATIENCE)
        .await
        .map_err(|error| fault(doing, &error))?;
    let rows = kubernetes(context);
    let names: Vec<&str> = rows.iter().map(|node| node.fqdn.as_str()).collect();
    let ready = cluster.kubernetes.cni != Cni::None;
    let work = Box::pin(async {
        ready::all(via, &names, ready, clock, NODES_PATIENCE)
            .await
            .map_err(|error| fault(doing, &error))
    });
    let nodes = while_on(context, &rows, work).await?;
    // Kubernetes takes a node for Ready until it has not heard of it for 40 s.
    all_on(context, &cluster.nodes.iter().collect::<Vec<_>>()).await?;
    let wrong: Vec<String> = rows
        .iter()
        .filter(|node| !nodes.iter().any(|seen| seen.name == node.fqdn && seen.is(node.role)))
        .map(|node| format!("{} lacks the role of a {}", node.fqdn, node.role))
        .collect();
    if wrong.is_empty() {
        return Ok(false);
    }
    Err(Failure::new(Exit::Kubernetes, doing, wrong.join("\n")))
}

/// Asks every member of the external etcd by way of the first master that can be reached.
async fn prove_etcd(context: &Context, masters: &[&Node]) -> Result<(), Failure> {
    for master in masters {
        let remote = context.remote(&master.name);
        let asked = async {
            if let Some(client) = &context.etcd_client {
                etcd::copy(remote, client).await?;
            }
            etcd::prove(remote, &context.cluster).await
        };
        match asked.await {
            Ok(()) => return Ok(()),
            Err(error @ Error::Etcd(_)) => {
                return Err(fault("use the external etcd again; nothing was removed", &error));
            }
            // Another one may be reached. Where none is, the removal says so.
            Err(_) => {}
        }
    }
    Ok(())
}

/// Removes our keys from an external etcd. Where the cluster is made `again` at once, every member has
/// to be well first: with the old cluster gone, the new one could only wait for it.
pub(super) async fn forget_etcd(context: &Context, again: bool) -> Result<bool, Failure> {
    let masters: Vec<_> = context.cluster.with_role(Role::Master).collect();
    if again {
        prove_etcd(context, &masters).await?;
    }
    let mut last = None;
    // Any master has the files; the first may be the one that is broken.
    for master in &masters {
        let remote = context.remote(&master.name);
        let removed = async {
            // A master that has not joined yet has no files to ask with.
            if let Some(client) = &context.etcd_client {
                etcd::copy(remote, client).await?;
            }
            let owner = owner(context);
            if !etcd::is_ours(remote, &context.cluster, &owner).await? {
                return Ok(false);
            }
            for other in &masters {
                // One that cannot be reached writes nothing that we could hinder.
                let _ = silence::api_server(context.remote(&other.name)).await;
            }
            etcd::remove_ours(remote, &context.cluster, &owner).await
        };
        match removed.await {
            Ok(changed) => {
                // A run that goes on after this one has nothing left to remove there, and no master
                // to ask with.
                unclaim(context)?;
                return Ok(changed);
            }
            Err(error) => last = Some(fault("remove our keys from etcd", &error).on(&master.name)),
        }
    }
    let no_one =
        || Failure::new(Exit::Kubernetes, "remove our keys from etcd", "there is no master");
    Err(last.unwrap_or_else(no_one).hint(
        "bring up a master and most of etcd's members and run again, or leave the keys with \
         `--keep-etcd`. Where `etcdctl get /k8sha/owner` still names this cluster, you can then \
         remove them yourself: `etcdctl del /registry/ --prefix`, `etcdctl del /k8sha/owner`"
            .to_owned(),
    ))
}

fn unclaim(context: &Context) -> Result<(), Failure> {
    match std::fs::remove_file(&context.etcd_claim) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::new(Exit::Local, "note that etcd holds nothing of ours", error))
        }
        _ => Ok(()),
    }
}

/// Refuses to wipe the data of a cluster whose machines are on our hosts: it may be alive.
async fn gone(context: &Context, cluster: &str) -> Result<(), Failure> {
    let doing = format!("delete the data of the cluster `{cluster}` from etcd");
    let mut left = Vec::new();
    for host in context.cluster.proxmox.hosts.keys() {
        let client = context.client(host)?;
        let fault = |error| proxmox(&doing, &error).on(host);
        for vm in client.vms().await.map_err(fault)? {
            if vm.template || !vm.tags.contains(TAG) {
                continue;
            }
            let config = client.find_vm(vm.vmid).await.map_err(fault)?;
            let mark = config.and_then(|config| config.mark());
            if mark.is_some_and(|mark| mark.cluster == cluster) {
                left.push(format!("VM {} on {host}", vm.vmid));
            }
        }
    }
    left.sort();
    left.dedup();
    if left.is_empty() {
        return Ok(());
    }
    let said = format!("machines of that cluster are still there: {}", left.join(", "));
    Err(Failure::new(Exit::NotAsAsked, doing, said).hint(
        "destroy that cluster first, with its own profile and state folder, or give this one an etcd \
         of its own"
            .to_owned(),
    ))
}

/// What `kubectl get nodes -o wide` prints; `None` where it does not answer.
pub async fn kubectl_nodes(context: &Context, via: &NodeName) -> Option<String> {
    ready::wide(context.remote(via)).await.ok()
}

fn owner(context: &Context) -> Owner {
    Owner { cluster: context.cluster.name.clone(), creation: context.creation.clone() }
}

/// A fault of a phase as a failure.
pub(super) fn fault(doing: &str, error: &Error) -> Failure {
    let exit = match error {
        Error::Ssh { source, .. } if source.is_transient() => Exit::Node,
        kubeadm::Error::File { .. } | Error::Kubeconfig { .. } => Exit::Local,
        Error::Manifest { .. } => Exit::Usage,
        _ => Exit::Kubernetes,
    };
    Failure::new(exit, doing, error).hint(error.hint())
}
