//! `/pools` (pve-manager PVE/API2/Pool.pm).

use serde_json::{Value, json};

use super::{Answer, Ask, Call, Permit, Run};
use crate::pve::state::Pool;
use crate::pve::wire::Failure;
use crate::store::Store;
use crate::world::World;

const ALLOCATE: Permit = Permit::One("/pool/{poolid}", &["Pool.Allocate"]);

/// The calls of this module.
pub const CALLS: &[Call] = &[
    Call { method: "GET", path: "/pools", permit: Permit::User, run: Run::Read(list) },
    Call { method: "POST", path: "/pools", permit: ALLOCATE, run: Run::Write(create) },
    Call { method: "PUT", path: "/pools", permit: ALLOCATE, run: Run::Write(change) },
    Call { method: "DELETE", path: "/pools", permit: ALLOCATE, run: Run::Write(delete) },
    Call {
        method: "GET",
        path: "/pools/{poolid}",
        permit: Permit::One("/pool/{poolid}", &["Pool.Audit"]),
        run: Run::Read(|world, ask| {
            let id = ask.text("poolid");
            let pool = ask.dc(world).pools.get(id).ok_or_else(|| missing(id))?;
            Ok(shown(world, ask, id, pool))
        }),
    },
    Call { method: "PUT", path: "/pools/{poolid}", permit: ALLOCATE, run: Run::Write(change) },
    Call { method: "DELETE", path: "/pools/{poolid}", permit: ALLOCATE, run: Run::Write(delete) },
];

fn missing(id: &str) -> Failure {
    Failure::Die(format!("pool '{id}' does not exist"))
}

fn shown(world: &World, ask: &Ask, id: &str, pool: &Pool) -> Value {
    let dc = ask.dc(world);
    let vms = pool.vms.iter().filter_map(|vmid| dc.vms.get(vmid).map(|vm| (vmid, vm)));
    let vms = vms.map(|(vmid, vm)| {
        let mut value = super::cluster::vm_resource(world, dc, *vmid, vm);
        if let Some(fields) = value.as_object_mut() {
            fields.remove("pool");
        }
        value
    });
    let storages = pool.storages.iter().map(|storage| {
        json!({"id": format!("storage/{storage}"), "type": "storage", "storage": storage})
    });
    let mut value = json!({"poolid": id, "members": vms.chain(storages).collect::<Vec<_>>()});
    if let Some(comment) = &pool.comment {
        value["comment"] = json!(comment);
    }
    value
}

fn list(world: &World, ask: &Ask) -> Answer {
    let dc = ask.dc(world);
    if let Some(id) = ask.params.text("poolid") {
        ask.require(world, &format!("/pool/{id}"), &["Pool.Audit"])?;
        let pool = dc.pools.get(id).ok_or_else(|| missing(id))?;
        return Ok(json!([shown(world, ask, id, pool)]));
    }
    let seen = dc
        .pools
        .iter()
        .filter(|(id, _)| ask.may(world, &format!("/pool/{id}"), &["Pool.Audit", "Pool.Allocate"]));
    Ok(seen
        .map(|(id, pool)| match &pool.comment {
            Some(comment) => json!({"poolid": id, "comment": comment}),
            None => json!({"poolid": id}),
        })
        .collect())
}

fn create(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    ask.can_write(world, "user_cfg")?;
    let id = ask.text("poolid").to_owned();
    let comment = ask.params.text("comment").map(str::to_owned);
    let dc = ask.dc_mut(world);
    if dc.pools.contains_key(&id) {
        return Err(Failure::Die(format!("create pool failed: pool '{id}' already exists")));
    }
    dc.pools.insert(id, Pool { comment, ..Pool::default() });
    Ok(Value::Null)
}

fn change(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    ask.can_write(world, "user_cfg")?;
    let id = ask.text("poolid").to_owned();
    let failed = |text: String| Failure::Die(format!("update pools failed: {text}"));
    let (remove, move_) = (ask.params.flag("delete"), ask.params.flag("allow-move"));
    let dc = ask.dc_mut(world);
    if !dc.pools.contains_key(&id) {
        return Err(failed(format!("pool '{id}' does not exist")));
    }
    for vmid in ask.params.list("vms") {
        let Ok(vmid) = vmid.parse::<u32>() else {
            return Err(Failure::parameter("vms", "value does not look like a valid VM ID"));
        };
        let old = dc.pool_of(vmid).map(str::to_owned);
        match old {
            Some(old) if !remove && old == id => {
                return Err(failed(format!("VM {vmid} is already a pool member")));
            }
            Some(old) if !remove && !move_ => {
                let text = format!(
                    "VM {vmid} belongs already to pool '{old}' and 'allow-move' is not set"
                );
                return Err(failed(text));
            }
            None if remove => return Err(failed(format!("VM {vmid} is not a pool member"))),
            _ => {}
        }
        for pool in dc.pools.values_mut() {
            pool.vms.remove(&vmid);
        }
        if let Some(pool) = dc.pools.get_mut(&id).filter(|_| !remove) {
            pool.vms.insert(vmid);
        }
    }
    let storages = ask.params.list("storage");
    if let Some(pool) = dc.pools.get_mut(&id) {
        for storage in storages {
            if remove {
                pool.storages.remove(&storage);
            } else {
                pool.storages.insert(storage);
            }
        }
        if let Some(comment) = ask.params.text("comment") {
            pool.comment = Some(comment.to_owned());
        }
    }
    Ok(Value::Null)
}

fn delete(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    ask.can_write(world, "user_cfg")?;
    let id = ask.text("poolid");
    let dc = ask.dc_mut(world);
    let pool = dc.pools.get(id);
    let pool = pool
        .ok_or_else(|| Failure::Die(format!("delete pool failed: pool '{id}' does not exist")))?;
    let vm = pool.vms.first().map(|vmid| format!("VM {vmid}"));
    let storage = || pool.storages.first().map(|storage| format!("storage {storage}"));
    if let Some(member) = vm.or_else(storage) {
        return Err(Failure::Die(format!(
            "delete pool failed: pool '{id}' is not empty (contains {member})"
        )));
    }
    dc.pools.remove(id);
    Ok(Value::Null)
}
