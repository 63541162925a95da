//! Plans where seeds are: with a machine until its first boot is over, and nowhere after that.
//!
//! A seed contains the private SSH host key of its machine. cloud-init reads it once.

use std::collections::BTreeSet;

use super::Draft;
use crate::cluster::{HostName, Node, VmId};
use crate::plan::action::{self, StepId};
use crate::plan::inventory::OurVm;
use crate::plan::{StoredSeed, spec};

impl Draft<'_> {
    /// Whether a node's machine needs its seed in its drive at the next boot.
    ///
    /// A failed first boot is repeated, and if a drive names a seed the file must exist, or Proxmox
    /// VE does not start the VM: for example one that was restored from an early backup.
    pub(super) fn needs_seed(&self, node: &Node) -> bool {
        let Some(vm) = self.ours(node) else { return true };
        if self.booted(node) {
            return false;
        }
        let failed = self.inventory.nodes.get(&node.name).is_some_and(|state| state.failed);
        failed || vm.mark.read.is_none() || in_drive(vm).is_some()
    }

    /// Ejects the seed of a machine whose first boot is over or waited for, and deletes all of its
    /// seed files.
    pub(super) fn eject(&mut self, node: &Node) {
        let name = node.name.clone();
        let waited = self.steps.has(&StepId::Boot(name.clone()));
        if !waited && !self.booted(node) {
            return;
        }
        let mut seeds = self.stored(node.name.as_str());
        let own = self.ours(node);
        if let Some((host, volume)) = own.and_then(|vm| Some((vm.host.clone(), in_drive(vm)?))) {
            seeds.insert(StoredSeed { host, volume });
        }
        if waited && self.needs_seed(node) {
            let storage = &self.cluster.proxmox.hosts[&node.host].iso_storage;
            let volume = format!("{storage}:iso/{}", self.specs[&name].seed_file);
            seeds.insert(StoredSeed { host: node.host.clone(), volume });
        }
        let own = own.map(|vm| (vm.host.clone(), vm.vmid));
        self.keep_others(&mut seeds, own.as_ref());
        if !seeds.is_empty() {
            let action = action::Eject { node: name.clone(), seeds };
            self.steps.add(&name, action, &[StepId::Boot(name.clone())]);
        }
    }

    /// Deletes the seeds of this creation whose nodes no longer have a row.
    pub(super) fn leftover_seeds(&mut self) {
        let (cluster, inventory) = (self.cluster, self.inventory);
        let gone = |volume: &str| {
            let node = spec::seed_node(volume, &inventory.creation);
            node.is_some_and(|node| cluster.nodes.iter().all(|row| row.name.as_str() != node))
        };
        let mut seeds =
            stored(inventory.hosts.iter().map(|(host, state)| (host, &state.isos)), gone);
        self.keep_others(&mut seeds, None);
        for StoredSeed { host, volume } in seeds {
            let on = host.clone();
            self.steps.add(on, action::DeleteSeed { seed: StoredSeed { host, volume } }, &[]);
        }
    }

    /// The seeds of this creation for a node on the storages.
    fn stored(&self, node: &str) -> BTreeSet<StoredSeed> {
        let hosts = self.inventory.hosts.iter().map(|(host, state)| (host, &state.isos));
        stored(hosts, |volume| spec::seed_node(volume, &self.inventory.creation) == Some(node))
    }

    /// Keeps seeds that another VM has in a drive.
    fn keep_others(&mut self, seeds: &mut BTreeSet<StoredSeed>, own: Option<&(HostName, VmId)>) {
        let inventory = self.inventory;
        seeds.retain(|seed| {
            // Storages may be shared, so a VM on any host counts.
            let mut holders = inventory.hosts.iter().flat_map(|(host, state)| {
                let all = state.attached.iter();
                all.filter(|(_, held)| held.contains(&seed.volume))
                    .map(move |(vmid, _)| (host, *vmid))
            });
            let other = holders
                .find(|(host, vmid)| own.is_none_or(|(at, own)| (*host, *vmid) != (at, *own)));
            if let Some((host, vmid)) = other {
                self.notices.push(format!(
                    "{} on {} is kept: VM {vmid} on {host} has it in a drive",
                    seed.volume, seed.host
                ));
            }
            other.is_none()
        });
    }
}

fn stored<'a>(
    hosts: impl Iterator<Item = (&'a HostName, &'a BTreeSet<String>)>,
    wanted: impl Fn(&str) -> bool,
) -> BTreeSet<StoredSeed> {
    let all = hosts.flat_map(|(host, volumes)| volumes.iter().map(move |volume| (host, volume)));
    all.filter(|(_, volume)| wanted(volume))
        .map(|(host, volume)| StoredSeed { host: host.clone(), volume: volume.clone() })
        .collect()
}

/// The seed of its own that a VM has in its drive.
fn in_drive(vm: &OurVm) -> Option<String> {
    let drive = vm.config.get(spec::SEED_DRIVE)?;
    let volume = drive.split(',').next().unwrap_or(drive);
    spec::is_own_seed(volume, &vm.mark).then(|| volume.to_owned())
}
