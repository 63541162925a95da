//! Moving a disk to another storage (qemu-server src/PVE/API2/Qemu.pm, `move_vm_disk`).

use serde::{Deserialize, Serialize};

use super::clone::{copy_drive, human, time};
use super::{CloneWork, Next, Turn, Work, no_config, no_room};
use crate::faults::FaultKind;
use crate::pve::drive::{self, Drive};
use crate::pve::pace;
use crate::pve::state::Datacenter;
use crate::pve::task::vm_lock;

/// A requested move.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MoveDisk {
    /// The VM.
    pub vmid: u32,
    /// The drive's option name.
    pub disk: String,
    /// The target storage.
    pub storage: String,
    /// The new disk's format.
    pub format: Option<String>,
    /// Whether to delete the old disk, which otherwise becomes unused.
    pub delete: bool,
    /// The digest of the configuration at the request.
    pub digest: Option<String>,
    /// The copy rate limit, in KiB/s.
    pub limit: Option<u64>,
    /// The drive's value, once it has a volume.
    pub new: Option<String>,
}

/// Checks that a disk can be moved, and returns its drive.
///
/// # Errors
/// Why it cannot be moved.
pub fn check(dc: &Datacenter, host: &str, work: &MoveDisk) -> Result<Drive, String> {
    let MoveDisk { vmid, disk, storage, .. } = work;
    let vm = dc.vm_on(host, *vmid).ok_or_else(|| no_config(host, *vmid))?;
    if let Some(lock) = &vm.lock {
        return Err(format!("VM is locked ({lock})"));
    }
    if work.digest.as_ref().is_some_and(|known| *known != vm.digest()) {
        let text = "detected modified configuration - file changed by other user? Try again.";
        return Err(text.to_owned());
    }
    let value = vm.config.get(disk).ok_or_else(|| format!("disk '{disk}' does not exist"))?;
    let drive = Drive::parse(value);
    if drive.is_cdrom() && !drive.is_cloudinit() {
        return Err("you can't move a cdrom".to_owned());
    }
    let suffix = drive.volume.rsplit_once('.').map(|(_, format)| format);
    let known = suffix.filter(|format| ["raw", "qcow2", "vmdk"].contains(format));
    let other = work.format.as_deref().zip(known).is_some_and(|(new, old)| new != old);
    if drive.storage() == Some(storage.as_str()) && !other {
        return Err("you can't move to the same storage with same format".to_owned());
    }
    if work.delete && vm.in_snapshot(&drive.volume) {
        return Err("you can't move a disk with snapshots and delete the source".to_owned());
    }
    Ok(drive)
}

/// One stage.
pub fn step(turn: &mut Turn, mut work: MoveDisk) -> Result<Next, Next> {
    let host = turn.host();
    if let Some(new) = work.new.take() {
        return finish(turn, &work, &host, &new);
    }
    let fail = |text: String| Err(Next::End(Err(text)));
    turn.lock(&vm_lock(&host, work.vmid), false, pace::VM_LOCK_WAIT)?;
    let old = check(turn.dc(), &host, &work).map_err(|text| Next::End(Err(text)))?;
    let broken = |text: String| fail(format!("storage migration failed: {text}"));
    let Some(section) = turn.dc().storages.get(&work.storage).cloned() else {
        return broken(format!("storage '{}' does not exist", work.storage));
    };
    if !section.size.contains_key(&host) {
        return broken(format!("storage '{}' is not available on node '{host}'", work.storage));
    }
    if !section.content.iter().any(|content| content == "images") {
        return broken(format!("storage '{}' does not support vm images", work.storage));
    }
    if turn.world.faults.active(FaultKind::DiskFull, &host) {
        return broken(no_room(&work.storage, &section.kind));
    }
    let mut copy = CloneWork {
        source: work.vmid,
        newid: work.vmid,
        target: host.clone(),
        full: true,
        storage: Some(work.storage.clone()),
        format: work.format.clone(),
        name: None,
        description: None,
        pool: None,
        snapshot: None,
        limit: work.limit,
        copying: None,
        copies: Vec::new(),
    };
    let unix = turn.unix();
    let Some(new) = copy_drive(turn, &mut copy, &host, &work.disk, &old, unix) else {
        return broken(format!("volume '{}' does not exist", old.volume));
    };
    for one in &copy.copies {
        turn.say(format!("transferred 0.0 B of {} (0.00%)", human(one.size)));
    }
    let seconds: f64 = copy.copies.iter().map(|one| time(one, work.limit)).sum();
    work.new = Some(new.to_string());
    turn.task.work = Work::MoveDisk(Box::new(work));
    Ok(turn.after(1, pace::ALLOCATE + pace::FULL_CLONE + seconds))
}

/// The copy is complete: the drive uses the new disk.
fn finish(turn: &mut Turn, work: &MoveDisk, host: &str, new: &str) -> Result<Next, Next> {
    let MoveDisk { vmid, disk, delete, .. } = work;
    let mut new = Drive::parse(new);
    if let Some(size) = new.size().map(human).filter(|_| !new.is_cloudinit()) {
        turn.say(format!("transferred {size} of {size} (100.00%)"));
    }
    let dc = turn.dc();
    let Some(vm) = dc.vms.get(vmid) else {
        return Err(Next::End(Err(no_config(host, *vmid))));
    };
    if vm.is_template() {
        let base = drive::base_volid(&new.volume, *vmid);
        if let Some(volume) = dc.volume_mut(host, &new.volume) {
            volume.volid.clone_from(&base);
        }
        new.volume = base;
    }
    let Some(vm) = dc.vms.get_mut(vmid) else { return Ok(Next::End(Ok(()))) };
    let old = vm.config.insert(disk.clone(), new.to_string());
    let Some(old) = old.map(|value| Drive::parse(&value)) else { return Ok(Next::End(Ok(()))) };
    if *delete {
        dc.remove_volume(host, &old.volume);
    } else {
        vm.keep_unused(&old);
    }
    Ok(Next::End(Ok(())))
}

/// Removes what an unfinished move created.
pub fn undo(dc: &mut Datacenter, host: &str, work: &MoveDisk) {
    if let Some(new) = &work.new {
        dc.remove_volume(host, &Drive::parse(new).volume);
    }
}
