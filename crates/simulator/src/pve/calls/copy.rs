//! Creates VMs, clones them, and copies a disk to another storage (qemu-server src/PVE/API2/Qemu.pm,
//! `create_vm`, `clone_vm`, `move_vm_disk`).

use super::{Answer, Ask, Call, Permit, Run};
use crate::pve::drive::{self, Drive, Layout};
use crate::pve::nic;
use crate::pve::options::{self, Need};
use crate::pve::rules;
use crate::pve::state::{Storage, Vm};
use crate::pve::wire::Failure;
use crate::pve::work::{self, CloneWork, Create, MoveDisk, Reassign, Work};
use crate::pve::{config, disks};
use crate::store::Store;
use crate::world::World;

/// The calls of this module.
pub const CALLS: &[Call] = &[
    Call {
        method: "POST",
        path: "/nodes/{node}/qemu",
        permit: Permit::Check(|world, ask| may_allocate(world, ask, "vmid")),
        run: Run::Write(create),
    },
    Call {
        method: "POST",
        path: "/nodes/{node}/qemu/{vmid}/clone",
        permit: Permit::Check(|world, ask| {
            ask.require(world, &format!("/vms/{}", ask.text("vmid")), &["VM.Clone"])?;
            may_allocate(world, ask, "newid")
        }),
        run: Run::Write(clone),
    },
    Call {
        method: "POST",
        path: "/nodes/{node}/qemu/{vmid}/move_disk",
        permit: Permit::One("/vms/{vmid}", &["VM.Config.Disk"]),
        run: Run::Write(move_disk),
    },
];

/// VM.Allocate on the new VM, or on its pool.
fn may_allocate(world: &World, ask: &Ask, id: &str) -> Result<(), Failure> {
    if let Some(pool) = ask.params.text("pool") {
        if !ask.dc(world).pools.contains_key(pool) {
            let text = format!("pool '{pool}' does not exist");
            return Err(Failure::Forbidden(match id {
                "vmid" => format!("Permission check failed ({text})"),
                _ => text,
            }));
        }
        if ask.may(world, &format!("/pool/{pool}"), &["VM.Allocate"]) {
            return Ok(());
        }
    }
    let allowed = ask.may(world, &format!("/vms/{}", ask.text(id)), &["VM.Allocate"]);
    // Alternative checks fail with the bare text.
    let refused = || Failure::Forbidden("Permission check failed".to_owned());
    if allowed || ask.params.text(id).is_none() { Ok(()) } else { Err(refused()) }
}

fn create(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    ask.quorum(world)?;
    let vmid = ask.vmid();
    let dc = ask.dc(world);
    if ask.params.text("archive").is_some() {
        return Err(Failure::die("unable to restore: the simulator keeps no backups"));
    }
    if let Some(there) = dc.vms.get(&vmid) {
        return Err(Failure::Die(format!(
            "unable to create VM {vmid} - VM {vmid} already exists on node '{}'",
            there.host
        )));
    }
    let given = ask.params.0.keys().filter(|name| rules::is_option(name));
    let mut options: std::collections::BTreeMap<String, String> =
        given.filter_map(|name| Some((name.clone(), ask.params.text(name)?.to_owned()))).collect();
    let mut empty = Vm::new(&ask.node);
    for (key, value) in options.iter().filter(|(key, _)| drive::is_drive(key)) {
        let drive = Drive::parse(value);
        if let Some(storage) = drive.storage() {
            if !ask.dc(world).storages.contains_key(storage) {
                return Err(Failure::Die(format!("storage '{storage}' does not exist")));
            }
            let path = format!("/storage/{storage}");
            let privileges: &[&str] = match drive.is_cdrom() {
                true => &["Datastore.AllocateSpace", "Datastore.Audit"],
                false => &["Datastore.AllocateSpace"],
            };
            ask.require(world, &path, privileges)?;
        }
        if let Some((storage, _)) = drive.options.get("import-from").and_then(|v| v.split_once(':'))
        {
            let privileges = ["Datastore.AllocateSpace", "Datastore.Audit"];
            ask.require(world, &format!("/storage/{storage}"), &privileges)?;
        }
        disks::check_drive(dc, &ask.node, &empty, key, value)?;
        empty.config.insert(key.clone(), value.clone());
    }
    for (key, value) in options.iter().filter(|(key, _)| options::need(key) != Need::Drive) {
        // A boot order may name disks that are being created.
        if key != "boot" {
            config::permitted(dc, &ask.caller, vmid, key, Some(value))?;
        }
    }
    config::check_keys(&options)?;
    if !options.contains_key("boot") {
        let bootable = |key: &&String| drive::is_drive(key) || nic::is_net(key);
        let order: Vec<_> = options.keys().filter(bootable).cloned().collect();
        // An empty order is stored as a space.
        let order = drive::boot_order(&order, &options).unwrap_or_else(|| " ".to_owned());
        options.insert("boot".to_owned(), order);
    }
    let pool = ask.params.text("pool").map(str::to_owned);
    let start = ask.params.flag("start");
    let work = Work::Create(Box::new(Create { vmid, options, pool, start }));
    ask.spawn(world, "qmcreate", &vmid.to_string(), work)
}

fn clone(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    ask.quorum(world)?;
    let work = check_clone(world, ask)?;
    let source = work.source.to_string();
    ask.spawn(world, "qmclone", &source, Work::Clone(Box::new(work)))
}

fn check_clone(world: &World, ask: &Ask) -> Result<CloneWork, Failure> {
    let dc = ask.dc(world);
    let (source, node) = (ask.vmid(), &ask.node);
    let newid = ask.params.vmid("newid").unwrap_or_default();
    let storage = ask.params.text("storage");
    let target = ask.params.text("target").unwrap_or(node);
    if !dc.hosts.contains_key(target) {
        return Err(Failure::Die(format!("no such cluster node '{target}'")));
    }
    let away = target != node;
    let vm = dc.vm_on(node, source).ok_or_else(|| {
        Failure::Die(format!("unable to find configuration file for VM {source} on node '{node}'"))
    })?;
    if let Some(id) = storage {
        let section = dc.storages.get(id);
        let section =
            section.ok_or_else(|| Failure::Die(format!("storage '{id}' does not exist")))?;
        if !section.size.contains_key(node) {
            return Err(Failure::Die(format!("storage '{id}' is not available on node '{node}'")));
        }
        if away && !section.shared {
            return Err(Failure::Die(format!("can't clone to non-shared storage '{id}'")));
        }
        if !section.content.iter().any(|content| content == "images") {
            let text = format!("storage '{id}' does not support vm images");
            return Err(Failure::parameter("storage", text));
        }
    }
    if let Some(lock) = &vm.lock {
        return Err(Failure::Die(format!("VM is locked ({lock})")));
    }
    let full = ask.params.text("full").map_or(!vm.is_template(), |flag| flag == "1");
    for name in ["storage", "format"] {
        if !full && ask.params.text(name).is_some() {
            return Err(Failure::Die(format!("parameter '{name}' not allowed for linked clones")));
        }
    }
    if let Some(name) = ask.params.text("snapname").filter(|n| !vm.snapshots.contains_key(*n)) {
        return Err(super::snapshots::missing(name));
    }
    let section = |id: &str| -> Option<&Storage> { dc.storages.get(id) };
    let drives = || vm.drives().filter(|(_, drive)| drive.storage().is_some());
    let local = |drive: &Drive| drive.storage().and_then(section).is_some_and(|s| !s.shared);
    if away && drives().any(|(_, drive)| local(&drive)) {
        return Err(Failure::Die(format!(
            "can't clone VM to node '{target}' (VM uses local storage)"
        )));
    }
    // A VMID that another node has is detected in the task.
    if dc.vm_on(node, newid).is_some() {
        return Err(Failure::Die(format!(
            "unable to create VM {newid}: config file already exists"
        )));
    }
    for (key, drive) in drives().filter(|(_, drive)| !drive.is_cdrom()) {
        let kind = drive.storage().and_then(section).map(|s| Layout::of(&s.kind));
        let linkable = drive::is_base(&drive.volume) && kind.is_some_and(|k| k != Layout::Thick);
        if !full && !linkable {
            return Err(Failure::Die(format!(
                "Linked clone feature is not supported for '{}' ({key})",
                drive.volume
            )));
        }
    }
    for (_, drive) in drives().filter(|(_, drive)| !drive.is_cdrom() || drive.is_cloudinit()) {
        let on = storage.or(drive.storage()).unwrap_or_default();
        ask.require(world, &format!("/storage/{on}"), &["Datastore.AllocateSpace"])?;
    }
    for (_, net) in vm.config.iter().filter(|(key, _)| nic::is_net(key)) {
        config::bridge_permitted(dc, &ask.caller, net)?;
    }
    let own = |name: &str| ask.params.text(name).map(str::to_owned);
    Ok(CloneWork {
        source,
        newid,
        target: target.to_owned(),
        full,
        storage: own("storage"),
        format: own("format"),
        name: own("name"),
        description: own("description"),
        pool: own("pool"),
        snapshot: own("snapname"),
        limit: limit(ask),
        copying: None,
        copies: Vec::new(),
    })
}

/// The copy rate limit, in KiB/s.
fn limit(ask: &Ask) -> Option<u64> {
    ask.params.number("bwlimit").and_then(|kib| u64::try_from(kib).ok()).filter(|kib| *kib > 0)
}

/// Reassigns a disk to another VM.
fn reassign(world: &mut World, ask: &Ask) -> Answer {
    let own = |name: &str| ask.params.text(name).map(str::to_owned);
    let (vmid, target) = (ask.vmid(), ask.params.vmid("target-vmid").unwrap_or_default());
    if ask.params.text("storage").is_some() {
        let text = "either set 'storage' or 'target-vmid', but not both\n";
        let named = |name: &str| (name.to_owned(), text.to_owned());
        return Err(Failure::Parameters(["storage", "target-vmid"].map(named).into()));
    }
    ask.require(world, &format!("/vms/{target}"), &["VM.Config.Disk"])?;
    if target == vmid {
        let text = "must be different than source VMID to reassign disk";
        return Err(Failure::parameter("target-vmid", text));
    }
    let disk = ask.text("disk").to_owned();
    let target_disk = own("target-disk").unwrap_or_else(|| disk.clone());
    let digests = [own("digest"), own("target-digest")];
    let work = Reassign { vmid, disk, target, target_disk, digests };
    let drive = work::check_reassign(ask.dc(world), &work).map_err(Failure::Die)?;
    let storage = drive.storage().unwrap_or_default();
    ask.require(world, &format!("/storage/{storage}"), &["Datastore.AllocateSpace"])?;
    let id = format!("{vmid}-{}>{target}-{}", work.disk, work.target_disk);
    ask.spawn(world, "qmmove", &id, Work::Reassign(Box::new(work)))
}

fn move_disk(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    let own = |name: &str| ask.params.text(name).map(str::to_owned);
    if ask.params.text("target-vmid").is_some() {
        return reassign(world, ask);
    }
    let Some(storage) = own("storage") else {
        let text = "both 'storage' and 'target-vmid' missing, either needs to be set";
        let named = |name: &str| (name.to_owned(), format!("{text}\n"));
        return Err(Failure::Parameters(["storage", "target-vmid"].map(named).into()));
    };
    ask.require(world, &format!("/storage/{storage}"), &["Datastore.AllocateSpace"])?;
    let (vmid, disk) = (ask.vmid(), ask.text("disk").to_owned());
    if disk.starts_with("unused") {
        return Err(Failure::Die(format!(
            "cannot move disk '{disk}', only configured disks can be moved to another storage"
        )));
    }
    let work = MoveDisk {
        vmid,
        disk,
        storage,
        format: own("format"),
        delete: ask.params.flag("delete"),
        digest: own("digest"),
        limit: limit(ask),
        new: None,
    };
    work::check_move(ask.dc(world), &ask.node, &work).map_err(Failure::Die)?;
    ask.spawn(world, "qmmove", &vmid.to_string(), Work::MoveDisk(Box::new(work)))
}
