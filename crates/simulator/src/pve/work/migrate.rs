//! Migrates a VM to another node (qemu-server src/PVE/QemuMigrate.pm).

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::macros::format_description;

use super::{Next, Turn, no_config};
use crate::pve::calls::{address, local_disks};
use crate::pve::drive::{self, Drive, Layout};
use crate::pve::pace;
use crate::pve::state::{Datacenter, Vm};
use crate::pve::task::vm_lock;

/// A requested migration.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Migrate {
    /// The VM.
    pub vmid: u32,
    /// The target node.
    pub target: String,
    /// Whether a running VM's local disks are migrated too.
    pub with_disks: bool,
}

/// The VM is checked.
const SCAN: u8 = 0;
/// Its configuration is locked; disks and memory are copied.
const COPY: u8 = 1;
/// Its memory is on the target, and it is paused here.
const HAND_OVER: u8 = 2;
/// Its configuration is on the target.
const MOVE: u8 = 3;
/// QEMU's state of a VM that was migrated away.
const MOVED: &str = "postmigrate";
/// Nothing was changed.
const ABORT: u8 = 9;

fn say(turn: &mut Turn, text: &str) {
    let now =
        OffsetDateTime::from_unix_timestamp(turn.unix()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    turn.say(format!("{} {text}", now.format(format).unwrap_or_default()));
}

/// One stage.
pub fn step(turn: &mut Turn, work: &Migrate) -> Result<Next, Next> {
    let host = turn.host();
    let Migrate { vmid, target, .. } = work;
    if turn.task.stage == SCAN {
        turn.lock(&vm_lock(&host, *vmid), false, pace::VM_LOCK_WAIT)?;
    }
    if turn.task.stage == ABORT {
        return Ok(Next::End(Err("migration aborted".to_owned())));
    }
    let on = if turn.task.stage > MOVE { target } else { &host };
    let Some(vm) = turn.dc().vm_on(on, *vmid).cloned() else {
        return Ok(Next::End(Err(no_config(on, *vmid))));
    };
    match turn.task.stage {
        SCAN => {
            let number = turn.dc().hosts.get(target).map_or(0, |host| host.number);
            let place = address(turn.world, target, number);
            say(turn, &format!("starting migration of VM {vmid} to node '{target}' ({place})"));
            if let Err(problem) = scan(turn, &vm, work) {
                let text = format!("Problem found while scanning volumes - {problem}");
                say(turn, &format!("ERROR: {text}"));
                say(turn, "aborting phase 1 - cleanup resources");
                say(turn, &format!("ERROR: migration aborted (duration 00:00:00): {text}"));
                return Ok(turn.after(ABORT, pace::MIGRATION_SCAN));
            }
            Ok(turn.after(COPY, pace::MIGRATION_SCAN))
        }
        COPY => {
            if let Some(vm) = turn.dc().vms.get_mut(vmid) {
                vm.lock = Some("migrate".to_owned());
            }
            let disks: u64 = local_disks(turn.dc(), &vm).filter_map(|(_, disk)| disk.size()).sum();
            let copying = disks as f64 / pace::COPY_RATE;
            if disks > 0 {
                say(turn, "copying local disk images");
            }
            if vm.running.is_none() {
                return Ok(turn.after(MOVE, pace::MIGRATION_COPY + copying));
            }
            let alone = pace::MIGRATION_LIVE - pace::MIGRATION_STILL;
            Ok(turn.after(HAND_OVER, pace::MIGRATION_COPY + alone + copying))
        }
        HAND_OVER => {
            if let Some(vm) = turn.dc().vms.get_mut(vmid) {
                vm.halted.get_or_insert_with(|| MOVED.to_owned());
            }
            Ok(turn.after(MOVE, pace::MIGRATION_STILL))
        }
        MOVE => {
            carry_over(turn.dc(), *vmid, &vm, &host, target);
            if let Some(vm) = turn.dc().vms.get_mut(vmid) {
                vm.host.clone_from(target);
                vm.halted = vm.halted.take().filter(|halted| halted != MOVED);
            }
            let dc = turn.dc;
            super::power::exchange(turn.world, dc, *vmid, turn.store);
            let end = if vm.running.is_some() { pace::MIGRATION_HANDOVER } else { 0.0 };
            Ok(turn.after(MOVE + 1, pace::MIGRATION_END + end))
        }
        _ => {
            if let Some(vm) = turn.dc().vms.get_mut(vmid) {
                vm.lock = None;
            }
            say(turn, "migration finished successfully (duration 00:00:07)");
            Ok(Next::End(Ok(())))
        }
    }
}

/// The volumes that only snapshots reference, not the VM itself.
fn of_snapshots(vm: &Vm) -> Vec<Drive> {
    let mut all: Vec<Drive> = Vec::new();
    for snapshot in vm.snapshots.values() {
        let drives = snapshot.config.iter().filter(|(key, _)| drive::is_drive(key));
        for drive in drives.map(|(_, value)| Drive::parse(value)) {
            let known = vm.drives().any(|(_, there)| there.volume == drive.volume);
            if !known && !all.iter().any(|there| there.volume == drive.volume) {
                all.push(drive);
            }
        }
    }
    all
}

/// Reports the volumes local to this node, and why they cannot be migrated.
fn scan(turn: &mut Turn, vm: &Vm, work: &Migrate) -> Result<(), String> {
    let host = turn.host();
    let mut against = Vec::new();
    let disks: Vec<Drive> = local_disks(turn.dc(), vm).map(|(_, disk)| disk).collect();
    for disk in of_snapshots(vm) {
        let volid = &disk.volume;
        say(turn, &format!("found local disk '{volid}' (referenced by snapshot(s))"));
        if turn.dc().volume(&host, volid).is_none() {
            against.push((volid.clone(), format!("volume '{volid}' does not exist")));
        }
    }
    for disk in disks {
        let volid = disk.volume.clone();
        let found = match disk.is_cloudinit() {
            true => format!("found generated disk '{volid}' (in current VM config)"),
            false => format!("found local disk '{volid}' (attached)"),
        };
        say(turn, &found);
        let dc = turn.dc();
        let parent = dc.volume(&host, &volid).and_then(|volume| volume.parent.clone());
        if let Some(parent) = parent {
            let base = parent.rsplit(['/', ':']).next().unwrap_or_default();
            return Err(format!("can't migrate '{volid}' as it's a clone of '{base}'"));
        }
        let section = disk.storage().and_then(|id| dc.storages.get(id));
        if section.is_some_and(|section| !section.size.contains_key(&work.target)) {
            let id = disk.storage().unwrap_or_default();
            let text = format!("storage '{id}' is not available on node '{}'", work.target);
            against.push((volid, text));
        } else if disk.is_cdrom() && !disk.is_cloudinit() {
            against.push((volid, "local cdrom image".to_owned()));
        } else if dc.child_of(&host, &volid).is_some() {
            against.push((volid, "referenced by linked clone(s)".to_owned()));
        } else if vm.running.is_some() && !work.with_disks && !disk.is_cloudinit() {
            let text = "can't live migrate attached local disks without with-local-disks option";
            against.push((volid, text.to_owned()));
        } else if dc.volume(&host, &volid).is_none() {
            let text = format!("volume '{volid}' does not exist");
            against.push((volid, text));
        }
    }
    for (volid, text) in &against {
        say(turn, &format!("can't migrate local disk '{volid}': {text}"));
    }
    if against.is_empty() { Ok(()) } else { Err("can't migrate VM - check log".to_owned()) }
}

/// Resumes a VM here whose migration failed.
pub fn undo(dc: &mut Datacenter, work: &Migrate) {
    if let Some(vm) = dc.vms.get_mut(&work.vmid) {
        vm.halted = vm.halted.take().filter(|halted| halted != MOVED);
    }
}

/// Moves a VM's volumes from one node to another.
fn carry_over(dc: &mut Datacenter, vmid: u32, vm: &Vm, host: &str, target: &str) {
    for (key, mut disk) in vm.drives().map(|(key, disk)| (key.to_owned(), disk)) {
        let section = disk.storage().and_then(|id| dc.storages.get(id));
        let local = section.is_some_and(|section| !section.shared);
        let layout = section.map_or(Layout::Files, |section| Layout::of(&section.kind));
        let Some(volume) = dc.volume_mut(host, &disk.volume).filter(|_| local) else { continue };
        volume.host = Some(target.to_owned());
        // The generated drive gets its size when it is migrated.
        let size = drive::format_size(volume.size);
        let unsized_ = disk.is_cloudinit() && layout == Layout::Files;
        if unsized_ && !disk.options.contains_key("size") {
            disk.options.insert("size".to_owned(), size);
            if let Some(vm) = dc.vms.get_mut(&vmid) {
                vm.config.insert(key, disk.to_string());
            }
        }
    }
    let own = |volume: &&mut crate::pve::state::Volume| {
        let named = vm
            .config
            .iter()
            .any(|(key, volid)| key.starts_with("unused") && *volid == volume.volid);
        named && volume.host.as_deref() == Some(host)
    };
    for volume in dc.volumes.iter_mut().filter(own) {
        volume.host = Some(target.to_owned());
    }
}
