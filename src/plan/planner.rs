//! Computes the plan from the profile and the existing state. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::action::{self, SeedDrive, StepId};
use super::compare::{self, Difference};
use super::conflicts::{Conflict, conflicts};
use super::draft::Steps;
use super::first_start;
use super::inventory::{Inventory, OurVm, TemplateState};
use super::machines;
use super::removal;
use super::spec::{self, NodeSpec};
use super::template;
use super::{Disposition, Plan, PlannedVm};
use crate::cluster::{Cluster, HostName, Node, NodeName, TemplateSource, VmId};

mod balance;
mod bootstrap;
mod disks;
mod removals;
mod seeds;
#[cfg(test)]
mod tests;

/// The part of the job that is planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The hosts to act on; `None` means all of them.
    pub hosts: Option<BTreeSet<HostName>>,
    /// Whether VMs are created.
    pub provision: bool,
    /// Whether Kubernetes is set up.
    pub bootstrap: bool,
    /// Which machines leave a running cluster.
    pub leaves: Leaves,
}

/// Which machines leave a running cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leaves {
    /// None: a machine without a row is a difference that blocks.
    None,
    /// Those without a row.
    Rowless,
    /// That of one row, to be created again.
    Row(NodeName),
}

impl Part {
    /// The whole job.
    pub fn all() -> Self {
        Self { hosts: None, provision: true, bootstrap: true, leaves: Leaves::Rowless }
    }

    /// Whether a host is acted on.
    pub fn covers(&self, host: &HostName) -> bool {
        self.hosts.as_ref().is_none_or(|hosts| hosts.contains(host))
    }
}

/// The wanted state of each node's VM, by node.
pub type Specs = BTreeMap<NodeName, NodeSpec>;

/// Why there is no plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Refusal {
    /// The conflicts.
    pub conflicts: Vec<Conflict>,
    /// Every difference between the profile and what runs; some of them block.
    pub differences: Vec<Difference>,
}

/// Plans the job.
///
/// # Errors
/// All conflicts at once; nothing was changed then.
pub fn plan(
    cluster: &Cluster,
    specs: &Specs,
    inventory: &Inventory,
    part: &Part,
) -> Result<Plan, Refusal> {
    let mut refusal = Refusal {
        conflicts: conflicts(cluster, specs, inventory, part),
        differences: compare::differences(cluster, specs, inventory, part),
    };
    if !refusal.conflicts.is_empty() || refusal.differences.iter().any(|one| one.blocks) {
        return Err(refusal);
    }
    let mut draft = Draft {
        cluster,
        specs,
        inventory,
        part,
        steps: Steps::default(),
        notices: machines::unseen(inventory),
        refusals: Vec::new(),
        look_again: Vec::new(),
        held: BTreeSet::new(),
        leaving: Vec::new(),
    };
    draft.hold_back();
    draft.held.extend(removal::replaced(cluster, inventory, part).map(|it| it.node.clone()));
    draft.leave_out();
    let mut vms = draft.vms();
    if part.provision {
        draft.provision();
    }
    draft.boots();
    draft.leftover_seeds();
    draft.balance();
    if part.bootstrap {
        draft.bootstrap();
    }
    vms.retain(|vm| !draft.leaving.iter().any(|it| it.node == vm.node));
    vms.append(&mut draft.leaving);
    let wrong = draft.steps.unknown().iter().map(|text| {
        Conflict::new(
            "plan",
            format!("bug in k8sha: {text}"),
            "please report it; nothing was changed",
        )
    });
    draft.refusals.extend(wrong.collect::<Vec<_>>());
    if !draft.refusals.is_empty() {
        refusal.conflicts = draft.refusals;
        return Err(refusal);
    }
    Ok(Plan {
        cluster: cluster.name.clone(),
        topology: inventory.topology.clone(),
        vms,
        steps: draft.steps.into_steps(),
        notices: draft.notices,
        differences: refusal.differences,
        unwell: compare::unwell(cluster, inventory, part),
        look_again: draft.look_again,
    })
}

struct Draft<'a> {
    cluster: &'a Cluster,
    specs: &'a Specs,
    inventory: &'a Inventory,
    part: &'a Part,
    steps: Steps,
    notices: Vec<String>,
    refusals: Vec<Conflict>,
    look_again: Vec<String>,
    /// Rows whose machines are not created now: their cluster was created before and does not
    /// answer.
    held: BTreeSet<NodeName>,
    /// The VMs that are removed because they have no row.
    leaving: Vec<PlannedVm>,
}

impl Draft<'_> {
    /// The rows to act on, in the order in which their steps queue: what the first `kubeadm init`
    /// waits for comes first.
    fn rows(&self) -> Vec<&Node> {
        let first = self.cluster.first_master().name.clone();
        let mut rows: Vec<&Node> =
            self.cluster.nodes.iter().filter(|node| self.part.covers(&node.host)).collect();
        rows.retain(|node| !self.held.contains(&node.name));
        rows.sort_by_key(|node| (node.name != first, node.role));
        rows
    }

    /// Records what no step is planned for: rows of other hosts, and all of `provision` in a run
    /// that creates no VMs.
    fn leave_out(&mut self) {
        let acted: BTreeSet<NodeName> =
            self.rows().into_iter().map(|node| node.name.clone()).collect();
        for node in &self.cluster.nodes {
            let acts = acted.contains(&node.name);
            if acts && self.part.provision {
                continue;
            }
            let made =
                [StepId::Seed, StepId::Clone, StepId::Configure, StepId::Grow, StepId::Start];
            made.into_iter().for_each(|step| self.steps.done(step(node.name.clone())));
            if !acts {
                self.steps.done(StepId::Boot(node.name.clone()));
                self.steps.done(StepId::NodeDns(node.name.clone()));
            }
        }
    }

    fn ours(&self, node: &Node) -> Option<&OurVm> {
        self.inventory.ours(&node.name)
    }

    fn booted(&self, node: &Node) -> bool {
        self.inventory.nodes.get(&node.name).is_some_and(|state| state.booted)
    }

    /// The host that holds a host's template: itself, unless two hosts of one Proxmox VE cluster
    /// have the same VMID and the same (shared) storage; then the first of them.
    fn home(&self, host: &HostName, os: &str) -> HostName {
        let hosts = &self.cluster.proxmox.hosts;
        let own = &hosts[host];
        let same = |other: &crate::cluster::Host| {
            other.storage == own.storage && other.templates.get(os) == own.templates.get(os)
        };
        let first = hosts.iter().find(|(_, other)| same(other)).map(|(name, _)| name.clone());
        first.filter(|_| self.inventory.one_cluster).unwrap_or_else(|| host.clone())
    }

    fn vms(&mut self) -> Vec<PlannedVm> {
        let cluster = self.cluster;
        cluster
            .nodes
            .iter()
            .filter(|node| self.part.covers(&node.host))
            .map(|node| {
                let disposition = match self.ours(node) {
                    None if self.part.provision && !self.held.contains(&node.name) => {
                        Disposition::Created
                    }
                    None => Disposition::Absent,
                    Some(vm) => {
                        let changes = self.changes(node, vm);
                        if !self.part.provision {
                            Disposition::Kept
                        } else if changes.is_empty() {
                            if vm.running() { Disposition::Kept } else { Disposition::Started }
                        } else {
                            Disposition::Changed { changes }
                        }
                    }
                };
                PlannedVm {
                    node: node.name.clone(),
                    role: node.role,
                    host: node.host.clone(),
                    vmid: node.vmid,
                    disposition,
                }
            })
            .collect()
    }

    /// What differs in a VM, except what a running guest no longer reads.
    fn changes(&self, node: &Node, vm: &OurVm) -> Vec<super::Change> {
        let mut changes = spec::changes(&self.specs[&node.name], &vm.config);
        if !vm.running() {
            first_start::add(&mut changes, &self.specs[&node.name], &vm.config);
        }
        if !self.needs_seed(node) {
            changes.retain(|change| change.key != spec::SEED_DRIVE);
            if let [only] = changes.as_slice()
                && only.key == "description"
            {
                // Only the seed differs, and that is reported as a difference.
                changes.clear();
            }
            if !vm.config.contains_key(spec::SEED_DRIVE) {
                // The boot order names it. Where the removal of the drive waits for the next stop,
                // only a new value of the drive itself takes the removal back.
                changes.push(super::Change {
                    key: spec::SEED_DRIVE.to_owned(),
                    from: String::new(),
                    to: spec::EJECTED.to_owned(),
                });
            }
        }
        let want = u64::from(node.disk_gib) << 30;
        if vm.disk_bytes.is_some_and(|have| have < want) {
            changes.push(super::Change {
                key: spec::DISK.to_owned(),
                from: format!("{}G", vm.disk_bytes.unwrap_or_default() as f64 / f64::from(1 << 30)),
                to: format!("{}G", node.disk_gib),
            });
        }
        changes
    }

    fn provision(&mut self) {
        let rows: Vec<Node> = self.rows().into_iter().cloned().collect();
        let whole_dns = rows.iter().any(|node| self.ours(node).is_none_or(|vm| !vm.running()));
        if whole_dns {
            self.steps.add("name servers", action::Dns, &[]);
        } else {
            self.steps.done(StepId::Dns);
        }
        self.templates(&rows);
        for node in &rows {
            self.vm(node);
        }
    }

    fn boots(&mut self) {
        let rows: Vec<Node> = self.rows().into_iter().cloned().collect();
        rows.iter().for_each(|node| self.boot(node));
    }

    /// Waits for a node's first boot, unless it is over; then the seed is no longer needed.
    fn boot(&mut self, node: &Node) {
        self.first_boot(node);
        self.eject(node);
    }

    fn first_boot(&mut self, node: &Node) {
        let name = node.name.clone();
        if self.ours(node).is_some_and(|vm| vm.running()) && self.booted(node) {
            self.steps.done(StepId::Boot(name.clone()));
            self.steps.done(StepId::NodeDns(name));
            return;
        }
        let again = self.inventory.nodes.get(&name).is_some_and(|state| state.failed);
        // A first boot that is repeated reads the seed again, and fills the disk.
        let needs = [StepId::Seed, StepId::Configure, StepId::Grow, StepId::Start];
        let needs = needs.map(|step| step(name.clone()));
        let boot = self.steps.add(&name, action::Boot { node: name.clone(), again }, &needs);
        self.steps.add(&name, action::NodeDns { node: name.clone() }, &[boot]);
    }

    fn templates(&mut self, rows: &[Node]) {
        let mut wanted: Vec<(HostName, String)> = Vec::new();
        for node in rows.iter().filter(|node| self.ours(node).is_none()) {
            let pair = (self.home(&node.host, &node.os), node.os.clone());
            if !wanted.contains(&pair) {
                wanted.push(pair);
            }
        }
        for (name, os) in wanted {
            let host = &self.cluster.proxmox.hosts[&name];
            let Some(source) = host.templates.get(&os).copied() else { continue };
            let state = self.inventory.hosts.get(&name).cloned().unwrap_or_default();
            let settings = state.templates.get(&os).and_then(TemplateState::settings);
            let told = settings.and_then(|settings| template::notice(source.vmid(), settings));
            self.notices.extend(told.map(|told| format!("{name}: {told}")));
            let made = matches!(
                state.templates.get(&os),
                Some(TemplateState::Ours { template: true, .. })
            );
            let TemplateSource::Ours(vmid) = source else {
                self.steps.done(StepId::Template(name, os));
                continue;
            };
            if made {
                self.steps.done(StepId::Template(name, os));
                continue;
            }
            let image = &self.cluster.images[&os];
            let file = spec::image_file(&os, image);
            let volume = format!("{}:import/{file}", host.import_storage);
            if state.images.contains(&volume) {
                self.steps.done(StepId::Image(name.clone(), os.clone()));
            } else {
                self.steps.add(
                    &name,
                    action::Image {
                        host: name.clone(),
                        os: os.clone(),
                        storage: host.import_storage.clone(),
                        file,
                        url: image.url.clone(),
                        sha256: image.sha256.clone(),
                    },
                    &[StepId::Dns],
                );
            }
            self.steps.add(
                &name,
                action::Template {
                    host: name.clone(),
                    vmid,
                    os: os.clone(),
                    image: volume,
                    storage: host.storage.clone(),
                    spec: spec::template_spec(&os, image),
                    disk_gib: self.common_disk(&name, &os),
                },
                &[StepId::Dns, StepId::Image(name.clone(), os.clone())],
            );
        }
    }

    fn vm(&mut self, node: &Node) {
        let name = node.name.clone();
        let host = self.cluster.proxmox.hosts[&node.host].clone();
        let ours = self.ours(node).cloned();
        if let Some(called) = ours.as_ref().and_then(|vm| vm.config.get("name"))
            && *called != name.0
        {
            // Its mark identifies it; the user may rename it in Proxmox VE.
            self.notices.push(format!("{name}: VM {} is now named `{called}`", node.vmid));
        }
        let wanted = Arc::new(self.specs[&name].clone());
        let needs_seed = self.needs_seed(node);
        let file = wanted.seed_file.clone();
        let volume = format!("{}:iso/{file}", host.iso_storage);
        let uploaded =
            self.inventory.hosts.get(&node.host).is_some_and(|state| state.isos.contains(&volume));
        if !needs_seed || uploaded {
            self.steps.done(StepId::Seed(name.clone()));
        } else {
            self.steps.add(
                &name,
                action::Seed {
                    node: name.clone(),
                    host: node.host.clone(),
                    storage: host.iso_storage.clone(),
                    file,
                },
                &[StepId::Dns],
            );
        }
        let source = host.templates.get(&node.os).map_or(VmId(0), |source| source.vmid());
        let home = self.home(&node.host, &node.os);
        if ours.is_some() {
            self.steps.done(StepId::Clone(name.clone()));
        } else {
            self.steps.add(
                &name,
                action::Clone {
                    node: name.clone(),
                    host: node.host.clone(),
                    home: home.clone(),
                    source,
                    vmid: node.vmid,
                    full: self.cluster.proxmox.clone == crate::cluster::CloneMode::Full,
                    storage: self.clone_storage(node, &home),
                    pool: self.cluster.proxmox.pool.clone(),
                    wanted: Arc::clone(&wanted),
                },
                &[StepId::Dns, StepId::Template(home.clone(), node.os.clone())],
            );
        }
        let changes = ours.as_ref().map(|vm| self.changes(node, vm)).unwrap_or_default();
        let (grow, changes): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|change| change.key == spec::DISK);
        let of = |step: fn(NodeName) -> StepId| step(name.clone());
        if ours.is_none() || !changes.is_empty() {
            let drive = changes.iter().find(|change| change.key == spec::SEED_DRIVE);
            let seed = match drive {
                _ if ours.is_none() => SeedDrive::New,
                None => SeedDrive::Stays,
                Some(drive) if drive.to == spec::EJECTED => SeedDrive::Emptied,
                Some(_) => SeedDrive::New,
            };
            let (node, host, vmid) = (name.clone(), node.host.clone(), node.vmid);
            let action = action::Configure { node, host, vmid, changes, seed, wanted };
            self.steps.add(&name, action, &[of(StepId::Clone), of(StepId::Seed)]);
        } else {
            self.steps.done(of(StepId::Configure));
        }
        if !grow.is_empty() || (ours.is_none() && self.begins_too_small(node, &home)) {
            let action = action::Grow {
                node: name.clone(),
                host: node.host.clone(),
                vmid: node.vmid,
                to_gib: node.disk_gib,
            };
            self.steps.add(&name, action, &[of(StepId::Clone), of(StepId::Configure)]);
        } else {
            self.steps.done(of(StepId::Grow));
        }
        if ours.as_ref().is_none_or(|vm| !vm.running()) {
            let needs = [of(StepId::Configure), of(StepId::Grow), of(StepId::Seed)];
            let action = action::Start {
                node: name.clone(),
                host: node.host.clone(),
                vmid: node.vmid,
                disk_gib: node.disk_gib,
            };
            self.steps.add(&name, action, &needs);
        } else {
            self.steps.done(of(StepId::Start));
        }
    }
}
