//! Checks a template's configuration: what makes it unusable, and what its clones have beyond the
//! profile. Pure.
//!
//! A clone gets every setting of its template except MAC addresses, UUIDs, unused disks and
//! `template` itself; it does get `protection` and a cloud-init drive.
//! Source: qemu-server src/PVE/API2/Qemu.pm, `clone_vm`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::spec::{DISK, SEED_DRIVE};
use crate::cluster::VmId;
use crate::proxmox::PropertyString;

#[cfg(test)]
mod tests;

/// The settings of a VM or a template, as Proxmox prints them.
pub type Settings = BTreeMap<String, String>;

/// A problem of a template that makes its clones unusable as machines of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// The problem, as the end of a sentence that begins with the template.
    pub what: String,
    /// The fix on the template's host: command lines if there are any.
    pub fix: Vec<String>,
}

/// Buses in the order in which Proxmox VE searches a boot disk if none is set.
/// Source: qemu-server src/PVE/QemuServer.pm, `get_default_bootdevices`.
const BUSES: [&str; 4] = ["ide", "scsi", "virtio", "sata"];

/// The formats of disks. Source: qemu-server src/PVE/QemuServer/Drive.pm, `QEMU_FORMAT_RE`.
const FORMATS: [&str; 7] = ["raw", "qcow", "qcow2", "qed", "vmdk", "cloop", "cow"];

/// Returns everything that makes a template unusable.
pub fn flaws(vmid: VmId, settings: &Settings) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    let mut flaw = |what: String, fix: Vec<String>| flaws.push(Flaw { what, fix });
    if let Some(lock) = settings.get("lock").filter(|lock| !lock.is_empty()) {
        flaw(
            format!("is locked ({lock}): Proxmox VE refuses to clone it"),
            vec![
                "pvenode task list --source active     (if no task is at work on it:)".to_owned(),
                format!("qm unlock {vmid}"),
            ],
        );
    }
    if let Some(arch) = settings.get("arch").filter(|arch| *arch != "x86_64") {
        flaw(
            format!("is for {arch}: machines of that architecture have no IDE drive for the seed"),
            vec!["use a template for x86_64 in the profile".to_owned()],
        );
    }
    match boot_disk(settings) {
        None => flaw(
            "has no disk".to_owned(),
            vec![format!(
                "use another template in the profile; if k8sha created this one, it recreates it \
                 after `qm destroy {vmid}`"
            )],
        ),
        Some(disk) if disk != DISK => flaw(
            format!(
                "boots from `{disk}`: k8sha boots its machines from `{DISK}`, and grows that \
                 disk"
            ),
            move_disk(vmid, settings, disk),
        ),
        Some(_) => {}
    }
    if let Some(value) = settings.get(SEED_DRIVE).filter(|value| is_disk(value)) {
        let free = free_slot(settings);
        flaw(
            format!("has a disk on `{SEED_DRIVE}`, which the seed needs"),
            vec![
                format!("qm set {vmid} --delete {SEED_DRIVE}"),
                format!("qm set {vmid} --{free} {}", volume(value)),
            ],
        );
    }
    for (key, value) in drives(settings).filter(|(key, _)| *key != SEED_DRIVE) {
        if is_cdrom(value) && !is_cloudinit(value) && volume(value) != "none" {
            flaw(
                format!(
                    "has `{}` in the drive `{key}`: cloud-init would use it as the seed if its \
                     label is `cidata`, which Proxmox VE does not show",
                    volume(value)
                ),
                vec![format!("qm set {vmid} --{key} none,media=cdrom")],
            );
        }
    }
    for key in ["args", "smbios1"] {
        if settings.get(key).is_some_and(|value| names_seed(value)) {
            flaw(
                format!("points cloud-init to another seed (`ds=nocloud` in `{key}`)"),
                vec![format!("qm set {vmid} --delete {key}")],
            );
        }
    }
    for (key, value) in settings.iter().filter(|(key, _)| is_numbered(key, "hostpci")) {
        if PropertyString::parse(value).get("mapping").is_none() {
            flaw(
                format!(
                    "passes through a PCI device of the host (`{key}`): only one machine at a time \
                     can use it"
                ),
                vec![format!("qm set {vmid} --delete {key}")],
            );
        }
    }
    flaws
}

/// What clones of a template have, or do not get, beyond the profile; `None` if there is nothing to
/// report.
pub fn notice(vmid: VmId, settings: &Settings) -> Option<String> {
    let others = drives(settings).filter(|(key, value)| *key != DISK && is_disk(value));
    let mut kept: Vec<&str> = others.map(|(key, _)| key).collect();
    kept.extend(settings.keys().map(String::as_str).filter(|key| {
        let further = is_numbered(key, "net") && *key != "net0";
        let passed = ["hostpci", "usb", "virtiofs"].iter().any(|kind| is_numbered(key, kind));
        further || passed || ["affinity", "args", "cpulimit", "hookscript"].contains(key)
    }));
    let dropped: Vec<String> = leftovers(settings)
        .into_iter()
        .filter(|(_, to)| to.is_empty())
        .map(|(key, _)| key)
        .collect();
    let list = |keys: &[&str]| format!("`{}`", keys.join("`, `"));
    let kept = (!kept.is_empty()).then(|| format!("clones get its {} unchanged", list(&kept)));
    let names: Vec<&str> = dropped.iter().map(String::as_str).collect();
    let dropped = (!names.is_empty()).then(|| format!("clones do not keep its {}", list(&names)));
    let said: Vec<String> = [kept, dropped].into_iter().flatten().collect();
    (!said.is_empty()).then(|| format!("template {vmid}: {}", said.join("; ")))
}

/// What a clone must not inherit from its template: settings and their new values, empty if the
/// setting is deleted.
pub(super) fn leftovers(settings: &Settings) -> Vec<(String, String)> {
    let mut changes: Vec<(String, String)> =
        foreign_seeds(settings).map(|key| (key.to_owned(), String::new())).collect();
    let is = |key: &str, value: &str| settings.get(key).is_some_and(|have| have == value);
    let mut set = |key: &str, to: &str| changes.push((key.to_owned(), to.to_owned()));
    // Protection is meant for the template; a clone with it cannot be destroyed.
    if is("protection", "1") {
        set("protection", "");
    }
    // A kubelet relies on the memory that it finds when it starts.
    if settings.get("balloon").is_some_and(|value| value != "0") {
        set("balloon", "");
    }
    // A row's `vcpu` is the total of a machine's CPUs.
    if settings.get("sockets").is_some_and(|value| value != "1") {
        set("sockets", "1");
    }
    if settings.contains_key("vcpus") {
        set("vcpus", "");
    }
    // A machine that waits when it starts, or powers off when its kernel policy reboots it.
    if is("freeze", "1") {
        set("freeze", "");
    }
    if is("reboot", "0") {
        set("reboot", "");
    }
    // The documents install the agent; without the option Proxmox VE does not query it.
    if !settings.get("agent").is_some_and(|value| has_agent(value)) {
        set("agent", "enabled=1");
    }
    changes
}

/// Whether clones come with a seed generated by Proxmox VE, in any drive: removing it requires an
/// additional privilege.
pub fn brings_seed(settings: &Settings) -> bool {
    drives(settings).any(|(_, value)| is_cloudinit(value))
}

/// The drives with a seed generated by Proxmox VE. cloud-init uses one volume labelled `cidata`: of
/// several, the one whose device name comes last.
/// Source: cloud-init cloudinit/sources/DataSourceNoCloud.py, `_get_devices`.
pub(super) fn foreign_seeds(settings: &Settings) -> impl Iterator<Item = &str> {
    drives(settings)
        .filter(|(key, value)| *key != SEED_DRIVE && is_cloudinit(value))
        .map(|(key, _)| key)
}

/// The disk that a VM boots from.
fn boot_disk(settings: &Settings) -> Option<&str> {
    let known = |key: &str| drives(settings).find(|(name, value)| *name == key && is_disk(value));
    let boot = settings.get("boot").map(|boot| PropertyString::parse(boot)).unwrap_or_default();
    let ordered = boot.get("order").and_then(|order| order.split(';').find_map(known));
    let named = || settings.get("bootdisk").and_then(|key| known(key));
    let place = |key: &str| {
        let bus = key.trim_end_matches(|letter: char| letter.is_ascii_digit());
        let number = key.get(bus.len()..).and_then(|number| number.parse::<u8>().ok());
        (BUSES.iter().position(|known| *known == bus), number)
    };
    let first =
        || drives(settings).filter(|(_, value)| is_disk(value)).min_by_key(|(key, _)| place(key));
    ordered.or_else(named).or_else(first).map(|(key, _)| key)
}

/// The commands that move the boot disk to k8sha's slot, and a disk in that slot elsewhere.
fn move_disk(vmid: VmId, settings: &Settings, disk: &str) -> Vec<String> {
    let boots = settings.get(disk).map_or("", |value| volume(value));
    let there = settings.get(DISK).filter(|value| volume(value) != "none");
    let (also, besides) = match there {
        Some(value) if is_disk(value) => {
            (format!(",{DISK}"), format!(" --{} {}", free_slot(settings), volume(value)))
        }
        Some(_) => (format!(",{DISK}"), String::new()),
        None => Default::default(),
    };
    vec![
        format!("qm set {vmid} --delete {disk}{also}"),
        format!(
            "qm set {vmid} --{DISK} {boots}{besides} --scsihw virtio-scsi-single --boot order={DISK}"
        ),
    ]
}

/// The first free slot for another disk.
fn free_slot(settings: &Settings) -> String {
    let mut slots = (1..31).map(|number| format!("scsi{number}"));
    slots.find(|slot| !settings.contains_key(slot)).unwrap_or_else(|| "scsi30".to_owned())
}

/// The drives that can hold a disk or a CD-ROM.
fn drives(settings: &Settings) -> impl Iterator<Item = (&str, &str)> {
    settings
        .iter()
        .filter(|(key, _)| BUSES.iter().any(|bus| is_numbered(key, bus)))
        .map(|(key, value)| (key.as_str(), value.as_str()))
}

fn is_numbered(key: &str, stem: &str) -> bool {
    let number = key.strip_prefix(stem).unwrap_or_default();
    !number.is_empty() && number.bytes().all(|letter| letter.is_ascii_digit())
}

/// The volume in a drive; `none` in an empty one.
fn volume(value: &str) -> &str {
    let first = value.split(',').next().unwrap_or(value);
    first.strip_prefix("file=").unwrap_or(first)
}

fn is_cdrom(value: &str) -> bool {
    PropertyString::parse(value).get("media") == Some("cdrom")
}

/// Whether a drive holds a seed that Proxmox VE generates, recognised by the volume's name as
/// Proxmox VE does.
/// Source: qemu-server src/PVE/QemuServer/Drive.pm, `drive_is_cloudinit`.
fn is_cloudinit(value: &str) -> bool {
    let Some((_, path)) = volume(value).split_once(':') else { return false };
    let name = path.rsplit('/').next().unwrap_or(path);
    let (name, format) = name.split_once('.').unwrap_or((name, "raw"));
    let owner = name.strip_suffix("-cloudinit").and_then(|name| name.strip_prefix("vm-"));
    FORMATS.contains(&format)
        && (name == "cloudinit" || owner.is_some_and(|id| is_numbered(id, "")))
}

fn is_disk(value: &str) -> bool {
    !is_cdrom(value) && !is_cloudinit(value) && volume(value) != "none"
}

/// Whether Proxmox VE queries the guest agent.
fn has_agent(value: &str) -> bool {
    let property = PropertyString::parse(value);
    property.head().or(property.get("enabled")).is_some_and(|flag| flag == "1")
}

/// Whether a value makes cloud-init search for its documents elsewhere: it reads the serial number
/// of the machine, which Proxmox VE may store encoded.
/// Source: cloud-init cloudinit/sources/DataSourceNoCloud.py, `ds_detect` and `_get_data`.
fn names_seed(value: &str) -> bool {
    let plain = |text: &str| text.to_ascii_lowercase().contains("ds=nocloud");
    let serial = value.split(',').find_map(|part| part.strip_prefix("serial="));
    let decoded = serial.and_then(|text| STANDARD.decode(text).ok());
    plain(value) || decoded.is_some_and(|bytes| plain(&String::from_utf8_lossy(&bytes)))
}
