//! Snapshots of a VM, and other operations on its disks (qemu-server src/PVE/API2/Qemu.pm,
//! pve-guest-common src/PVE/AbstractConfig.pm).

use serde_json::{Value, json};

use super::vms::{shown, vm};
use super::{Answer, Ask, Call, Permit, Run};
use crate::pve::drive::Layout;
use crate::pve::state::{Datacenter, Snapshot, Vm};
use crate::pve::wire::Failure;
use crate::pve::work::{SnapshotStep, Work};
use crate::store::Store;
use crate::world::World;

const VM: &str = "/vms/{vmid}";
const SNAPSHOT: Permit = Permit::One(VM, &["VM.Snapshot"]);

/// The calls of this module.
pub const CALLS: &[Call] = &[
    Call {
        method: "GET",
        path: "/nodes/{node}/qemu/{vmid}/snapshot",
        permit: Permit::One(VM, &["VM.Audit"]),
        run: Run::Read(list),
    },
    Call {
        method: "POST",
        path: "/nodes/{node}/qemu/{vmid}/snapshot",
        permit: SNAPSHOT,
        run: Run::Write(|world, _: &Store, ask| {
            vm(world, ask)?;
            let name = ask.text("snapname").to_owned();
            if name == "current" || name == "pending" {
                return Err(Failure::Die(format!(
                    "unable to use snapshot name '{name}' (reserved name)"
                )));
            }
            let description = ask.text("description").to_owned();
            spawn(world, ask, "qmsnapshot", SnapshotStep::Take { name, description })
        }),
    },
    Call {
        method: "DELETE",
        path: "/nodes/{node}/qemu/{vmid}/snapshot/{snapname}",
        permit: SNAPSHOT,
        run: Run::Write(|world, _: &Store, ask| {
            let name = ask.text("snapname").to_owned();
            let force = ask.params.flag("force");
            spawn(world, ask, "qmdelsnapshot", SnapshotStep::Delete { name, force })
        }),
    },
    Call {
        method: "POST",
        path: "/nodes/{node}/qemu/{vmid}/snapshot/{snapname}/rollback",
        permit: Permit::One(VM, &["VM.Snapshot", "VM.Snapshot.Rollback"]),
        run: Run::Write(|world, _: &Store, ask| {
            let (name, start) = (ask.text("snapname").to_owned(), ask.params.flag("start"));
            spawn(world, ask, "qmrollback", SnapshotStep::Rollback { name, start })
        }),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/qemu/{vmid}/snapshot/{snapname}/config",
        permit: Permit::One(VM, &["VM.Snapshot", "VM.Snapshot.Rollback", "VM.Audit"]),
        run: Run::Read(|world, ask| {
            let name = ask.text("snapname");
            let found = vm(world, ask)?.snapshots.get(name);
            found.map(options).ok_or_else(|| missing(name))
        }),
    },
    Call {
        method: "PUT",
        path: "/nodes/{node}/qemu/{vmid}/snapshot/{snapname}/config",
        permit: SNAPSHOT,
        run: Run::Write(|world, _: &Store, ask| {
            vm(world, ask)?;
            let name = ask.text("snapname");
            let snapshots = ask.dc_mut(world).vms.get_mut(&ask.vmid()).map(|vm| &mut vm.snapshots);
            let snapshot = snapshots.and_then(|all| all.get_mut(name));
            let snapshot = snapshot.ok_or_else(|| missing(name))?;
            if let Some(text) = ask.params.text("description") {
                text.clone_into(&mut snapshot.description);
            }
            Ok(Value::Null)
        }),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/qemu/{vmid}/feature",
        permit: Permit::One(VM, &["VM.Audit"]),
        run: Run::Read(feature),
    },
];

/// There is no such snapshot.
pub fn missing(name: &str) -> Failure {
    Failure::Die(format!("snapshot '{name}' does not exist"))
}

fn spawn(world: &mut World, ask: &Ask, kind: &str, step: SnapshotStep) -> Answer {
    let vmid = ask.vmid();
    ask.spawn(world, kind, &vmid.to_string(), Work::Snapshot { vmid, step })
}

/// The options of the VM at that time.
pub fn options(snapshot: &Snapshot) -> Value {
    let options = snapshot.config.iter().map(|(key, value)| (key.clone(), shown(key, value)));
    let mut all: serde_json::Map<_, _> = options.collect();
    all.insert("snaptime".to_owned(), json!(snapshot.time));
    if !snapshot.description.is_empty() {
        all.insert("description".to_owned(), json!(snapshot.description));
    }
    if let Some(parent) = &snapshot.parent {
        all.insert("parent".to_owned(), json!(parent));
    }
    Value::Object(all)
}

/// The current state of a VM is always in the list.
fn list(world: &World, ask: &Ask) -> Answer {
    let vm = vm(world, ask)?;
    let kept = vm.snapshots.iter().map(|(name, snapshot)| {
        let mut value = json!({"name": name, "description": snapshot.description,
                               "snaptime": snapshot.time, "vmstate": 0});
        if let Some(parent) = &snapshot.parent {
            value["parent"] = json!(parent);
        }
        value
    });
    let mut all: Vec<Value> = kept.collect();
    let mut now = json!({"name": "current", "description": "You are here!", "digest": vm.digest(),
                         "running": u8::from(vm.running.is_some())});
    if let Some(parent) = vm.config.get("parent") {
        now["parent"] = json!(parent);
    }
    all.push(now);
    Ok(Value::Array(all))
}

/// Whether the storage and format of every disk of a VM support snapshots.
pub fn can_snapshot(dc: &Datacenter, vm: &Vm) -> bool {
    let mut disks = vm.drives().filter(|(_, drive)| !drive.is_cdrom());
    disks.all(|(_, drive)| {
        let section = drive.storage().and_then(|id| dc.storages.get(id));
        let format = dc.volume(&vm.host, &drive.volume).map(|volume| volume.format.as_str());
        match section.map(|section| Layout::of(&section.kind)) {
            Some(Layout::Files) => format == Some("qcow2"),
            Some(Layout::Thick) | None => false,
            Some(Layout::Thin | Layout::Tree) => true,
        }
    })
}

fn feature(world: &World, ask: &Ask) -> Answer {
    let (dc, vm) = (ask.dc(world), vm(world, ask)?);
    if let Some(name) = ask.params.text("snapname").filter(|name| !vm.snapshots.contains_key(*name))
    {
        return Err(missing(name));
    }
    let has = match ask.text("feature") {
        "snapshot" => can_snapshot(dc, vm),
        "clone" => vm.is_template(),
        _ => true,
    };
    let shared = vm.drives().all(|(_, drive)| {
        drive.storage().and_then(|id| dc.storages.get(id)).is_none_or(|section| section.shared)
    });
    let nodes: Vec<_> = dc
        .hosts
        .keys()
        .filter(|node| **node == ask.node || shared && vm.drives().count() > 0)
        .collect();
    Ok(json!({"hasFeature": u8::from(has), "nodes": nodes}))
}
