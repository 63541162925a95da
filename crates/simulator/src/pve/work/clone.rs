//! Clones a VM (qemu-server src/PVE/API2/Qemu.pm, `clone_vm`).

use serde::{Deserialize, Serialize};

use super::{Next, Turn, Work, no_room};
use crate::faults::FaultKind;
use crate::pve::drive::{self, Drive, Layout};
use crate::pve::state::{Datacenter, Vm, Volume};
use crate::pve::task::{storage_lock, timeout_text, vm_lock};
use crate::pve::{config, disks, nic, pace};

/// A requested clone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Clone {
    /// The VM to copy.
    pub source: u32,
    /// The new VM.
    pub newid: u32,
    /// The node of the new VM.
    pub target: String,
    /// Whether disks are copied instead of linked.
    pub full: bool,
    /// The storage of the disks; `None`: the source's.
    pub storage: Option<String>,
    /// The disks' format.
    pub format: Option<String>,
    /// The VM's name.
    pub name: Option<String>,
    /// Its description.
    pub description: Option<String>,
    /// Its pool.
    pub pool: Option<String>,
    /// The snapshot to copy; `None`: the current state.
    #[serde(default)]
    pub snapshot: Option<String>,
    /// The read rate limit, in KiB/s.
    pub limit: Option<u64>,
    /// The lock of the target storage, while it copies.
    pub copying: Option<String>,
    /// The disks to copy.
    pub copies: Vec<Copied>,
}

/// A disk that is being copied.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Copied {
    /// The drive's option name.
    pub drive: String,
    /// The drive's value when the copy is complete.
    pub value: String,
    /// Its size in bytes.
    pub size: u64,
    /// The part of it that is data.
    pub used: u64,
    /// The copy command.
    pub command: String,
}

/// Creating the new configuration.
const BEGIN: u8 = 0;
/// Allocating the volumes.
const ALLOCATE: u8 = 1;
/// The volumes exist; copying starts.
const COPY: u8 = 2;
/// The copy is complete.
const FINISH: u8 = 3;
/// A copy that fails (an injected fault).
const BREAK: u8 = 4;

/// One stage.
pub fn step(turn: &mut Turn, mut work: Clone) -> Result<Next, Next> {
    let host = turn.host();
    match turn.task.stage {
        BEGIN => begin(turn, &work, &host),
        ALLOCATE => {
            let result = allocate(turn, &mut work, &host);
            if let Err(Next::End(Err(text))) = result {
                undo(turn.dc(), &work);
                return Ok(Next::End(Err(format!("clone failed: {text}"))));
            }
            turn.task.work = Work::Clone(Box::new(work));
            result
        }
        COPY => {
            let upid = turn.task.upid.clone();
            let at = turn.at;
            if let Some(file) = &work.copying {
                turn.dc().release(&upid, Some(file), at);
            }
            let seconds = match work.full {
                true => {
                    pace::FULL_CLONE + work.copies.iter().map(|c| time(c, work.limit)).sum::<f64>()
                }
                false => pace::LINKED_CLONE - pace::CLONE_CONFIG - pace::ALLOCATE,
            };
            let name = work.name.clone().unwrap_or_default();
            let short = name.split('.').next().unwrap_or_default().to_owned();
            if turn.fault(FaultKind::TaskFails)
                || turn.world.faults.take(FaultKind::TaskFails, &short)
            {
                return Ok(turn.after(BREAK, seconds / 2.0));
            }
            for copy in &work.copies {
                turn.say(format!("transferred 0.0 B of {} (0.00%)", human(copy.size)));
            }
            Ok(turn.after(FINISH, seconds))
        }
        BREAK => {
            undo(turn.dc(), &work);
            let text = "clone failed: copy failed: command '/usr/bin/qemu-img convert' failed: \
                        error while writing: Input/output error";
            Ok(Next::End(Err(text.to_owned())))
        }
        _ => {
            for copy in &work.copies {
                let size = human(copy.size);
                turn.say(format!("transferred {size} of {size} (100.00%)"));
            }
            let dc = turn.dc();
            if let Some(vm) = dc.vms.get_mut(&work.newid) {
                let drives = work.copies.into_iter().map(|copy| (copy.drive, copy.value));
                vm.config.extend(drives);
                vm.lock = None;
                vm.host.clone_from(&work.target);
            }
            if let Some(pool) = work.pool.as_ref().and_then(|pool| dc.pools.get_mut(pool)) {
                pool.vms.insert(work.newid);
            }
            Ok(Next::End(Ok(())))
        }
    }
}

fn begin(turn: &mut Turn, work: &Clone, host: &str) -> Result<Next, Next> {
    let source = vm_lock(host, work.source);
    if turn.fault(FaultKind::CloneLockTimeout) {
        turn.say("trying to acquire lock...");
        return Ok(Next::End(Err(timeout_text(&source))));
    }
    let running = turn.dc().vms.get(&work.source).is_some_and(|vm| vm.running.is_some());
    turn.lock(&source, !running, pace::CLONE_LOCK_WAIT)?;
    turn.lock(&vm_lock(host, work.newid), false, pace::CLONE_LOCK_WAIT)?;
    if let Some(there) = turn.dc().vms.get(&work.newid) {
        let elsewhere = there.host != host;
        let text = if elsewhere {
            turn.say(format!("creating a clone of VM {} with ID {}", work.source, work.newid));
            // The file with the same name is on another node.
            format!(
                "close (rename) atomic file '/etc/pve/nodes/{host}/qemu-server/{}.conf' failed: \
                 File exists",
                work.newid
            )
        } else {
            format!("unable to create VM {}: config file already exists", work.newid)
        };
        return Ok(Next::End(Err(text)));
    }
    if turn.dc().vm_on(host, work.source).is_none() {
        let text =
            format!("unable to find configuration file for VM {} on node '{host}'", work.source);
        return Ok(Next::End(Err(text)));
    }
    let mut vm = Vm::new(host);
    vm.lock = Some("clone".to_owned());
    vm.config.insert("description".to_owned(), " qmclone temporary file".to_owned());
    turn.dc().vms.insert(work.newid, vm);
    turn.say(format!("creating a clone of VM {} with ID {}", work.source, work.newid));
    Ok(turn.after(ALLOCATE, pace::CLONE_CONFIG))
}

/// Takes the storage's lock and creates the new VM's volumes and configuration.
fn allocate(turn: &mut Turn, work: &mut Clone, host: &str) -> Result<Next, Next> {
    let Some(mut source) = turn.dc().vms.get(&work.source).cloned() else {
        return Err(Next::End(Err(super::no_config(host, work.source))));
    };
    if let Some(snapshot) = work.snapshot.as_ref().and_then(|name| source.snapshots.get(name)) {
        source.config = snapshot.config.clone();
    }
    let first = source.drives().find(|(_, drive)| drive.storage().is_some());
    let first = first.and_then(|(_, drive)| drive.storage().map(str::to_owned));
    let storage = work.storage.clone().or(first).unwrap_or_default();
    let section = turn.dc().storages.get(&storage).cloned();
    let shared = section.as_ref().is_some_and(|section| section.shared);
    let file = storage_lock(host, &storage, shared);
    turn.lock(&file, false, pace::STORAGE_LOCK_WAIT)?;
    if turn.world.faults.active(FaultKind::DiskFull, host) {
        let kind = section.map(|section| section.kind).unwrap_or_default();
        return Err(Next::End(Err(no_room(&storage, &kind))));
    }
    let copies = turn.dc().tasks.iter().filter(|task| {
        let on = matches!(&task.work, Work::Clone(other) if other.copying.as_ref() == Some(&file));
        on && task.next.is_some() && task.stage == FINISH
    });
    let hold = match work.full {
        true => pace::ALLOCATE + pace::ALLOCATE_PER_COPY * copies.count() as f64,
        false => pace::ALLOCATE,
    };
    let unix = turn.unix();
    let mut vm = Vm::new(host);
    vm.lock = Some("clone".to_owned());
    vm.config = source.config.clone();
    for key in ["template", "parent", "snaptime"] {
        vm.config.remove(key);
    }
    vm.config.retain(|key, _| !key.starts_with("unused"));
    let drives: Vec<_> = source.drives().map(|(key, drive)| (key.to_owned(), drive)).collect();
    for (key, old) in drives {
        let new = copy_drive(turn, work, host, &key, &old, unix);
        // A drive is set when its volume is complete.
        if work.copies.iter().any(|copy| copy.drive == key) {
            vm.config.remove(&key);
        } else if let Some(new) = new {
            vm.config.insert(key, new.to_string());
        }
    }
    for (key, value) in source.config.iter().filter(|(key, _)| nic::is_net(key)) {
        let mac = turn.world.pve.new_mac();
        vm.config.insert(key.clone(), nic::with_mac(value, &mac));
    }
    let uuid = format!("uuid={}", turn.world.pve.new_uuid());
    let before = source.config.get("smbios1").map(String::as_str).unwrap_or_default();
    let kept = before.split(',').filter(|part| !part.is_empty() && !part.starts_with("uuid="));
    let mut smbios: Vec<&str> = kept.chain([uuid.as_str()]).collect();
    smbios.sort_unstable();
    vm.config.insert("smbios1".to_owned(), smbios.join(","));
    // A source without a generation id gets none.
    if vm.config.contains_key("vmgenid") {
        let generation = turn.world.pve.new_uuid();
        vm.config.insert("vmgenid".to_owned(), generation);
    }
    let copy = || format!("Copy-of-VM-{}", source.name(work.source));
    vm.config.insert("name".to_owned(), work.name.clone().unwrap_or_else(copy));
    // To Perl an empty description is false: the source's is kept.
    if let Some(text) = work.description.as_ref().filter(|text| !text.is_empty()) {
        vm.config.insert("description".to_owned(), config::trimmed(text));
    }
    let dc = turn.dc();
    dc.vms.insert(work.newid, vm);
    // The firewall's file is cloned too, and replaces one left by another VM with that VMID.
    dc.firewalls.remove(&format!("vm-{}", work.newid));
    if let Some(file) = dc.firewalls.get(&format!("vm-{}", work.source)).cloned() {
        dc.firewalls.insert(format!("vm-{}", work.newid), file);
    }
    work.copying = Some(file);
    Ok(turn.after(COPY, hold))
}

/// Copies or links the volume of a drive, and returns the new drive.
pub(super) fn copy_drive(
    turn: &mut Turn,
    work: &mut Clone,
    host: &str,
    key: &str,
    old: &Drive,
    unix: i64,
) -> Option<Drive> {
    if old.is_cdrom() && !old.is_cloudinit() {
        // A CD-ROM is kept in the drive.
        return None;
    }
    let base = turn.dc().volume(host, &old.volume)?.clone();
    let to = match &work.storage {
        Some(storage) => storage.clone(),
        None => base.storage.clone(),
    };
    let section = turn.dc().storages.get(&to)?.clone();
    let layout = Layout::of(&section.kind);
    let format = layout.format(work.format.as_deref().or(Some(&base.format))).to_owned();
    let vmid = work.newid;
    let on = (!section.shared).then(|| host.to_owned());
    let linked = !work.full && !old.is_cloudinit() && key != "tpmstate0";
    let name = match old.is_cloudinit() {
        true => format!("vm-{vmid}-cloudinit"),
        false => disks::free_name(turn.dc(), host, &to, vmid),
    };
    let volid = match linked {
        true => layout.linked(&base.volid, vmid, &name, &format),
        false => layout.volid(&to, vmid, &name, &format),
    };
    let kind = if linked { "linked" } else { "full" };
    turn.say(format!("create {kind} clone of drive {key} ({})", old.volume));
    if let Some(line) = formatting(turn.dc(), &to, &volid, &format, &base, linked) {
        turn.say(line);
    }
    if !linked {
        turn.say(format!("allocated target volume '{volid}'"));
    }
    let command = command(turn.dc(), &base, (&to, &volid, &format), work.limit);
    turn.dc().volumes.push(Volume {
        volid: volid.clone(),
        storage: to,
        host: on,
        format,
        ctime: unix,
        vmid: Some(vmid),
        parent: linked.then(|| base.volid.clone()),
        ..base.clone()
    });
    let mut new = old.clone();
    new.volume = volid;
    new.options.insert("size".to_owned(), drive::format_size(base.size));
    if !linked && !old.is_cloudinit() {
        let (drive, value) = (key.to_owned(), new.to_string());
        work.copies.push(Copied { drive, value, size: base.size, used: base.used(), command });
    }
    Some(new)
}

/// The output of `qemu-img create` for a new file.
fn formatting(
    dc: &Datacenter,
    storage: &str,
    volid: &str,
    format: &str,
    base: &Volume,
    linked: bool,
) -> Option<String> {
    let kind = &dc.storages.get(storage)?.kind;
    if Layout::of(kind) != Layout::Files {
        return None;
    }
    let (path, size) = (dc.path(storage, volid), base.size);
    if format != "qcow2" {
        return Some(format!("Formatting '{path}', fmt={format} size={size} preallocation=off"));
    }
    let name = base.volid.split_once(':').map_or("", |(_, path)| path);
    let (clusters, backing) = match linked {
        true => {
            let backing = format!("backing_file=../{name} backing_fmt={} ", base.format);
            ("131072 extended_l2=on", backing)
        }
        false => ("65536 extended_l2=off", String::new()),
    };
    Some(format!(
        "Formatting '{path}', fmt=qcow2 cluster_size={clusters} preallocation=metadata \
         compression_type=zlib size={size} {backing}lazy_refcounts=off refcount_bits=16"
    ))
}

/// The command that copies a disk (qemu-server src/PVE/QemuServer/QemuImage.pm).
fn command(
    dc: &Datacenter,
    base: &Volume,
    (storage, volid, format): (&str, &str, &str),
    limit: Option<u64>,
) -> String {
    let rate = limit.map(|limit| format!(" -r {limit}K")).unwrap_or_default();
    let (from, to) = (dc.path(&base.storage, &base.volid), dc.path(storage, volid));
    format!(
        "/usr/bin/qemu-img convert -p -n{rate} -f {} -O {format} {from} zeroinit:{to}",
        base.format
    )
}

/// The duration of copying a disk: all of it is read, and its data may be rate-limited.
pub(super) fn time(copy: &Copied, limit: Option<u64>) -> f64 {
    let free = copy.size as f64 / pace::COPY_RATE;
    limit.map_or(free, |limit| free.max(copy.used as f64 / 1024.0 / limit as f64))
}

/// The end of a clone whose task is stopped.
pub fn interrupted(work: &Clone) -> String {
    match work.copies.first() {
        Some(Copied { command, .. }) => {
            format!("clone failed: copy failed: command '{command}' failed: interrupted by signal")
        }
        None => "clone failed: interrupted by signal".to_owned(),
    }
}

/// Removes what an unfinished clone created.
pub fn undo(dc: &mut Datacenter, work: &Clone) {
    if dc.vms.get(&work.newid).is_some_and(|vm| vm.lock.as_deref() == Some("clone")) {
        dc.vms.remove(&work.newid);
        dc.firewalls.remove(&format!("vm-{}", work.newid));
        dc.volumes.retain(|volume| volume.vmid != Some(work.newid));
    }
}

pub(super) fn human(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0))
}
