//! A VM's configuration: what a change may be, what it does, and how values are normalised
//! (qemu-server src/PVE/API2/Qemu.pm, `update_vm_api`).

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

use super::Pve;
use super::access::{self, Caller};
use super::drive::{self, Drive, Layout};
use super::nic;
use super::options::{self, Need};
use super::pace;
use super::state::{Datacenter, Vm, Volume};
use super::wire::Failure;

/// A change of a VM's options.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Options to set.
    pub set: BTreeMap<String, String>,
    /// Options to delete.
    pub delete: Vec<String>,
    /// Pending changes to drop.
    pub revert: Vec<String>,
    /// The digest that the configuration must have.
    pub digest: Option<String>,
}

/// Checks a change before anything is done.
///
/// # Errors
/// What Proxmox answers at once.
pub fn check(
    dc: &Datacenter,
    caller: &Caller,
    host: &str,
    vmid: u32,
    change: &Change,
) -> Result<(), Failure> {
    if change.set.is_empty() && change.delete.is_empty() && change.revert.is_empty() {
        return Err(Failure::die("no options specified"));
    }
    for key in change.delete.iter().chain(&change.revert) {
        if !options::exists(key) {
            return Err(Failure::parameter("delete", format!("unknown option '{key}'")));
        }
        if change.set.contains_key(key) {
            let text = format!("you can't use '-{key}' and -delete {key}' at the same time");
            return Err(Failure::parameter("delete", text));
        }
    }
    for (key, value) in &change.set {
        permitted(dc, caller, vmid, key, Some(value))?;
    }
    let vm =
        dc.vm_on(host, vmid).ok_or_else(|| Failure::Die(super::work::no_config(host, vmid)))?;
    for key in &change.delete {
        permitted(dc, caller, vmid, key, vm.config.get(key))?;
    }
    if let Some(digest) = &change.digest
        && *digest != vm.digest()
    {
        return Err(Failure::die("checksum mismatch (file change by other user?)"));
    }
    if let Some(lock) = &vm.lock {
        return Err(Failure::Die(format!("VM is locked ({lock})")));
    }
    for (key, value) in &change.set {
        if drive::is_drive(key) {
            check_drive(dc, host, vm, key, value)?;
        }
    }
    check_keys(&change.set)?;
    if let Some(order) = change.set.get("boot").and_then(|boot| boot.strip_prefix("order=")) {
        for device in order.split(';').filter(|device| !device.is_empty()) {
            let there =
                vm.config.contains_key(device) && !change.delete.iter().any(|k| k == device);
            if !there && !change.set.contains_key(device) {
                return Err(Failure::Die(format!(
                    "invalid bootorder: device '{device}' does not exist'"
                )));
            }
        }
    }
    Ok(())
}

/// Checks that SSH keys are keys.
///
/// # Errors
/// What `ssh-keygen` makes Proxmox say.
pub fn check_keys(set: &BTreeMap<String, String>) -> Result<(), Failure> {
    let Some(keys) = set.get("sshkeys") else { return Ok(()) };
    let text = percent_decode_str(keys).decode_utf8_lossy().into_owned();
    let key = |line: &str| {
        let mut words = line.split_whitespace();
        let kind = words.next().unwrap_or_default();
        let body = words.next().unwrap_or_default();
        (kind.starts_with("ssh-") || kind.starts_with("ecdsa-") || kind.starts_with("sk-"))
            && body.starts_with("AAAA")
    };
    let mut lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    if lines.all(key) { Ok(()) } else { Err(Failure::die("SSH public key validation error")) }
}

/// Checks that somebody may change an option to (or from) a value.
///
/// # Errors
/// 403, or 500 for what only root may.
pub fn permitted(
    dc: &Datacenter,
    caller: &Caller,
    vmid: u32,
    key: &str,
    value: Option<&String>,
) -> Result<(), Failure> {
    let vm = format!("/vms/{vmid}");
    let wants = |path: &str, privileges: &[&str]| require(dc, caller, path, privileges);
    match options::need(key) {
        Need::Privilege(privileges) => wants(&vm, privileges),
        Need::Startup => {
            wants(&vm, &["VM.Config.Options"])?;
            wants("/", &["Sys.Modify"])
        }
        Need::Network => {
            wants(&vm, &["VM.Config.Network"])?;
            value.map_or(Ok(()), |value| bridge_permitted(dc, caller, value))
        }
        Need::Root if caller.is_root() => Ok(()),
        Need::Root => Err(Failure::Die(format!("only root can set '{key}' config"))),
        Need::Drive => {
            let drive = Drive::parse(value.map(String::as_str).unwrap_or_default());
            let storage = drive.storage().map(|storage| format!("/storage/{storage}"));
            if drive.is_cloudinit() {
                wants(&vm, &["VM.Config.Cloudinit"])?;
                return wants(&vm, &["VM.Config.CDROM"]);
            }
            if drive.is_cdrom() {
                if let Some(storage) = storage {
                    wants(&storage, &["Datastore.AllocateSpace", "Datastore.Audit"])?;
                }
                return wants(&vm, &["VM.Config.CDROM"]);
            }
            wants(&vm, &["VM.Config.Disk"])?;
            storage.map_or(Ok(()), |storage| wants(&storage, &["Datastore.AllocateSpace"]))
        }
    }
}

/// Checks that somebody may use what a network card is on: its VLANs, or without any the whole bridge
/// (pve-guest-common src/PVE/GuestHelpers.pm, `check_vnet_access`).
///
/// # Errors
/// 403.
pub fn bridge_permitted(dc: &Datacenter, caller: &Caller, net: &str) -> Result<(), Failure> {
    let Some(bridge) = nic::bridge(net) else { return Ok(()) };
    let whole = format!("/sdn/zones/localnetwork/{bridge}");
    let vlans = nic::vlans(net);
    if vlans.is_empty() {
        return require(dc, caller, &whole, &["SDN.Use"]);
    }
    vlans.iter().try_for_each(|vlan| require(dc, caller, &format!("{whole}/{vlan}"), &["SDN.Use"]))
}

/// Checks that somebody has one of these privileges at a path.
///
/// # Errors
/// 403 in Proxmox's words.
pub fn require(
    dc: &Datacenter,
    caller: &Caller,
    path: &str,
    privileges: &[&str],
) -> Result<(), Failure> {
    if access::any(dc, caller, path, privileges) {
        return Ok(());
    }
    Err(Failure::Forbidden(format!("Permission check failed ({path}, {})", privileges.join("|"))))
}

/// Checks a drive's value.
///
/// # Errors
/// 400 for what can never be, 500 for what is not there.
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
        let volume = dc.volume(host, source);
        let volume =
            volume.ok_or_else(|| Failure::Die(format!("volume '{source}' does not exist")))?;
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
    if dc.volume(host, &drive.volume).is_none() {
        return Err(Failure::Die(format!("volume '{}' does not exist", drive.volume)));
    }
    Ok(())
}

/// Makes what a drive's value asks for, and gives the value as the configuration keeps it.
///
/// # Errors
/// Why it cannot be made.
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
            let volume = dc.volume(host, source);
            Some(volume.ok_or_else(|| format!("volume '{source}' does not exist"))?.clone())
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
            (free_name(dc, host, &storage, vmid), (gib * f64::from(1 << 30)).round() as u64)
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

/// Does a change.
///
/// # Errors
/// Why it cannot be done: the same as [`check`] told, when the world moved on since.
pub fn apply(
    pve: &mut Pve,
    dc: usize,
    host: &str,
    vmid: u32,
    change: &Change,
    unix: i64,
) -> Result<(), String> {
    let missing = || super::work::no_config(host, vmid);
    let vm = pve.datacenters[dc].vm_on(host, vmid).ok_or_else(missing)?;
    if let Some(lock) = &vm.lock {
        return Err(format!("VM is locked ({lock})"));
    }
    if change.digest.as_ref().is_some_and(|digest| *digest != vm.digest()) {
        return Err("checksum mismatch (file change by other user?)".to_owned());
    }
    let running = vm.running.is_some();
    let before = vm.config.clone();
    let mut set = BTreeMap::new();
    for (key, value) in &change.set {
        let value = match drive::is_drive(key) {
            true => place_drive(&mut pve.datacenters[dc], host, vmid, value, unix)?,
            false => normalised(pve, key, value),
        };
        set.insert(key.clone(), value);
    }
    let vm = pve.datacenters[dc].vm_on(host, vmid).ok_or_else(missing)?;
    if let Some(order) = super::boot::follow(vm, &set, &change.delete) {
        set.insert("boot".to_owned(), order);
    }
    let datacenter = &mut pve.datacenters[dc];
    for key in set.keys().chain(&change.delete) {
        if let Some(old) = before.get(key).filter(|_| drive::is_drive(key)) {
            let_go(datacenter, host, vmid, &Drive::parse(old));
        }
        // Deleting an unused disk deletes the disk.
        if let Some(volid) = before.get(key).filter(|_| key.starts_with("unused")) {
            datacenter.remove_volume(host, volid);
        }
    }
    let Some(vm) = datacenter.vms.get_mut(&vmid) else { return Err(missing()) };
    for key in &change.revert {
        vm.pending.remove(key);
    }
    for (key, value) in set {
        // A medium is changed while the VM runs; a drive that is not there yet waits.
        let medium = drive::is_drive(&key)
            && before.get(&key).is_some_and(|old| Drive::parse(old).is_cdrom());
        if running && !options::is_hot(&key) && !medium {
            vm.pending.insert(key, Some(value));
        } else {
            vm.pending.remove(&key);
            vm.config.insert(key, value);
        }
    }
    for key in &change.delete {
        if running && !options::is_hot(key) && vm.config.contains_key(key) {
            vm.pending.insert(key.clone(), None);
        } else {
            vm.pending.remove(key);
            vm.config.remove(key);
        }
    }
    Ok(())
}

/// What becomes of a volume whose drive is taken away: a generated drive goes, a disk stays unused.
fn let_go(dc: &mut Datacenter, host: &str, vmid: u32, old: &Drive) {
    if old.is_cloudinit() {
        dc.remove_volume(host, &old.volume);
    } else if !old.is_cdrom()
        && dc.volume(host, &old.volume).is_some_and(|volume| volume.vmid == Some(vmid))
        && let Some(vm) = dc.vms.get_mut(&vmid)
    {
        let free = (0..256).map(|n| format!("unused{n}")).find(|key| !vm.config.contains_key(key));
        if let Some(key) = free {
            vm.config.insert(key, old.volume.clone());
        }
    }
}

/// A value as the configuration keeps it.
pub fn normalised(pve: &mut Pve, key: &str, value: &str) -> String {
    match key {
        "tags" => {
            let separator = |c: char| ",; \t\n\0".contains(c);
            let tags = value.split(separator).filter(|tag| !tag.is_empty());
            let mut tags: Vec<_> = tags.map(str::to_lowercase).collect();
            tags.sort();
            tags.dedup();
            tags.join(";")
        }
        "description" => trimmed(value),
        "cipassword" => pve.hashed(value),
        "sshkeys" => value.trim_end_matches("%0A").to_owned(),
        key if nic::is_net(key) => {
            let mac = pve.new_mac();
            if nic::mac_of(value).is_some() {
                nic::canonical_net(value, None)
            } else {
                nic::with_mac(value, &mac)
            }
        }
        _ => value.to_owned(),
    }
}

/// A description as it is read back: white space at its end is gone.
pub fn trimmed(text: &str) -> String {
    text.trim_end().to_owned()
}

/// The first disk name of a VM that is free on a storage.
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
