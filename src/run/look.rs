//! Taking stock: what exists, found with GET requests and read-only commands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::context::Context;
use super::look_nodes;
use crate::cluster::{Host, HostName, Node, NodeName, TemplateSource, VmId};
use crate::error::{Exit, Failure};
use crate::plan::inventory::{HostState, Inventory, OurVm, TemplateState, VmState};
use crate::plan::planner::Part;
use crate::plan::spec;
use crate::proxmox::wire::{StorageStatus, VmConfig};
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
        return Err(Failure::new(
            Exit::Proxmox,
            "use the Proxmox VE cluster",
            "it has no quorum: its configuration is read-only",
        )
        .on(hosts.join(", "))
        .hint(
            "bring the other Proxmox node or a QDevice up (`pvecm status` on a host)".to_owned(),
        ));
    }
    let mut inventory = Inventory {
        topology: phrase(&topology),
        one_cluster,
        kubeconfig: context.options.kubeconfig.exists(),
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
        check_storages(name, settings, &storages)?;
        check_bridge(context, client, name).await?;
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

/// Whether the storages that the profile names are there and take what is put there.
fn check_storages(
    name: &HostName,
    settings: &Host,
    storages: &[StorageStatus],
) -> Result<(), Failure> {
    let mut wanted: Vec<(&str, &str)> =
        vec![(&settings.storage, "images"), (&settings.iso_storage, "iso")];
    if settings.templates.values().any(|source| matches!(source, TemplateSource::Ours(_))) {
        wanted.push((&settings.import_storage, "import"));
    }
    let mut said = Vec::new();
    let mut hint = None;
    for (storage, content) in wanted {
        match storages.iter().find(|seen| seen.storage.as_deref() == Some(storage)) {
            None => {
                let known: Vec<&str> =
                    storages.iter().filter_map(|seen| seen.storage.as_deref()).collect();
                said.push(format!(
                    "there is no storage `{storage}` that we may use; known are {}",
                    known.join(", ")
                ));
                hint.get_or_insert_with(|| "name one of them in the profile".to_owned());
            }
            Some(seen) if !seen.content.contains(content) => {
                let has: Vec<&str> = seen.content.iter().map(String::as_str).collect();
                said.push(format!(
                    "storage `{storage}` does not take content `{content}`; it takes {}",
                    has.join(", ")
                ));
                hint = Some(format!(
                    "on the host: `pvesm set {storage} --content {},{content}`",
                    has.join(",")
                ));
            }
            Some(_) => {}
        }
    }
    if said.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Exit::Proxmox, "use the storages of the profile", said.join("\n"))
        .on(name)
        .hint(hint))
}

async fn check_bridge(context: &Context, client: &Client, name: &HostName) -> Result<(), Failure> {
    let bridge = &context.cluster.network.bridge;
    let seen = client.network().await.map_err(|error| proxmox("look", &error).on(name))?;
    // Without a right on any network the list is empty, and says nothing.
    if seen.is_empty() || seen.iter().any(|iface| iface.iface == *bridge) {
        return Ok(());
    }
    let known: Vec<&str> =
        seen.iter().filter(|iface| iface.is_bridge()).map(|iface| iface.iface.as_str()).collect();
    Err(Failure::new(
        Exit::Proxmox,
        "use the bridge of the profile",
        format!("there is no bridge `{bridge}`; known are {}", known.join(", ")),
    )
    .on(name)
    .hint("change `bridge` in the profile, or make that bridge on the host".to_owned()))
}

async fn template(client: &Client, source: TemplateSource) -> Result<TemplateState, Error> {
    let Some(config) = settled(client, source.vmid()).await? else {
        return Ok(TemplateState::Absent);
    };
    let name = config.name().unwrap_or_default().to_owned();
    Ok(match config.mark() {
        Some(mark) if mark.node.is_none() => TemplateState::Ours {
            cluster: mark.cluster,
            spec: mark.spec,
            template: config.is_template(),
            lock: config.lock().map(str::to_owned),
        },
        _ if config.is_template() => TemplateState::Theirs { name },
        _ => TemplateState::Foreign { name },
    })
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
    let foreign = |why: String| VmState::Foreign { host: client.host().clone(), name, why };
    let mark = match config.mark() {
        None => return Ok(foreign("it does not carry our mark".to_owned())),
        Some(mark) if mark.cluster != context.cluster.name => {
            return Ok(foreign(format!("it belongs to the cluster `{}`", mark.cluster)));
        }
        Some(mark) if mark.node.as_ref() != Some(&node.name) => {
            let other = mark.node.map_or("a template".to_owned(), |node| format!("`{node}`"));
            return Ok(foreign(format!("its mark says that it is {other} of this cluster")));
        }
        Some(mark) => mark,
    };
    let running = client.vm_status(node.vmid).await?.is_running();
    Ok(VmState::Ours(Box::new(OurVm {
        host: client.host().to_string(),
        disk_bytes: config.disk_size(spec::DISK),
        running,
        lock: config.lock().map(str::to_owned),
        creation: mark.creation,
        spec: mark.spec,
        config: config.0,
    })))
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
