//! The contents of a VM's drives: validation, creation and removal (qemu-server src/PVE/API2/Qemu.pm,
//! `create_disks` and `update_vm_api`).

use std::collections::BTreeMap;

use super::drive::{self, Drive, Layout};
use super::pace;
use super::state::{Datacenter, Vm, Volume};
use super::wire::Failure;

/// Checks a drive's value.
///
/// # Errors
/// 400 for invalid values, 500 for missing volumes.
pub fn check_drive(
    dc: &Datacenter,
    host: &str,
    vm: &Vm,
    key: &str,
    value: &str,
) -> Result<(), Failure> {
    let drive = Drive::parse(value);
    if ["none", "cdrom"].contains(&drive.volume.as_str()) {
        return Ok(());
    }
    let Some((storage, rest)) = drive.volume.split_once(':') else {
        let text = format!(
            "invalid format - format error\n{key}.file: invalid format - unable to parse volume ID \
             '{}'\n\n",
            drive.volume
        );
        return Err(Failure::parameter(key, text));
    };
    let Some(section) = dc.storages.get(storage) else {
        return Err(Failure::Die(format!("storage '{storage}' does not exist")));
    };
    if !section.size.contains_key(host) {
        return Err(Failure::Die(format!("storage '{storage}' is not available on node '{host}'")));
    }
    let new = rest == "cloudinit" || rest.parse::<f64>().is_ok();
    if new && !section.content.iter().any(|content| content == "images") {
        let text = format!("storage '{storage}' does not support vm images");
        return Err(Failure::parameter("storage", text));
    }
    if rest == "cloudinit" {
        let there = vm.drives().find(|(other, there)| *other != key && there.is_cloudinit());
        if let Some((at, _)) = there {
            let text = format!("{key} - cloud-init drive is already attached at '{at}'");
            return Err(Failure::Die(text));
        }
        return Ok(());
    }
    if let Some(source) = drive.options.get("import-from") {
        // A missing volume is only detected when it is read.
        let Some(volume) = dc.volume(host, source) else { return Ok(()) };
        if volume.content != "import" && volume.content != "images" {
            return Err(Failure::parameter(
                key,
                format!(
                    "invalid format - {source} has wrong type '{}' - needs to be 'images' or \
                     'import'\n",
                    volume.content
                ),
            ));
        }
        return Ok(());
    }
    if new {
        return Ok(());
    }
    if rest.starts_with("iso/") && !drive.is_cdrom() {
        let text = format!("{key} - ISO image '{}' needs media=cdrom", drive.volume);
        return Err(Failure::parameter(key, text));
    }
    if Layout::of(&section.kind) == Layout::Files && !drive::is_file_name(rest) {
        return Err(Failure::Die(format!("unable to parse directory volume name '{rest}'")));
    }
    if dc.volume(host, &drive.volume).is_none() {
        return Err(Failure::Die(format!("volume '{}' does not exist", drive.volume)));
    }
    Ok(())
}

/// Creates what a drive's value requests, and returns the value as the configuration stores it.
///
/// # Errors
/// Why it cannot be created.
pub fn place_drive(
    dc: &mut Datacenter,
    host: &str,
    vmid: u32,
    value: &str,
    unix: i64,
) -> Result<String, String> {
    let mut drive = Drive::parse(value);
    let Some((storage, rest)) = drive.volume.split_once(':') else { return Ok(drive.to_string()) };
    let (storage, rest) = (storage.to_owned(), rest.to_owned());
    let cloudinit = rest == "cloudinit";
    let Some(gib) = rest.parse::<f64>().ok().or(cloudinit.then_some(0.0)) else {
        let volume = dc.volume(host, &drive.volume);
        let size = volume.ok_or_else(|| format!("volume '{}' does not exist", drive.volume))?.size;
        drive.options.insert("size".to_owned(), drive::format_size(size));
        return Ok(drive.to_string());
    };
    let section = dc.storages.get(&storage);
    let section = section.ok_or_else(|| format!("storage '{storage}' does not exist"))?;
    let (layout, shared) = (Layout::of(&section.kind), section.shared);
    let import = drive.options.remove("import-from");
    let source = match &import {
        Some(source) => {
            let id = source.split_once(':').map_or("", |(id, _)| id);
            let missing = || format!("failed to stat '{}'", dc.path(id, source));
            Some(dc.volume(host, source).ok_or_else(missing)?.clone())
        }
        None => None,
    };
    let wanted = drive.options.remove("format");
    let default = if cloudinit || source.is_some() { "qcow2" } else { "raw" };
    let format = layout.format(Some(wanted.as_deref().unwrap_or(default))).to_owned();
    let (name, size) = match (&source, cloudinit) {
        (_, true) => (format!("vm-{vmid}-cloudinit"), pace::CLOUDINIT_BYTES),
        (Some(source), _) if source.content == "import" => {
            (free_name(dc, host, &storage, vmid), source.disk.unwrap_or(source.size))
        }
        (Some(source), _) => (free_name(dc, host, &storage, vmid), source.size),
        (None, _) => {
            // In whole KiB.
            (free_name(dc, host, &storage, vmid), (gib * f64::from(1 << 20)).ceil() as u64 * 1024)
        }
    };
    let volid = layout.volid(&storage, vmid, &name, &format);
    dc.volumes.push(Volume {
        volid: volid.clone(),
        storage,
        host: (!shared).then(|| host.to_owned()),
        content: "images".to_owned(),
        format,
        size,
        disk: None,
        ctime: unix,
        vmid: Some(vmid),
        parent: None,
        blob: None,
        sha256: None,
        system: source.is_some_and(|source| source.system),
    });
    drive.volume = volid;
    if cloudinit {
        drive.options.insert("media".to_owned(), "cdrom".to_owned());
    } else {
        drive.options.insert("size".to_owned(), drive::format_size(size));
    }
    Ok(drive.to_string())
}

/// Handles the volume of a removed or changed drive: a generated drive is deleted, a disk becomes
/// unused, or is deleted too if forced.
pub fn let_go(
    dc: &mut Datacenter,
    host: &str,
    vmid: u32,
    before: &BTreeMap<String, String>,
    key: &str,
    force: bool,
) {
    let Some(old) = before.get(key).filter(|_| drive::is_drive(key)) else { return };
    let old = Drive::parse(old);
    let own = dc.volume(host, &old.volume).is_some_and(|volume| volume.vmid == Some(vmid));
    if old.is_cloudinit() || force && own && !old.is_cdrom() {
        dc.remove_volume(host, &old.volume);
        return;
    }
    let Some(vm) = dc.vms.get_mut(&vmid) else { return };
    // A drive that is set to the same value keeps its disk.
    let now = vm.config.remove(key);
    vm.keep_unused(&old);
    if let Some(now) = now {
        vm.config.insert(key.to_owned(), now);
    }
}
/// The first free disk name of a VM on a storage.
pub fn free_name(dc: &Datacenter, host: &str, storage: &str, vmid: u32) -> String {
    let taken = |n: &u32| {
        let names = [format!("vm-{vmid}-disk-{n}"), format!("base-{vmid}-disk-{n}")];
        let on = dc.volumes.iter().filter(|v| v.storage == storage && v.seen_from(host));
        on.map(|volume| volume.volid.rsplit(['/', ':']).next().unwrap_or_default())
            .any(|name| names.iter().any(|taken| name.split('.').next() == Some(taken.as_str())))
    };
    let number = (0..).find(|n| !taken(n)).unwrap_or_default();
    format!("vm-{vmid}-disk-{number}")
}
