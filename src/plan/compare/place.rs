//! Compares a row with where its VM is: VMID, host, pool and storage.

use super::{Class, Difference};
use crate::cluster::{CloneMode, Cluster, Node, TemplateSource};
use crate::plan::inventory::{Inventory, OurVm, TemplateState};
use crate::plan::spec;

/// Every difference between where a row's VM is and where the profile puts it.
pub(super) fn differences(
    cluster: &Cluster,
    node: &Node,
    vm: &OurVm,
    inventory: &Inventory,
    found: &mut Vec<Difference>,
) {
    if vm.vmid != node.vmid {
        let other = named_by(cluster, node, vm);
        let next = match other {
            Some(other) => format!(
                "the row of {} has that VMID: a machine keeps its name, VMID and address, so \
                 restore both rows",
                other.name
            ),
            None => format!("set `vmid: {}` again: a VMID cannot be changed", vm.vmid),
        };
        found.push(Difference {
            on: node.name.to_string(),
            what: "vmid".into(),
            have: format!("{} on {}", vm.vmid, vm.host),
            want: node.vmid.to_string(),
            class: Class::NewMachine,
            blocks: true,
            next,
        });
        // If it is on another host, too, that difference includes it.
        return;
    }
    if vm.host != node.host {
        found.push(Difference {
            on: node.name.to_string(),
            what: "pve".into(),
            have: format!("{} (VM {})", vm.host, vm.vmid),
            want: node.host.to_string(),
            class: Class::NotFollowed,
            blocks: true,
            next: format!(
                "migrate it (`qm migrate {} {}` on {}), or set `pve: {}` in the profile",
                vm.vmid, node.host, vm.host, vm.host
            ),
        });
    }
    pool(cluster, node, vm, inventory, found);
    if vm.host == node.host {
        storage(cluster, node, vm, inventory, found);
    }
}

/// The other row that has the VMID of a row's VM, for example after rows were swapped.
fn named_by<'a>(cluster: &'a Cluster, node: &Node, vm: &OurVm) -> Option<&'a Node> {
    let other = |row: &&Node| row.vmid == vm.vmid && row.host == vm.host && row.name != node.name;
    cluster.nodes.iter().find(other)
}

/// Whether another row has the VMID of a row's VM.
pub(super) fn is_of_another_row(cluster: &Cluster, node: &Node, vm: &OurVm) -> bool {
    vm.vmid != node.vmid && named_by(cluster, node, vm).is_some()
}

/// The pool of a row's VM. If the profile has none, the user decides.
fn pool(
    cluster: &Cluster,
    node: &Node,
    vm: &OurVm,
    inventory: &Inventory,
    found: &mut Vec<Difference>,
) {
    let Some(want) = &cluster.proxmox.pool else { return };
    let Some(have) = inventory.pools.get(&node.name) else { return };
    if have.as_ref() == Some(want) {
        return;
    }
    found.push(Difference {
        on: node.name.to_string(),
        what: "proxmox.pool".into(),
        have: have.clone().unwrap_or_else(|| "none".into()),
        want: want.clone(),
        class: Class::NotFollowed,
        blocks: false,
        next: format!(
            "`pvesh set /pools --poolid {want} --vms {}{}` on {}; k8sha has no privilege to change \
             pools",
            vm.vmid,
            if have.is_some() { " --allow-move 1" } else { "" },
            vm.host
        ),
    });
}

/// The storage of a row's disk. A linked clone of an operator's template is on the storage of the
/// template: Proxmox VE accepts a storage for full clones only (qemu-server src/PVE/API2/Qemu.pm,
/// `clone_vm`).
fn storage(
    cluster: &Cluster,
    node: &Node,
    vm: &OurVm,
    inventory: &Inventory,
    found: &mut Vec<Difference>,
) {
    let Some(host) = cluster.proxmox.hosts.get(&node.host) else { return };
    let (want, have) = (&host.storage, vm.config.get(spec::DISK).and_then(|disk| storage_of(disk)));
    let Some(have) = have.filter(|have| have != want) else { return };
    let theirs = matches!(host.templates.get(&node.os), Some(TemplateSource::Theirs(_)));
    if theirs && cluster.proxmox.clone == CloneMode::Linked {
        let state = inventory.hosts.get(&node.host).and_then(|host| host.templates.get(&node.os));
        let disk = state.and_then(TemplateState::settings).and_then(|all| all.get(spec::DISK));
        if disk.is_none_or(|disk| storage_of(disk) == Some(have)) {
            return;
        }
    }
    let known = inventory.hosts.get(&node.host).map(|state| &state.storages);
    let unknown = known.is_some_and(|known| !known.is_empty() && !known.contains(want));
    let back = format!("set `storage: {have}` on {} again", node.host);
    let next = match unknown {
        true => format!("{back}: storage `{want}` does not exist or is not visible to k8sha"),
        false => format!(
            "{back}; or `qm disk move {0} {1} {want} --delete 1` on {2}, which copies the whole \
             disk while the machine runs",
            vm.vmid,
            spec::DISK,
            node.host
        ),
    };
    found.push(Difference {
        on: node.name.to_string(),
        what: "storage of the disk".into(),
        have: have.to_owned(),
        want: want.clone(),
        class: Class::NotFollowed,
        blocks: false,
        next,
    });
}

/// The storage of a drive's volume.
pub fn storage_of(drive: &str) -> Option<&str> {
    let volume = drive.split(',').next()?.trim_start_matches("file=");
    volume.split_once(':').map(|(storage, _)| storage)
}
