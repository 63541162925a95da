//! Migrates a VM to another node (qemu-server src/PVE/API2/Qemu.pm, `migrate_vm`).

use serde_json::{Value, json};

use super::vms::vm;
use super::{Answer, Ask, Call, Permit, Run};
use crate::pve::drive::Drive;
use crate::pve::state::{Datacenter, Vm};
use crate::pve::wire::Failure;
use crate::pve::work::{Migrate, Work};
use crate::store::Store;
use crate::world::World;

const PERMIT: Permit = Permit::One("/vms/{vmid}", &["VM.Migrate"]);
const PATH: &str = "/nodes/{node}/qemu/{vmid}/migrate";

/// The calls of this module.
pub const CALLS: &[Call] = &[
    Call { method: "GET", path: PATH, permit: PERMIT, run: Run::Read(preconditions) },
    Call { method: "POST", path: PATH, permit: PERMIT, run: Run::Write(migrate) },
];

/// A VM's drives on node-local storage, as in its options.
pub fn local_disks<'a>(
    dc: &'a Datacenter,
    vm: &'a Vm,
) -> impl Iterator<Item = (&'a str, Drive)> + 'a {
    vm.drives().filter(|(_, drive)| {
        let section = drive.storage().and_then(|id| dc.storages.get(id));
        section.is_some_and(|section| !section.shared)
    })
}

/// Obstacles to a migration. Proxmox never refuses here: every other node is listed as allowed and,
/// without an obstacle, as not allowed too.
fn preconditions(world: &World, ask: &Ask) -> Answer {
    let (dc, vm) = (ask.dc(world), vm(world, ask)?);
    let disks = local_disks(dc, vm).map(|(key, drive)| {
        let mut value = json!({
            "volid": drive.volume, "drivename": key, "cdrom": u8::from(drive.is_cdrom()),
            "is_cloudinit": u8::from(drive.is_cloudinit()), "is_attached": 1, "is_unused": 0,
            "is_tpmstate": u8::from(key == "tpmstate0"), "is_vmstate": 0, "shared": 0,
            "replicate": 1,
        });
        if let Some(size) = drive.size() {
            value["size"] = json!(size);
        }
        value
    });
    let others: Vec<_> = dc.hosts.keys().filter(|name| **name != ask.node).collect();
    let against: Value = others.iter().map(|name| ((*name).clone(), json!({}))).collect();
    Ok(json!({
        "running": u8::from(vm.running.is_some()), "local_disks": disks.collect::<Vec<_>>(),
        "local_resources": [], "mapped-resources": [], "mapped-resource-info": {},
        "allowed_nodes": others, "not_allowed_nodes": against, "has-dbus-vmstate": 1,
    }))
}

fn migrate(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    let dc = ask.dc(world);
    let target = ask.text("target").to_owned();
    if target == ask.node {
        return Err(Failure::parameter("target", "target is local node."));
    }
    if !dc.hosts.contains_key(&target) {
        return Err(Failure::Die(format!("no such cluster node '{target}'")));
    }
    let found = vm(world, ask)?;
    if let Some(lock) = &found.lock {
        return Err(Failure::Die(format!("VM is locked ({lock})")));
    }
    if found.running.is_some() && !ask.params.flag("online") {
        return Err(Failure::die("can't migrate running VM without --online"));
    }
    for pair in ask.params.list("targetstorage") {
        let storage = pair.rsplit(':').next().unwrap_or_default();
        if storage != "1" && !dc.storages.contains_key(storage) {
            return Err(Failure::Die(format!("storage '{storage}' does not exist")));
        }
    }
    let vmid = ask.vmid();
    let work = Migrate { vmid, target, with_disks: ask.params.flag("with-local-disks") };
    ask.spawn(world, "qmigrate", &vmid.to_string(), Work::Migrate(Box::new(work)))
}
