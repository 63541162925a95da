//! Plans the removal of a cluster: only objects with k8sha's mark.

use std::collections::{BTreeMap, BTreeSet};

use super::action::{self, StepId};
use super::draft::Steps;
use super::inventory::{Inventory, Making, OurVm, StrayReason, TemplateState, VmState};
use super::{Action, Disposition, Plan, PlannedVm, spec};
use crate::cluster::{Cluster, Etcd, HostName, NodeName, Role, TemplateSource, VmId};

/// How much is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Whether k8sha's templates and images are kept, for a cluster that is created again at once.
    pub keep_templates: bool,
    /// Whether the keys in an external etcd are kept.
    pub keep_etcd: bool,
    /// Whether the cluster is created again at once.
    pub again: bool,
}

/// Plans the removal.
pub fn plan(cluster: &Cluster, inventory: &Inventory, extent: Extent) -> Plan {
    let mut steps = Steps::default();
    let mut notices = Vec::new();
    let any_master =
        cluster.with_role(Role::Master).any(|node| inventory.ours(&node.name).is_some());
    if matches!(cluster.etcd, Etcd::External { .. }) && !extent.keep_etcd && any_master {
        steps.add("etcd", action::ForgetEtcd { again: extent.again }, &[]);
    } else {
        steps.done(StepId::ForgetEtcd);
    }
    let mut vms = Vec::new();
    let mut gone: Vec<StepId> = Vec::new();
    let mut going: BTreeSet<(HostName, VmId)> = BTreeSet::new();
    for (node, role, vm) in machines(cluster, inventory) {
        let action = action::Destroy {
            node: node.clone(),
            host: vm.host.clone(),
            vmid: vm.vmid,
            creation: vm.mark.creation.clone(),
            without: None,
        };
        gone.push(steps.add(&node, action, &[StepId::ForgetEtcd]));
        going.insert((vm.host.clone(), vm.vmid));
        let (host, vmid, disposition) = (vm.host.clone(), vm.vmid, Disposition::Destroyed);
        vms.push(PlannedVm { node, role, host, vmid, disposition });
    }
    for node in &cluster.nodes {
        match inventory.vms.get(&node.name) {
            Some(VmState::Ours(_)) => continue,
            Some(VmState::Foreign { host, name, why }) => {
                notices.push(format!("VM {} on {host} (`{name}`) is kept: {why}", node.vmid));
            }
            Some(VmState::Underway { host, vmid, lock, empty, .. }) => {
                let clear = match empty {
                    true => format!("; `qm unlock {vmid} && qm destroy {vmid}` removes it"),
                    false => String::new(),
                };
                notices.push(format!(
                    "VM {vmid} on {host} (lock `{lock}`) is kept: it has no k8sha mark{clear}"
                ));
            }
            _ => {}
        }
        vms.push(PlannedVm {
            node: node.name.clone(),
            role: node.role,
            host: node.host.clone(),
            vmid: node.vmid,
            disposition: Disposition::Absent,
        });
    }
    for twin in inventory.strays.iter().filter(|stray| stray.why == StrayReason::Twin) {
        notices.push(format!(
            "VM {} on {} is kept: it also has the mark of {}, like a copy of that VM",
            twin.vm.vmid, twin.vm.host, twin.node
        ));
    }
    let (seeds, kept) = seeds(cluster, inventory);
    for (host, volume) in seeds {
        steps.add(&host, action::RemoveVolume { host: host.clone(), volume }, &gone);
    }
    for (host, volume, user) in kept {
        notices.push(format!("{volume} on {host} is kept: {user} has it in a drive"));
    }
    if !extent.keep_templates {
        for (name, state) in &inventory.hosts {
            // It may be a user's copy, which has the same mark.
            notices.extend(state.unnamed_templates.iter().map(|vmid| {
                format!(
                    "template {vmid} on {name} is kept: it has this cluster's mark, but the \
                     profile does not list it; `qm destroy {vmid}` removes it"
                )
            }));
            for (os, source) in &cluster.proxmox.hosts[name].templates {
                let TemplateSource::Ours(vmid) = *source else { continue };
                let others: Vec<String> = state
                    .linked
                    .get(&vmid)
                    .into_iter()
                    .flatten()
                    .filter(|clone| {
                        let shared = inventory.one_cluster;
                        !going.iter().any(|(at, vmid)| vmid == *clone && (shared || at == name))
                    })
                    .map(ToString::to_string)
                    .collect();
                if !others.is_empty() {
                    notices.push(format!(
                        "template {vmid} on {name} is kept: VM {} depends on its disk, or was \
                         created from the same image",
                        others.join(", ")
                    ));
                    continue;
                }
                let removal = StepId::RemoveTemplate(name.clone(), vmid);
                if let Some(TemplateState::Ours { cluster: maker, .. }) = state.templates.get(os) {
                    if *maker != cluster.name {
                        notices.push(format!(
                            "template {vmid} on {name} is kept: it was created for the cluster \
                             `{maker}`"
                        ));
                        continue;
                    }
                    if !steps.has(&removal) {
                        let action = action::RemoveTemplate { host: name.clone(), vmid };
                        steps.add(name, action, &gone);
                    }
                } else {
                    steps.done(removal.clone());
                }
                let Some(image) = cluster.images.get(os) else { continue };
                let import = &cluster.proxmox.hosts[name].import_storage;
                let volume = format!("{import}:import/{}", spec::image_file(os, image));
                if state.images.contains(&volume) {
                    steps.add(
                        name,
                        action::RemoveVolume { host: name.clone(), volume },
                        &[removal],
                    );
                }
            }
        }
    }
    notices.extend(steps.unknown().iter().map(|text| format!("bug in k8sha: {text}")));
    Plan {
        cluster: cluster.name.clone(),
        topology: inventory.topology.clone(),
        vms,
        steps: steps.into_steps(),
        notices,
        differences: Vec::new(),
        unwell: Vec::new(),
        look_again: Vec::new(),
    }
}

/// Something that Proxmox VE would refuse in the middle of a removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The obstacle.
    pub said: String,
    /// The commands that clear it, on its host.
    pub fix: String,
}

/// All that Proxmox VE would refuse to remove in a plan: protected and locked VMs and templates.
pub fn obstacles(cluster: &Cluster, inventory: &Inventory, plan: &Plan) -> Vec<Obstacle> {
    let mut found = Vec::new();
    for (_, _, vm) in machines(cluster, inventory) {
        let runs = matches!(vm.making, Some(Making::Runs { .. }));
        found.extend(obstacle("VM", vm.vmid, &vm.host, &vm.config, runs));
    }
    for step in &plan.steps {
        let Action::RemoveTemplate(action::RemoveTemplate { host, vmid }) = &step.action else {
            continue;
        };
        let templates = inventory.hosts.get(host).map(|state| &state.templates);
        let sources = &cluster.proxmox.hosts[host].templates;
        for (os, state) in templates.into_iter().flatten() {
            if let TemplateState::Ours { settings, .. } = state
                && sources.get(os).is_some_and(|source| source.vmid() == *vmid)
            {
                found.extend(obstacle("template", *vmid, host, settings, false));
            }
        }
    }
    found
}

fn obstacle(
    what: &str,
    vmid: VmId,
    host: &HostName,
    settings: &BTreeMap<String, String>,
    runs: bool,
) -> Option<Obstacle> {
    if settings.get("protection").is_some_and(|value| value == "1") {
        return Some(Obstacle {
            said: format!("{what} {vmid} on {host} has `protection` set"),
            fix: format!("qm set {vmid} --protection 0     (on {host})"),
        });
    }
    let lock = settings.get("lock").filter(|lock| !lock.is_empty())?;
    let fix = match runs {
        true => "a task is working on it: run again when it has finished".to_owned(),
        false => format!(
            "pvenode task list --source active     (on {host}; if no task is working on it:)\nqm \
             unlock {vmid}"
        ),
    };
    Some(Obstacle { said: format!("{what} {vmid} on {host} is locked ({lock})"), fix })
}

/// Every VM with this cluster's mark, with a row or not. Load balancers come last: as long as a
/// master exists, its API is reached through them.
fn machines<'a>(cluster: &Cluster, inventory: &'a Inventory) -> Vec<(NodeName, Role, &'a OurVm)> {
    let rows = cluster.nodes.iter().filter_map(|node| {
        let vm = inventory.ours(&node.name)?;
        Some((node.name.clone(), node.role, vm))
    });
    // Of two VMs with one node's mark, the one that the row does not match may be a user's copy.
    let strays = inventory
        .strays
        .iter()
        .filter(|stray| stray.why != StrayReason::Twin)
        .map(|stray| (stray.node.clone(), stray.vm.role().unwrap_or(Role::Worker), &stray.vm));
    let mut all: Vec<_> = rows.chain(strays).collect();
    all.sort_by_key(|(_, role, _)| std::cmp::Reverse(*role));
    all
}

type Seeds = BTreeSet<(HostName, String)>;

/// The cluster's seeds, recognised by the creation in their names or by the drive of one of its
/// VMs; and those of them that a VM of another cluster has in a drive, which are kept.
fn seeds(cluster: &Cluster, inventory: &Inventory) -> (Seeds, Vec<(HostName, String, String)>) {
    let own = machines(cluster, inventory);
    let creations: BTreeSet<&str> = own
        .iter()
        .map(|(.., vm)| vm.mark.creation.as_str())
        .chain([&*inventory.creation])
        .collect();
    let attached: BTreeSet<String> = own
        .iter()
        .filter_map(|(.., vm)| vm.config.get(spec::SEED_DRIVE))
        .map(|drive| drive.split(',').next().unwrap_or(drive).to_owned())
        .collect();
    let (mut seeds, mut kept) = (Seeds::new(), Vec::new());
    for (host, state) in &inventory.hosts {
        for volume in &state.isos {
            let ours = creations.iter().any(|creation| spec::is_seed_of(volume, creation))
                || (attached.contains(volume) && spec::is_seed_name(volume));
            if !ours {
                continue;
            }
            let other = state.attached.iter().find(|(_, held)| held.contains(volume));
            match other.filter(|(vmid, _)| !own.iter().any(|(.., vm)| vm.vmid == **vmid)) {
                Some((vmid, _)) => kept.push((host.clone(), volume.clone(), format!("VM {vmid}"))),
                None => {
                    seeds.insert((host.clone(), volume.clone()));
                }
            }
        }
    }
    (seeds, kept)
}
