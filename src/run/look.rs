//! Reads what exists, with GET requests and read-only commands.
//!
//! k8sha's VMs are found by their marks, on every host of the profile and whatever the table
//! contains now: a row that moved, changed its VMID or was removed does not hide its machine. One
//! listing per host shows which VMs need a closer look, so that other VMs cost nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::context::Context;
use super::look_watch::Watch;
use super::{look_kubernetes, look_nodes, look_rows, look_told};
use crate::clock::Wait;
use crate::cluster::{Host, HostName, NodeName, VmId};
use crate::error::{Exit, Failure};
use crate::exits::failure;
use crate::limits::{self, excerpt};
use crate::mark::{Marked, TAG};
use crate::plan::inventory::{Hardware, HostState, Inventory, Making, TemplateState};
use crate::plan::machines;
use crate::plan::planner::Part;
use crate::plan::prerequisites::{self, Lack};
use crate::plan::recognise::{self, Found};
use crate::plan::spec;
use crate::proxmox::wire::{VmConfig, VmSummary};
use crate::proxmox::{Client, Error, Fleet, Topology, is_making};

/// What to look for, beyond what every command needs.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The part of the job that is about to be planned.
    pub part: Part,
    /// Whether things are to be removed: then the VMs that depend on k8sha's templates are listed
    /// too.
    pub removal: bool,
    /// Whether to wait for a clone that is running.
    pub patient: bool,
    /// Whether every machine is about to be recreated, so that each host must be able to.
    pub again: bool,
    /// Whether to test the addresses of machines that are to be created.
    pub knock: bool,
}

impl Scope {
    /// For a run that creates things.
    pub fn making(part: Part) -> Self {
        Self { part, removal: false, patient: true, again: false, knock: true }
    }

    /// For a command that only shows the current state.
    pub fn showing(part: Part) -> Self {
        Self { part, removal: false, patient: false, again: false, knock: true }
    }

    /// For `doctor`, which checks the addresses itself, in several ways.
    pub fn examining() -> Self {
        Self { knock: false, ..Self::showing(Part::all()) }
    }

    /// For a run that removes things.
    pub fn removing() -> Self {
        let part = Part { bootstrap: false, ..Part::all() };
        Self { part, removal: true, patient: true, again: false, knock: false }
    }

    /// For a run that is about to remove and recreate everything.
    pub fn making_again() -> Self {
        Self { again: true, knock: false, ..Self::making(Part::all()) }
    }
}

/// Reads the state of the hosts, of every VM with k8sha's mark, and of the machines on them.
///
/// # Errors
/// The first host that cannot be queried, or that lacks what the profile names. A missing answer is
/// not treated as absence. The whole look has a time limit.
pub async fn take(context: &Arc<Context>, scope: &Scope) -> Result<Inventory, Failure> {
    let watch = Watch::here();
    let clone = match scope.patient {
        true => context.clock.patience(limits::look::CLONE, limits::LEAST),
        false => Duration::ZERO,
    };
    let limit = context.clock.limit(limits::look::WHOLE) + clone;
    watch.within(limit, Box::pin(look(context, scope, &watch))).await
}

async fn look(context: &Arc<Context>, scope: &Scope, watch: &Watch) -> Result<Inventory, Failure> {
    let part = &scope.part;
    let topology = topology(context, watch).await?;
    let one_cluster = topology.clusters.len() == 1 && context.cluster.proxmox.hosts.len() > 1;
    if let Some(broken) = topology.clusters.iter().find(|cluster| !cluster.quorate) {
        let hosts: Vec<&str> = broken.hosts.iter().map(HostName::as_str).collect();
        let lack = prerequisites::quorum();
        return Err(lacking("use the Proxmox VE cluster", &[lack]).on(hosts.join(", ")));
    }
    let mut inventory = Inventory {
        creation: context.creation.clone(),
        new_keys: context.new_keys.clone(),
        topology: phrase(&topology),
        one_cluster,
        kubeconfig: crate::kubeadm::kubeconfig::is_there(
            &context.cluster,
            context.known.as_ref().map(|known| known.ca.as_str()),
            &context.options.kubeconfig,
        ),
        ..Inventory::default()
    };
    let mut looking = JoinSet::new();
    for name in context.cluster.proxmox.hosts.keys() {
        let (context, name, scope) = (Arc::clone(context), name.clone(), scope.clone());
        let (watch, kin) = (watch.clone(), kin(&context, &topology, &name));
        looking.spawn(async move {
            let work = host(&context, &name, &scope, &kin, &watch);
            let state = watch.over(name.as_str(), "its answers", Box::pin(work)).await;
            (name, state)
        });
    }
    let seen: BTreeMap<HostName, _> = looking.join_all().await.into_iter().collect();
    let (mut failures, mut found) = (Vec::new(), Vec::new());
    for (name, seen) in seen {
        match seen {
            Ok((state, vms)) => {
                if part.covers(&name) {
                    inventory.hosts.insert(name, state);
                }
                found.extend(vms);
            }
            Err(failure) => failures.push(failure),
        }
    }
    if let Some(failure) = together(failures) {
        return Err(failure);
    }
    found.extend(unnamed(context, &topology).await?);
    recognise::sort(&context.cluster, &context.creation, found, &mut inventory);
    if scope.part.provision && scope.knock {
        inventory.taken = look_rows::taken(context, scope, &inventory, watch).await;
    }
    inventory.pools = look_rows::pools(context, &topology, &inventory, watch).await?;
    inventory.documents = look_rows::changed_documents(context, &inventory);
    look_nodes::look(context, &mut inventory, watch).await;
    look_kubernetes::look(context, &mut inventory, watch).await;
    Ok(inventory)
}

/// How the hosts are clustered; hosts that answer late are named.
async fn topology(context: &Context, watch: &Watch) -> Result<Topology, Failure> {
    let mut asking = JoinSet::new();
    for client in context.fleet.clients() {
        let (client, watch) = (client.clone(), watch.clone());
        asking.spawn(async move {
            let name = client.host().clone();
            let asked = watch.over(name.as_str(), "its answer", Fleet::standing(&client)).await;
            (name, asked)
        });
    }
    let answers: BTreeMap<HostName, _> = asking.join_all().await.into_iter().collect();
    Topology::of_answers(answers.into_values()).map_err(|error| proxmox("query the hosts", &error))
}

/// The hosts in the same Proxmox VE cluster, this one first: a clone that ends up here may be a
/// task of another host.
fn kin(context: &Context, topology: &Topology, name: &HostName) -> Vec<Client> {
    let mut kin: Vec<Client> = context
        .fleet
        .clients()
        .filter(|client| client.host() == name || topology.is_together(name, client.host()))
        .cloned()
        .collect();
    kin.sort_by_key(|client| client.host() != name);
    kin
}

/// Merges the failures of several hosts into one: reported once if it is the same everywhere.
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
            // A standalone host knows no other node.
            None if cluster.nodes.len() > 1 => format!(
                "a Proxmox VE cluster ({}) whose name and quorum are not visible (Sys.Audit on /)",
                hosts.join(", ")
            ),
            None if cluster.hidden => format!(
                "Proxmox VE host {} (whether it is in a cluster is not visible: Sys.Audit on /)",
                hosts.join(", ")
            ),
            None => format!("standalone Proxmox VE host {}", hosts.join(", ")),
        }
    };
    topology.clusters.iter().map(part).collect::<Vec<_>>().join(", ")
}

/// The state of one host, and the VMs on it that may belong to k8sha.
async fn host(
    context: &Context,
    name: &HostName,
    scope: &Scope,
    kin: &[Client],
    watch: &Watch,
) -> Result<(HostState, Vec<Found>), Failure> {
    let client = context.client(name)?;
    let fault = |error: Error| proxmox("look", &error).on(name);
    let settings = &context.cluster.proxmox.hosts[name];
    let mut state = HostState::default();
    if scope.part.covers(name) {
        contents(context, name, scope, &mut state).await?;
    }
    let listed = client.vms().await.map_err(fault)?;
    let mut found = Vec::new();
    for seen in listed.iter().filter(|seen| may_concern_us(context, seen)) {
        let settled = settled(context, kin, seen.vmid, scope.patient, watch).await;
        // It was removed between the two requests.
        let Some((config, making)) = settled.map_err(fault)? else { continue };
        let running = seen.status == "running";
        let ours = config.mark().is_some_and(|mark| mark.cluster == context.cluster.name);
        let (halted, unapplied) = match running && ours {
            true => {
                let asked =
                    tokio::try_join!(client.vm_status(seen.vmid), client.vm_pending(seen.vmid));
                let (status, pending) = asked.map_err(fault)?;
                (status.halted().map(str::to_owned), pending.unapplied())
            }
            false => (None, BTreeMap::new()),
        };
        found.push(Found {
            host: name.clone(),
            vmid: seen.vmid,
            running: running.then(|| Hardware {
                cpus: seen.cpus,
                memory_mib: Some(seen.maxmem >> 20).filter(|mib| *mib > 0),
                unapplied,
            }),
            halted: halted.map(|state| excerpt(&state, 40)),
            making,
            config,
        });
    }
    if scope.part.covers(name)
        && scope.part.provision
        && (scope.again || gets_hardware(context, name, &found))
    {
        let told = look_told::ask(client, &context.cluster).await.map_err(fault)?;
        let judged = machines::judge(&context.cluster, name, &told, client.identity());
        if !judged.lacks.is_empty() {
            return Err(lacking("create the VMs of the profile", &judged.lacks).on(name));
        }
        state.unseen = judged.unseen;
    }
    for (os, source) in &settings.templates {
        let template = match found.iter().find(|vm| vm.vmid == source.vmid()) {
            Some(vm) => TemplateState::of(vm.vmid, &vm.config, vm.making.as_ref()),
            None => TemplateState::Absent,
        };
        state.templates.insert(os.clone(), template);
    }
    let named = |vmid: VmId| settings.templates.values().any(|source| source.vmid() == vmid);
    let is_template = |vm: &&Found| {
        let mark = vm.config.mark().filter(|mark| mark.cluster == context.cluster.name);
        mark.is_some_and(|mark| mark.node.is_none()) && !named(vm.vmid)
    };
    state.unnamed_templates = found.iter().filter(is_template).map(|vm| vm.vmid).collect();
    let marked = found.iter().filter(|vm| vm.config.mark().is_some());
    state.attached = marked.map(|vm| (vm.vmid, recognise::images(&vm.config))).collect();
    if scope.removal {
        state.linked = linked(client, settings).await.map_err(fault)?;
        for (template, clone) in recognise::clones(&found) {
            state.linked.entry(template).or_default().insert(clone);
        }
    }
    Ok((state, found))
}

/// Whether a row of this host may have to be created, or its VM gets other hardware: no VM on the
/// host has its mark and matches the row.
fn gets_hardware(context: &Context, name: &HostName, found: &[Found]) -> bool {
    let cluster = &context.cluster;
    let is_of = |node: &NodeName, vm: &&Found| {
        let mark = vm.config.mark();
        mark.is_some_and(|mark| mark.cluster == cluster.name && mark.node.as_ref() == Some(node))
    };
    let as_asked = |node: &crate::cluster::Node| {
        let vm = found.iter().find(|vm| is_of(&node.name, vm));
        vm.is_some_and(|vm| {
            let cpu = vm.config.get("cpu").unwrap_or_default();
            (vm.config.cores(), vm.config.memory_mib()) == (node.vcpu, node.ram_mib)
                && spec::same("cpu", &cluster.proxmox.cpu, cpu)
        })
    };
    cluster.nodes.iter().any(|node| node.host == *name && !as_asked(node))
}

/// The contents of the storages, after they and the bridges are known to exist.
async fn contents(
    context: &Context,
    name: &HostName,
    scope: &Scope,
    state: &mut HostState,
) -> Result<(), Failure> {
    let client = context.client(name)?;
    let fault = |error: Error| proxmox("look", &error).on(name);
    let settings = &context.cluster.proxmox.hosts[name];
    let storages = client.storages().await.map_err(fault)?;
    state.storages = storages.iter().filter_map(|seen| seen.storage.clone()).collect();
    if scope.part.provision {
        let lacks = prerequisites::storages(settings, &storages, client.identity());
        if !lacks.is_empty() {
            return Err(lacking("use the storages of the profile", &lacks).on(name));
        }
        let seen = client.network().await.map_err(fault)?;
        let lacks = prerequisites::bridges(&context.cluster, name, &seen);
        if !lacks.is_empty() {
            return Err(lacking("use the bridge of the profile", &lacks).on(name));
        }
    }
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
    Ok(())
}

/// What a host lacks, as one failure.
fn lacking(doing: &str, lacks: &[Lack]) -> Failure {
    let said: Vec<&str> = lacks.iter().map(|lack| lack.what.as_str()).collect();
    let fix: Vec<&str> =
        lacks.iter().flat_map(|lack| lack.fix.iter().map(String::as_str)).collect();
    Failure::new(Exit::Proxmox, doing, said.join("\n")).hint(fix.join("\n"))
}

/// Whether a VM has k8sha's tag, or a VMID or name that k8sha needs.
fn may_concern_us(context: &Context, seen: &VmSummary) -> bool {
    seen.tags.contains(TAG) || is_named(context, seen.vmid, &seen.name)
}

fn is_named(context: &Context, vmid: VmId, name: &str) -> bool {
    let cluster = &context.cluster;
    let row = |node: &crate::cluster::Node| node.vmid == vmid || node.name.as_str() == name;
    let mut templates = cluster.proxmox.hosts.values().flat_map(|host| host.templates.values());
    cluster.nodes.iter().any(row) || templates.any(|source| source.vmid() == vmid)
}

/// k8sha's VMs on hosts of the Proxmox VE cluster that are not in the profile.
async fn unnamed(context: &Context, topology: &Topology) -> Result<Vec<Found>, Failure> {
    let named = |host: &str| context.cluster.proxmox.hosts.keys().any(|name| name.as_str() == host);
    let mut found = Vec::new();
    for cluster in &topology.clusters {
        let Some(asked) = cluster.hosts.first() else { continue };
        if cluster.nodes.iter().all(|node| named(node)) {
            continue;
        }
        let client = context.client(asked)?;
        let fault = |error: Error| proxmox("list the VMs", &error).on(asked);
        for seen in client.cluster_vms().await.map_err(fault)? {
            let concerns = seen.kind == "qemu"
                && !named(&seen.node)
                && (seen.tags.contains(TAG) || is_named(context, seen.vmid, &seen.name));
            if !concerns {
                continue;
            }
            let host = HostName(seen.node.clone());
            let config = client.config_on(&host, seen.vmid).await.map_err(fault)?;
            let Some(config) = config else { continue };
            // The cluster's cache may be out of date.
            let unknown = Hardware::default();
            let running = (seen.status == "running").then_some(unknown);
            let (vmid, halted, making) = (seen.vmid, None, None);
            found.push(Found { host, vmid, running, halted, making, config });
        }
    }
    Ok(found)
}

/// The VMs whose disks depend on each template, from the storage's own listing; their owner does
/// not matter.
async fn linked(client: &Client, settings: &Host) -> Result<BTreeMap<VmId, BTreeSet<VmId>>, Error> {
    let mut linked: BTreeMap<VmId, BTreeSet<VmId>> = BTreeMap::new();
    for volume in client.storage_content(&settings.storage, "images").await? {
        for source in settings.templates.values() {
            let Some(vmid) = volume.vmid.and_then(|vmid| u32::try_from(vmid).ok()).map(VmId) else {
                continue;
            };
            if vmid != source.vmid() && volume.hangs_on(source.vmid()) {
                linked.entry(source.vmid()).or_default().insert(vmid);
            }
        }
    }
    Ok(linked)
}

/// The wait between two looks at a VM that is being created.
const PAUSE: Duration = Duration::from_secs(2);

/// A VM's configuration, and whether it is being created. While a task creates it, its
/// configuration does not show its owner; a patient caller waits for that task.
async fn settled(
    context: &Context,
    kin: &[Client],
    vmid: VmId,
    patient: bool,
    watch: &Watch,
) -> Result<Option<(VmConfig, Option<Making>)>, Error> {
    let Some(client) = kin.first() else { return Ok(None) };
    let mut wait = Wait::new(context.clock, limits::look::CLONE, PAUSE)
        .at_least(limits::LEAST)
        .telling(|(config, task): &(VmConfig, String)| {
            let lock = config.lock().unwrap_or_default();
            let text = format!("waiting for VM {vmid} (lock `{lock}`), which {task} is creating");
            watch.say(client.host().as_str(), text);
        });
    let mut again = true;
    loop {
        let Some(config) = client.find_vm(vmid).await? else { return Ok(None) };
        if !config.lock().is_some_and(is_making) {
            return Ok(Some((config, None)));
        }
        let mut maker = None;
        for host in kin {
            maker = maker.or(host.maker(vmid).await?);
        }
        let Some(task) = maker else {
            // It may have finished between the two requests.
            if std::mem::take(&mut again) {
                continue;
            }
            let making = if sees_all(kin).await? { Making::CutOff } else { Making::Unseen };
            return Ok(Some((config, Some(making))));
        };
        let task = excerpt(&task.upid, limits::task::UPID_BYTES);
        let seen = (config, task);
        let waited =
            if patient { wait.not_yet(seen).await.err().map(|last| last.seen) } else { Some(seen) };
        if let Some((config, task)) = waited {
            return Ok(Some((config, Some(Making::Runs { task }))));
        }
    }
}

/// Whether these hosts show the tasks of other users, too.
async fn sees_all(kin: &[Client]) -> Result<bool, Error> {
    for client in kin {
        let node = format!("/nodes/{}", client.host());
        if !client.permissions(Some(&node)).await?.allows(&node, "Sys.Audit") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Turns an error of a Proxmox VE call into a failure.
pub(super) fn proxmox(doing: &str, error: &Error) -> Failure {
    failure(doing, error)
}
