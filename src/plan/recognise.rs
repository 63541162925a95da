//! Assigns the VMs found to the rows, by their marks. Pure.

use std::collections::BTreeSet;

use super::inventory::{Hardware, Inventory, Making, OurVm, Stray, StrayReason, VmState, is_empty};
use crate::cluster::{Cluster, HostName, Node, NodeName, VmId};
use crate::mark::{Mark, Marked};
use crate::proxmox::is_making;
use crate::proxmox::wire::VmConfig;

/// A VM that may belong to the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Its host.
    pub host: HostName,
    /// Its VMID.
    pub vmid: VmId,
    /// Its hardware in use; `None` if it is not running.
    pub running: Option<Hardware>,
    /// QEMU's state if it is not running, such as `paused`.
    pub halted: Option<String>,
    /// Whether a task is creating it, if it has the lock of a VM that is being created.
    pub making: Option<Making>,
    /// Its configuration.
    pub config: VmConfig,
}

/// Why a VM without any mark is not this cluster's.
pub const UNMARKED: &str = "it has no k8sha mark";

/// Assigns a VM to every row, and lists the VMs with this cluster's mark that match no row.
pub fn sort(cluster: &Cluster, creation: &str, found: Vec<Found>, inventory: &mut Inventory) {
    let mut marked: Vec<(NodeName, OurVm)> = Vec::new();
    // A VM with a mark is created already, whatever its lock.
    let is_being_made =
        |vm: &Found| vm.config.mark().is_none() && vm.config.lock().is_some_and(is_making);
    let (making, found): (Vec<Found>, Vec<Found>) = found.into_iter().partition(is_being_made);
    let mut others: Vec<Found> = Vec::new();
    for vm in found {
        match vm.config.mark() {
            Some(mark @ Mark { node: Some(_), .. }) if mark.cluster == cluster.name => {
                let node = mark.node.clone().unwrap_or_else(|| NodeName(String::new()));
                marked.push((node, OurVm::new(vm, mark)));
            }
            _ => others.push(vm),
        }
    }
    for row in &cluster.nodes {
        let state = match take_best(row, creation, &mut marked) {
            Some(vm) => VmState::Ours(Box::new(vm)),
            None => match making.iter().find(|vm| vm.vmid == row.vmid && vm.host == row.host) {
                Some(vm) => VmState::Underway {
                    host: vm.host.clone(),
                    vmid: vm.vmid,
                    making: vm.making.clone().unwrap_or(Making::Unseen),
                    empty: is_empty(&vm.config),
                    lock: vm.config.lock().unwrap_or_default().to_owned(),
                },
                None => stranger(cluster, row, inventory.one_cluster, &others, &marked),
            },
        };
        inventory.vms.insert(row.name.clone(), state);
    }
    for (node, vm) in marked {
        let why = match cluster.node(&node) {
            _ if vm.mark.creation != creation => StrayReason::OtherCreation,
            Some(_) => StrayReason::Twin,
            None => StrayReason::NoRow,
        };
        inventory.strays.push(Stray { node, why, vm });
    }
}

/// Of the VMs with a row's mark, takes the most likely one: created with this state folder, and on
/// the row's host and VMID. Any other one is a twin.
fn take_best(row: &Node, creation: &str, marked: &mut Vec<(NodeName, OurVm)>) -> Option<OurVm> {
    let rank = |vm: &OurVm| {
        (vm.mark.creation == creation, vm.vmid == row.vmid, vm.host == row.host, vm.running())
    };
    let of_row = marked.iter().enumerate().filter(|(_, (node, _))| *node == row.name);
    let best = of_row.max_by_key(|(_, (_, vm))| rank(vm)).map(|(at, _)| at)?;
    Some(marked.remove(best).1)
}

/// The VM on a row's VMID, if no VM has the row's mark.
fn stranger(
    cluster: &Cluster,
    row: &Node,
    one_cluster: bool,
    others: &[Found],
    marked: &[(NodeName, OurVm)],
) -> VmState {
    // VMIDs are unique in one Proxmox VE cluster, else per host.
    let here = |host: &HostName, vmid: VmId| {
        vmid == row.vmid
            && (*host == row.host || one_cluster || !cluster.proxmox.hosts.contains_key(host))
    };
    if let Some((node, vm)) = marked.iter().find(|(_, vm)| here(&vm.host, vm.vmid)) {
        return VmState::Foreign {
            host: vm.host.clone(),
            name: vm.config.get("name").cloned().unwrap_or_default(),
            why: format!("its mark identifies it as `{node}` of this cluster"),
        };
    }
    let Some(vm) = others.iter().find(|vm| here(&vm.host, vm.vmid)) else {
        return VmState::Absent;
    };
    let why = match vm.config.mark() {
        _ if !cluster.proxmox.hosts.contains_key(&vm.host) => {
            "it is on a host that is not in the profile".to_owned()
        }
        None => UNMARKED.to_owned(),
        Some(mark) if mark.cluster != cluster.name => {
            format!("it belongs to the cluster `{}`", mark.cluster)
        }
        Some(_) => "its mark identifies it as a template of this cluster".to_owned(),
    };
    let name = vm.config.name().unwrap_or("unnamed").to_owned();
    VmState::Foreign { host: vm.host.clone(), name, why }
}

/// Which VMs with a mark, of any cluster, were created from which of k8sha's templates on this
/// host: not every storage shows it. Marks of a former release do not say, so any template may be
/// meant.
pub fn clones(found: &[Found]) -> Vec<(VmId, VmId)> {
    let marked = |vm: &&Found| vm.config.mark().is_some_and(|mark| mark.node.is_some());
    let mut clones = Vec::new();
    for template in found {
        let Some(mark) = template.config.mark().filter(|mark| mark.node.is_none()) else {
            continue;
        };
        for vm in found.iter().filter(marked) {
            let made = vm.config.mark().and_then(|mark| mark.machine);
            if made.is_none_or(|made| made.image.ends_with(&format!(" {}", mark.spec))) {
                clones.push((template.vmid, vm.vmid));
            }
        }
    }
    clones
}

/// The ISO images in a VM's drives.
pub fn images(config: &VmConfig) -> BTreeSet<String> {
    let drive = |key: &str| {
        ["ide", "sata", "scsi", "virtio"].iter().any(|bus| {
            key.strip_prefix(bus).is_some_and(|number| {
                !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
            })
        })
    };
    let volume = |value: &String| value.split(',').next().unwrap_or(value).to_owned();
    let drives = config.0.iter().filter(|(key, _)| drive(key));
    drives.map(|(_, value)| volume(value)).filter(|volume| volume.contains(":iso/")).collect()
}
