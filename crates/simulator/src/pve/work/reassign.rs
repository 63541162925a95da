//! Reassigns a disk to another VM (qemu-server src/PVE/API2/Qemu.pm, `move_vm_disk`).

use serde::{Deserialize, Serialize};

use super::{Next, Turn};
use crate::pve::config::{self, Change};
use crate::pve::disks;
use crate::pve::drive::{self, Drive, Layout};
use crate::pve::pace;
use crate::pve::state::{Datacenter, Vm};
use crate::pve::task::vm_lock;

/// A requested reassignment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reassign {
    /// The VM that has the disk.
    pub vmid: u32,
    /// The drive's option name there.
    pub disk: String,
    /// The target VM.
    pub target: u32,
    /// The drive's option name there.
    pub target_disk: String,
    /// The digests of the two configurations at the request.
    pub digests: [Option<String>; 2],
}

/// A VM, unless it is locked.
fn unlocked(dc: &Datacenter, vmid: u32) -> Result<&Vm, String> {
    let vm = dc.vms.get(&vmid).ok_or_else(|| format!("could not find VM {vmid}"))?;
    match &vm.lock {
        Some(lock) => Err(format!("VM is locked ({lock})")),
        None => Ok(vm),
    }
}

/// Checks that a disk can be reassigned, and returns its drive.
///
/// # Errors
/// Why it cannot be reassigned.
pub fn check(dc: &Datacenter, work: &Reassign) -> Result<Drive, String> {
    let Reassign { vmid, disk, target, target_disk, .. } = work;
    if !dc.vms.contains_key(target) {
        return Err(format!("could not find target VM {target}"));
    }
    let there = dc.vms.get(vmid).zip(dc.vms.get(target));
    if let Some((one, other)) = there.filter(|(one, other)| one.host != other.host) {
        let (one, other) = (&one.host, &other.host);
        return Err(format!("Both VMs need to be on the same node ({one} != {other})"));
    }
    let (vm, getter) = (unlocked(dc, *vmid)?, unlocked(dc, *target)?);
    if vm.is_template() || getter.is_template() {
        return Err("Can't move disks from or to template VMs".to_owned());
    }
    for ((vmid, vm), known) in [(vmid, vm), (target, getter)].into_iter().zip(&work.digests) {
        if known.as_ref().is_some_and(|known| *known != vm.digest()) {
            let text = "detected modified configuration - file changed by other user? Try again.";
            return Err(format!("VM {vmid}: {text}"));
        }
    }
    let missing = || format!("Disk '{disk}' for VM '{vmid}' does not exist");
    let drive = Drive::parse(vm.config.get(disk).ok_or_else(missing)?);
    if getter.config.contains_key(target_disk) {
        let text = format!("Target disk key '{target_disk}' is already in use for VM '{target}'");
        return Err(text);
    }
    if drive.is_cdrom() && !drive.is_cloudinit() {
        return Err("CD drive contents can't be moved to another VM".to_owned());
    }
    if drive.is_cloudinit() {
        return Err("giving a cloud-init drive to another VM is not simulated".to_owned());
    }
    let others = vm.drives().filter(|(key, _)| key != disk);
    if vm.in_snapshot(&drive.volume) || others.into_iter().any(|(_, d)| d.volume == drive.volume) {
        return Err("Can't move disk used by a snapshot to another VM".to_owned());
    }
    if drive::is_base(&drive.volume) {
        return Err("Storage does not support moving of this disk to another VM".to_owned());
    }
    if vm.running.is_some() && !disk.starts_with("unused") {
        let text = "Cannot move disk to another VM while the source VM is running - detach first";
        return Err(text.to_owned());
    }
    Ok(drive)
}

/// The only stage, once both configurations are locked.
pub fn step(turn: &mut Turn, work: &Reassign) -> Result<Next, Next> {
    let Reassign { vmid, disk, target, target_disk, .. } = work;
    let host = turn.host();
    if turn.task.stage == 0 {
        turn.lock(&vm_lock(&host, *vmid), false, pace::VM_LOCK_WAIT)?;
        turn.task.stage = 1;
    }
    turn.lock(&vm_lock(&host, *target), false, pace::VM_LOCK_WAIT)?;
    let fail = |text: String| Next::End(Err(text));
    let mut drive = check(turn.dc(), work).map_err(fail)?;
    turn.say(format!(
        "reassign disk '{disk}' from VM '{vmid}' as '{target_disk}' to VM '{target}'"
    ));
    let dc = turn.dc();
    let volid = renamed(dc, &host, &drive, *target)
        .ok_or_else(|| fail(format!("volume '{}' does not exist", drive.volume)))?;
    drive.volume.clone_from(&volid);
    let mut lines = Vec::new();
    if let Some(vm) = dc.vms.get_mut(vmid) {
        vm.config.remove(disk);
        if leave_boot_order(vm, disk) {
            lines.push(format!("removing disk '{disk}' from boot order config"));
        }
        lines.push(format!("removing disk '{disk}' from VM '{vmid}' config"));
    }
    lines.into_iter().for_each(|line| turn.say(line));
    if target_disk.starts_with("unused") {
        if let Some(vm) = turn.dc().vms.get_mut(target) {
            vm.config.insert(target_disk.clone(), volid);
        }
        return Ok(Next::End(Ok(())));
    }
    let set = [(target_disk.clone(), drive.to_string())].into();
    let change = Change { set, ..Change::default() };
    let (dc, unix) = (turn.dc, turn.unix());
    config::apply(&mut turn.world.pve, dc, &host, *target, &change, unix).map_err(fail)?;
    Ok(Next::End(Ok(())))
}

/// Renames a volume for another VM; a linked clone remains one.
fn renamed(dc: &mut Datacenter, host: &str, drive: &Drive, target: u32) -> Option<String> {
    let storage = drive.storage()?.to_owned();
    let layout = Layout::of(&dc.storages.get(&storage)?.kind);
    let name = disks::free_name(dc, host, &storage, target);
    let volume = dc.volume_mut(host, &drive.volume)?;
    let volid = match &volume.parent {
        Some(base) => layout.linked(base, target, &name, &volume.format),
        None => layout.volid(&storage, target, &name, &volume.format),
    };
    volume.volid.clone_from(&volid);
    volume.vmid = Some(target);
    Some(volid)
}

/// Removes a drive from the boot order; returns whether it was in it.
fn leave_boot_order(vm: &mut Vm, disk: &str) -> bool {
    let order = vm.config.get("boot").and_then(|boot| boot.strip_prefix("order="));
    let Some(order) = order.filter(|order| order.split(';').any(|key| key == disk)) else {
        return false;
    };
    let left: Vec<&str> = order.split(';').filter(|key| *key != disk).collect();
    let left = format!("order={}", left.join(";"));
    if left == "order=" {
        vm.config.remove("boot");
    } else {
        vm.config.insert("boot".to_owned(), left);
    }
    true
}
