//! A VM's configuration: validates, applies and normalises changes (qemu-server src/PVE/API2/Qemu.pm,
//! `update_vm_api`).

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

use super::Pve;
use super::access::{self, Caller};
use super::disks;
use super::drive::{self, Drive};
use super::nic;
use super::options::{self, Need};
use super::rules;
use super::state::{Datacenter, Vm};
use super::wire::Failure;

/// A change of a VM's options.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Options to set.
    pub set: BTreeMap<String, String>,
    /// Options to delete.
    pub delete: Vec<String>,
    /// Pending changes to revert.
    pub revert: Vec<String>,
    /// The required digest of the configuration.
    pub digest: Option<String>,
    /// Whether to ignore a lock of the configuration.
    #[serde(default)]
    pub skiplock: bool,
    /// Whether a deleted disk is destroyed at once.
    #[serde(default)]
    pub force: bool,
}

/// Checks a change before it is applied.
///
/// # Errors
/// Proxmox's immediate error.
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
    for (parameter, keys) in [("revert", &change.revert), ("delete", &change.delete)] {
        for key in keys {
            if !rules::is_option(key) {
                return Err(Failure::parameter(parameter, format!("unknown option '{key}'")));
            }
            if change.set.contains_key(key) {
                let text =
                    format!("you can't use '-{key}' and -{parameter} {key}' at the same time");
                return Err(Failure::parameter(parameter, text));
            }
            if parameter == "delete" && change.revert.contains(key) {
                let text =
                    format!("you can't use '-revert {key}' and -delete {key}' at the same time");
                return Err(Failure::parameter("delete", text));
            }
        }
    }
    for (key, value) in &change.set {
        permitted(dc, caller, vmid, key, Some(value))?;
    }
    let vm =
        dc.vm_on(host, vmid).ok_or_else(|| Failure::Die(super::work::no_config(host, vmid)))?;
    for old in
        change.set.keys().filter_map(|key| vm.config.get(key).filter(|_| drive::is_drive(key)))
    {
        replaceable(dc, caller, vmid, &Drive::parse(old))?;
    }
    for key in &change.delete {
        permitted(dc, caller, vmid, key, vm.config.get(key))?;
    }
    if let Some(digest) = &change.digest
        && *digest != vm.digest()
    {
        return Err(Failure::die("checksum mismatch (file change by other user?)"));
    }
    if let Some(lock) = vm.lock.as_ref().filter(|_| !change.skiplock) {
        return Err(Failure::Die(format!("VM is locked ({lock})")));
    }
    let protected = vm.config.get("protection").is_some_and(|flag| flag == "1");
    if let Some(key) = change.delete.iter().find(|key| protected && drive::is_drive(key)) {
        return Err(Failure::Die(format!("can't remove drive '{key}' - protection mode enabled")));
    }
    for (key, value) in &change.set {
        if drive::is_drive(key) {
            disks::check_drive(dc, host, vm, key, value)?;
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

/// Checks that the account may remove what is in a drive (qemu-server src/PVE/API2/Qemu.pm,
/// `check_drive_perms`).
fn replaceable(dc: &Datacenter, caller: &Caller, vmid: u32, old: &Drive) -> Result<(), Failure> {
    let privileges: &[&str] = match (old.is_cloudinit(), old.is_cdrom()) {
        (true, _) => &["VM.Config.Cloudinit", "VM.Config.CDROM"],
        (false, true) => &["VM.Config.CDROM"],
        (false, false) => &["VM.Config.Disk"],
    };
    let path = format!("/vms/{vmid}");
    privileges.iter().try_for_each(|privilege| require(dc, caller, &path, &[*privilege]))
}

/// Checks that SSH keys are valid.
///
/// # Errors
/// Proxmox's error from `ssh-keygen`.
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

/// Checks that the account may change an option to (or from) a value.
///
/// # Errors
/// 403, or 500 for changes that only root may make.
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
        Need::Device if value.is_none_or(|value| options::is_plain_device(key, value)) => {
            wants(&vm, &["VM.Config.HWType"])
        }
        Need::Root | Need::Device if caller.is_root() => Ok(()),
        Need::Device => {
            let what = if key.starts_with("hostpci") { "non-mapped" } else { "real" };
            Err(Failure::Die(format!("only root can set '{key}' config for {what} devices")))
        }
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

/// Checks that the account may use the network of a card: its VLANs, or without any the whole bridge
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

/// Checks that the account has one of these privileges at a path.
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

/// Applies a change.
///
/// # Errors
/// Why it cannot be applied: as from [`check`], if the world has changed since.
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
    if let Some(lock) = vm.lock.as_ref().filter(|_| !change.skiplock) {
        return Err(format!("VM is locked ({lock})"));
    }
    if change.digest.as_ref().is_some_and(|digest| *digest != vm.digest()) {
        return Err("checksum mismatch (file change by other user?)".to_owned());
    }
    for key in change.delete.iter().filter(|key| key.starts_with("unused")) {
        if let Some(volid) = vm.config.get(key).filter(|volid| vm.in_snapshot(volid)) {
            return Err(format!("unable to delete '{volid}' - volume is still in use (snapshot?)"));
        }
    }
    let running = vm.running.is_some();
    let before = vm.config.clone();
    let mut set = BTreeMap::new();
    for (key, value) in &change.set {
        let value = match drive::is_drive(key) {
            _ if key == "lock" => value.clone(),
            true => disks::place_drive(&mut pve.datacenters[dc], host, vmid, value, unix)?,
            false => normalised(pve, key, value),
        };
        set.insert(key.clone(), value);
    }
    let vm = pve.datacenters[dc].vm_on(host, vmid).ok_or_else(missing)?;
    if let Some(order) = super::boot::follow(vm, &set, &change.delete) {
        set.insert("boot".to_owned(), order);
    }
    let datacenter = &mut pve.datacenters[dc];
    let Some(vm) = datacenter.vms.get_mut(&vmid) else { return Err(missing()) };
    for key in &change.revert {
        vm.pending.remove(key);
    }
    if change.delete.iter().any(|key| key == "lock") {
        vm.lock = None;
    }
    if let Some(lock) = set.remove("lock") {
        vm.lock = Some(lock);
    }
    for (key, value) in set {
        if running && !takes_effect(&before, &key, Some(&value)) {
            let vm = datacenter.vms.get_mut(&vmid).ok_or_else(missing)?;
            vm.pending.insert(key, Some(value));
            continue;
        }
        disks::let_go(datacenter, host, vmid, &before, &key, change.force);
        let Some(vm) = datacenter.vms.get_mut(&vmid) else { return Err(missing()) };
        vm.pending.remove(&key);
        // A disk that is used again is no longer an unused one.
        let volid = Drive::parse(&value).volume;
        if drive::is_drive(&key) {
            vm.config.retain(|key, value| !(key.starts_with("unused") && *value == volid));
        }
        match key == "tags" && value.is_empty() {
            true => drop(vm.config.remove(&key)),
            false => drop(vm.config.insert(key, value)),
        }
    }
    for key in change.delete.iter().filter(|key| *key != "lock") {
        let Some(vm) = datacenter.vms.get_mut(&vmid) else { return Err(missing()) };
        if running && vm.config.contains_key(key) && !takes_effect(&before, key, None) {
            vm.pending.insert(key.clone(), None);
            continue;
        }
        vm.pending.remove(key);
        vm.config.remove(key);
        // Deleting an unused disk deletes the disk.
        if let Some(volid) = before.get(key).filter(|_| key.starts_with("unused")) {
            datacenter.remove_volume(host, volid);
        }
        disks::let_go(datacenter, host, vmid, &before, key, change.force);
    }
    Ok(())
}

/// Whether a change of a running VM takes effect at once.
fn takes_effect(before: &BTreeMap<String, String>, key: &str, value: Option<&str>) -> bool {
    let Some(old) = before.get(key).filter(|_| drive::is_drive(key)) else {
        return options::is_hot(key);
    };
    let old = Drive::parse(old);
    match value.map(Drive::parse) {
        // A medium is changed while the VM runs, its drive is not.
        Some(_) if old.is_cdrom() => true,
        None if old.is_cdrom() => false,
        // Most settings of a kept disk become pending.
        Some(new) if new.volume == old.volume => new.options == old.options,
        _ => options::is_hot(key),
    }
}

/// The devices that a change removes from a running VM, with their names on the guest's side: a guest
/// must release them first.
pub fn unplugged(vm: &Vm, change: &Change) -> Vec<(String, String)> {
    let single = vm.config.get("scsihw").is_some_and(|kind| kind == "virtio-scsi-single");
    let device = |key: &str| match key.strip_prefix("scsi") {
        Some(number) if single => format!("virtioscsi{number}"),
        _ => key.to_owned(),
    };
    let goes = |key: &str, new: Option<&String>| match (vm.config.get(key), new) {
        (None, _) => false,
        (Some(old), Some(new)) if nic::is_net(key) => nic::must_be_unplugged(old, new),
        (Some(_), None) if nic::is_net(key) => true,
        (Some(old), new) if drive::is_drive(key) => {
            let (old, new) = (Drive::parse(old), new.map(|new| Drive::parse(new)));
            let stays = new.is_some_and(|new| new.volume == old.volume);
            !old.is_cdrom() && !stays && options::is_hot(key)
        }
        _ => false,
    };
    let set = change.set.iter().map(|(key, value)| (key, Some(value)));
    let all = set.chain(change.delete.iter().map(|key| (key, None)));
    all.filter(|(key, new)| goes(key, *new)).map(|(key, _)| (key.clone(), device(key))).collect()
}

/// Stores a change of a running VM that its guest blocks as pending until the VM stops.
pub fn postpone(vm: &mut Vm, change: &Change, keys: &[(String, String)]) {
    for (key, _) in keys {
        vm.pending.insert(key.clone(), change.set.get(key).cloned());
    }
}

/// A value as the configuration stores it.
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

/// A description as it is read back: without trailing white space.
pub fn trimmed(text: &str) -> String {
    text.trim_end().to_owned()
}
