//! Taking stock: what exists, found with GET requests and read-only commands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::context::Context;
use super::look_nodes;
use crate::cluster::{Host, HostName, Node, NodeName, TemplateSource, VmId};
use crate::error::{Exit, Failure};
use crate::plan::inventory::{HostState, Inventory, OurVm, TemplateState, VmState, own_mark};
use crate::plan::planner::Part;
use crate::plan::premises::{self, Lack};
use crate::plan::spec;
use crate::proxmox::wire::VmConfig;
use crate::proxmox::{Client, Error, Topology};

/// How long a clone that somebody began may take before it counts as stuck.
const CLONE_PATIENCE: Duration = Duration::from_secs(15 * 60);
const CLONE_PAUSE: Duration = Duration::from_secs(2);

/// Takes stock of the hosts that `part` covers, their VMs, and the nodes on them.
///
/// # Errors
/// The first host that cannot be asked, or that lacks what the profile names.
pub async fn take(context: &Arc<Context>, part: &Part) -> Result<Inventory, Failure> {
    let topology =
        context.fleet.topology().await.map_err(|error| proxmox("ask the hosts", &error))?;
    let one_cluster = topology.clusters.len() == 1 && context.cluster.proxmox.hosts.len() > 1;
    if let Some(broken) = topology.clusters.iter().find(|cluster| !cluster.quorate) {
        let hosts: Vec<&str> = broken.hosts.iter().map(HostName::as_str).collect();
        let lack = premises::quorum();
        return Err(lacking("use the Proxmox VE cluster", &[lack]).on(hosts.join(", ")));
    }
    let mut inventory = Inventory {
        topology: phrase(&topology),
        one_cluster,
        kubeconfig: crate::kubeadm::kubeconfig::is_there(
            &context.cluster,
            &context.options.kubeconfig,
        ),
        ..Inventory::default()
    };
    let mut looking = JoinSet::new();
    for name in context.cluster.proxmox.hosts.keys().filter(|name| part.covers(name)) {
        let (context, name, provision) = (Arc::clone(context), name.clone(), part.provision);
        looking.spawn(async move {
            let state = host(&context, &name, provision).await;
            (name, state)
        });
    }
    let seen: BTreeMap<HostName, _> = looking.join_all().await.into_iter().collect();
    let mut failures = Vec::new();
    for (name, seen) in seen {
        match seen {
            Ok((state, vms)) => {
                inventory.hosts.insert(name, state);
                inventory.vms.extend(vms);
            }
            Err(failure) => failures.push(failure),
        }
    }
    if let Some(failure) = together(failures) {
        return Err(failure);
    }
    if one_cluster {
        find_strays(context, &mut inventory).await?;
    }
    look_nodes::look(context, &mut inventory).await;
    Ok(inventory)
}

/// What several hosts have met, as one failure: told once where it is the same everywhere.
fn together(failures: Vec<Failure>) -> Option<Failure> {
    let mut failures = failures.into_iter();
    let mut all = failures.next()?;
    for other in failures {
        let on = other.on.unwrap_or_default();
        if other.said == all.said {
            all.on = Some(format!("{}, {on}", all.on.unwrap_or_default()));
        } else {
            all.said = format!("{}\n{on}: {}", all.said, other.said);
        }
    }
    Some(all)
}

fn phrase(topology: &Topology) -> String {
    let part = |cluster: &crate::proxmox::PveCluster| {
        let hosts: Vec<&str> = cluster.hosts.iter().map(HostName::as_str).collect();
        match &cluster.name {
            Some(name) => format!("Proxmox VE cluster `{name}` ({})", hosts.join(", ")),
            None => format!("standalone Proxmox VE host {}", hosts.join(", ")),
        }
    };
    topology.clusters.iter().map(part).collect::<Vec<_>>().join(", ")
}

type Vms = BTreeMap<NodeName, VmState>;

/// What one host holds, and the VMs of the rows that live on it.
async fn host(
    context: &Context,
    name: &HostName,
    provision: bool,
) -> Result<(HostState, Vms), Failure> {
    let client = context.client(name)?;
    let fault = |error: Error| proxmox("look", &error).on(name);
    let settings = &context.cluster.proxmox.hosts[name];
    let storages = client.storages().await.map_err(fault)?;
    if provision {
        let lacks = premises::storages(settings, &storages, client.identity());
        if !lacks.is_empty() {
            return Err(lacking("use the storages of the profile", &lacks).on(name));
        }
        let seen = client.network().await.map_err(fault)?;
        let lacks = premises::bridges(&context.cluster, name, &seen);
        if !lacks.is_empty() {
            return Err(lacking("use the bridge of the profile", &lacks).on(name));
        }
    }
    let mut state = HostState::default();
    for (storage, content, into) in [
        (&settings.import_storage, "import", &mut state.images),
        (&settings.iso_storage, "iso", &mut state.isos),
    ] {
        let holds = storages
            .iter()
            .any(|seen| seen.storage.as_ref() == Some(storage) && seen.content.contains(content));
        if holds {
            let volumes = client.storage_content(storage, content).await.map_err(fault)?;
            into.extend(volumes.into_iter().map(|volume| volume.volid));
        }
    }
    for (os, source) in &settings.templates {
        state.templates.insert(os.clone(), template(client, *source).await.map_err(fault)?);
    }
    state.linked = linked(client, settings).await.map_err(fault)?;
    let mut vms = Vms::new();
    for node in context.cluster.nodes.iter().filter(|node| node.host == *name) {
        vms.insert(node.name.clone(), vm(context, client, node).await.map_err(fault)?);
    }
    Ok((state, vms))
}

/// What a host lacks, as one failure.
fn lacking(doing: &str, lacks: &[Lack]) -> Failure {
    let said: Vec<&str> = lacks.iter().map(|lack| lack.what.as_str()).collect();
    let fix: Vec<&str> =
        lacks.iter().flat_map(|lack| lack.fix.iter().map(String::as_str)).collect();
    Failure::new(Exit::Proxmox, doing, said.join("\n")).hint(fix.join("\n"))
}

async fn template(client: &Client, source: TemplateSource) -> Result<TemplateState, Error> {
    let Some(config) = settled(client, source.vmid()).await? else {
        return Ok(TemplateState::Absent);
    };
    Ok(TemplateState::of(&config))
}

/// Which VMs hang on which template's disk, where the storage's volume ids tell.
async fn linked(client: &Client, settings: &Host) -> Result<BTreeMap<VmId, BTreeSet<VmId>>, Error> {
    let mut linked: BTreeMap<VmId, BTreeSet<VmId>> = BTreeMap::new();
    for vm in client.vms().await? {
        let Some(config) = client.find_vm(vm.vmid).await? else { continue };
        for source in settings.templates.values() {
            let base = format!("/base-{}-disk", source.vmid());
            let disk = config.get(spec::DISK).unwrap_or_default();
            let hangs = disk.contains(&base) || disk.contains(&base.replacen('/', ":", 1));
            if hangs && vm.vmid != source.vmid() {
                linked.entry(source.vmid()).or_default().insert(vm.vmid);
            }
        }
    }
    Ok(linked)
}

/// A VM's configuration, when a clone that may be under way has ended; nobody can tell from a
/// clone under way whose it is.
async fn settled(client: &Client, vmid: VmId) -> Result<Option<VmConfig>, Error> {
    let mut waited = Duration::ZERO;
    loop {
        let Some(config) = client.find_vm(vmid).await? else { return Ok(None) };
        let passing = matches!(config.lock(), Some("clone" | "create"));
        if !passing || waited > CLONE_PATIENCE {
            return Ok(Some(config));
        }
        tokio::time::sleep(CLONE_PAUSE.div_f64(client.pace())).await;
        waited += CLONE_PAUSE;
    }
}

async fn vm(context: &Context, client: &Client, node: &Node) -> Result<VmState, Error> {
    let Some(config) = settled(client, node.vmid).await? else { return Ok(VmState::Absent) };
    let name = config.name().unwrap_or("without a name").to_owned();
    let mark = match own_mark(&context.cluster, node, &config) {
        Ok(mark) => mark,
        Err(why) => return Ok(VmState::Foreign { host: client.host().clone(), name, why }),
    };
    let running = client.vm_status(node.vmid).await?.is_running();
    Ok(VmState::Ours(Box::new(OurVm::new(client.host(), mark, config, running))))
}

/// In one Proxmox VE cluster a VMID may be taken on another host than the row's.
async fn find_strays(context: &Context, inventory: &mut Inventory) -> Result<(), Failure> {
    let Some(client) = context.fleet.clients().next() else { return Ok(()) };
    let all = client.cluster_vms().await.map_err(|error| proxmox("list the VMs", &error))?;
    for node in &context.cluster.nodes {
        let absent = inventory.vms.get(&node.name) == Some(&VmState::Absent);
        let Some(seen) = all.iter().find(|seen| seen.vmid == node.vmid).filter(|_| absent) else {
            continue;
        };
        let host = HostName(seen.node.clone());
        if host == node.host {
            continue;
        }
        let state = match context.fleet.client(&host) {
            Ok(other) => vm(context, other, node).await.map_err(|error| proxmox("look", &error))?,
            Err(_) => VmState::Foreign {
                host,
                name: seen.name.clone(),
                why: "it is on a host that the profile does not name".to_owned(),
            },
        };
        inventory.vms.insert(node.name.clone(), state);
    }
    Ok(())
}

/// A fault of a Proxmox call as a failure.
pub(super) fn proxmox(doing: &str, error: &Error) -> Failure {
    Failure::new(Exit::Proxmox, doing, error).hint(error.hint())
}
