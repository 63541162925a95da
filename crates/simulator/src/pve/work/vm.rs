//! Changing, growing and destroying VMs (qemu-server src/PVE/API2/Qemu.pm).

use super::{Next, Turn, no_config};
use crate::pve::config::{self, Change};
use crate::pve::drive::{self, Drive, Layout};
use crate::pve::task::vm_lock;
use crate::pve::{access, pace};

/// Changes options.
pub fn config(turn: &mut Turn, vmid: u32, change: &Change) -> Result<Next, Next> {
    let host = turn.host();
    if turn.task.stage > 0 {
        return Ok(Next::End(Ok(())));
    }
    turn.lock(&vm_lock(&host, vmid), false, pace::VM_LOCK_WAIT)?;
    let options: Vec<_> =
        change.set.iter().map(|(key, value)| format!("-{key} {}", masked(key, value))).collect();
    turn.say(format!("update VM {vmid}: {}", options.join(" ")));
    let unix = turn.unix();
    let dc = turn.dc;
    config::apply(&mut turn.world.pve, dc, &host, vmid, change, unix)
        .map_err(|text| Next::End(Err(text)))?;
    super::power::exchange(turn.world, dc, vmid, turn.store);
    Ok(turn.after(1, pace::CONFIG))
}

fn masked<'a>(key: &str, value: &'a str) -> &'a str {
    if key == "cipassword" { "<hidden>" } else { value }
}

/// Converts a VM to a template: its disks become base volumes.
pub fn template(turn: &mut Turn, vmid: u32) -> Result<Next, Next> {
    let host = turn.host();
    if turn.task.stage == 0 {
        turn.lock(&vm_lock(&host, vmid), false, pace::VM_LOCK_WAIT)?;
        return Ok(turn.after(1, pace::TEMPLATE));
    }
    let dc = turn.dc();
    let Some(vm) = dc.vm_on(&host, vmid).cloned() else {
        return Ok(Next::End(Err(no_config(&host, vmid))));
    };
    if vm.running.is_some() {
        let text = "you can't convert a VM to template if VM is running";
        return Ok(Next::End(Err(text.to_owned())));
    }
    let mut config = vm.config.clone();
    let disks = vm.drives().filter(|(_, drive)| !drive.is_cdrom() && !drive.is_cloudinit());
    for (key, mut disk) in disks {
        let base = drive::base_volid(&disk.volume, vmid);
        if let Some(volume) = dc.volume_mut(&host, &disk.volume) {
            volume.volid.clone_from(&base);
        }
        disk.volume = base;
        config.insert(key.to_owned(), disk.to_string());
    }
    config.insert("template".to_owned(), "1".to_owned());
    if let Some(vm) = dc.vms.get_mut(&vmid) {
        vm.config = config;
    }
    Ok(Next::End(Ok(())))
}

/// Grows a disk.
pub fn resize(turn: &mut Turn, vmid: u32, disk: &str, size: &str) -> Result<Next, Next> {
    let host = turn.host();
    let stage = turn.task.stage;
    if stage == 0 {
        turn.lock(&vm_lock(&host, vmid), false, pace::VM_LOCK_WAIT)?;
    }
    let fail = |text: String| Err(Next::End(Err(text)));
    let caller = turn.task.caller();
    let dc = turn.dc();
    let Some(vm) = dc.vm_on(&host, vmid) else { return fail(no_config(&host, vmid)) };
    if let Some(lock) = &vm.lock {
        return fail(format!("VM is locked ({lock})"));
    }
    let Some(mut drive) = vm.config.get(disk).map(|value| Drive::parse(value)) else {
        return fail(format!("disk '{disk}' does not exist"));
    };
    if drive.is_cdrom() {
        return fail("you can't resize a cdrom".to_owned());
    }
    let path = format!("/storage/{}", drive.storage().unwrap_or_default());
    if !access::any(dc, &caller, &path, &["Datastore.AllocateSpace"]) {
        return fail(format!("Permission check failed ({path}, Datastore.AllocateSpace)"));
    }
    let Some(old) = dc.volume(&host, &drive.volume).map(|volume| volume.size) else {
        return fail(format!("volume '{}' does not exist", drive.volume));
    };
    let number = drive::parse_size(size.trim_start_matches('+')).unwrap_or_default();
    let new = if size.starts_with('+') { old + number } else { number };
    // In whole KiB, as the storages count.
    let new = new.div_ceil(1024) * 1024;
    if new < old {
        return fail("shrinking disks is not supported".to_owned());
    }
    if new == old {
        return Ok(Next::End(Ok(())));
    }
    if stage == 0 {
        return Ok(turn.after(1, pace::RESIZE));
    }
    if let Some(volume) = dc.volume_mut(&host, &drive.volume) {
        volume.size = new;
    }
    drive.options.insert("size".to_owned(), drive::format_size(new));
    if let Some(vm) = dc.vms.get_mut(&vmid) {
        vm.config.insert(disk.to_owned(), drive.to_string());
    }
    turn.say("Image resized.");
    Ok(Next::End(Ok(())))
}

/// Destroys a VM and everything it owns.
pub fn destroy(turn: &mut Turn, vmid: u32, purge: bool, skiplock: bool) -> Result<Next, Next> {
    let host = turn.host();
    let stage = turn.task.stage;
    if stage == 0 {
        turn.lock(&vm_lock(&host, vmid), false, pace::VM_LOCK_WAIT)?;
    }
    let fail = |text: String| Err(Next::End(Err(text)));
    let key = turn.key(vmid);
    let dc = turn.dc();
    let Some(vm) = dc.vm_on(&host, vmid) else { return fail(no_config(&host, vmid)) };
    if vm.running.is_some() {
        return fail(format!("VM {vmid} is running - destroy failed"));
    }
    if let Some(lock) = vm.lock.as_ref().filter(|_| !skiplock) {
        return fail(format!("VM is locked ({lock})"));
    }
    for (_, disk) in vm.drives().filter(|(_, disk)| drive::is_base(&disk.volume)) {
        let kind = disk.storage().and_then(|storage| dc.storages.get(storage));
        // LVM thin keeps its own count of the clones of a base.
        let thin = kind.is_some_and(|storage| Layout::of(&storage.kind) == Layout::Thin);
        if !thin && dc.child_of(&host, &disk.volume).is_some() {
            return fail(format!("base volume '{}' is still in use by linked cloned", disk.volume));
        }
    }
    if stage == 0 {
        let unused = vm.config.iter().filter(|(key, _)| key.starts_with("unused"));
        let disks = vm.drives().filter(|(_, disk)| !disk.is_cdrom() || disk.is_cloudinit());
        let own = disks.map(|(_, disk)| disk.volume).chain(unused.map(|(_, volid)| volid.clone()));
        let own = own.filter(|volid| dc.volume(&host, volid).is_none());
        let gone: Vec<_> =
            own.filter_map(|volid| Some(dc.path(volid.split_once(':')?.0, &volid))).collect();
        for path in gone {
            turn.say(format!("disk image '{path}' does not exist"));
        }
        if purge {
            turn.say(format!("purging VM {vmid} from related configurations.."));
        }
        return Ok(turn.after(1, pace::DESTROY));
    }
    dc.vms.remove(&vmid);
    dc.firewalls.remove(&format!("vm-{vmid}"));
    dc.volumes.retain(|volume| !(volume.vmid == Some(vmid) && volume.seen_from(&host)));
    dc.acl.retain(|grant| grant.path != format!("/vms/{vmid}"));
    for pool in dc.pools.values_mut() {
        pool.vms.remove(&vmid);
    }
    turn.world.guests.destroy(&key);
    Ok(Next::End(Ok(())))
}
