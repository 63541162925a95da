//! The calls with the same answer on every node: `/version`, `/cluster`, `/nodes` (pve-manager
//! PVE/API2.pm, PVE/API2/Cluster.pm and PVE/API2/Nodes.pm).

use serde_json::{Value, json};

use super::{Answer, Ask, Call, Permit, Run};
use crate::pve::drive::Drive;
use crate::pve::state::{Datacenter, Vm};
use crate::world::World;

/// The calls of this module.
pub const CALLS: &[Call] = &[
    Call {
        method: "GET",
        path: "/version",
        permit: Permit::User,
        run: Run::Read(|_, _| Ok(version())),
    },
    Call {
        method: "GET",
        path: "/cluster/status",
        permit: Permit::One("/", &["Sys.Audit"]),
        run: Run::Read(status),
    },
    Call {
        method: "GET",
        path: "/cluster/resources",
        permit: Permit::User,
        run: Run::Read(resources),
    },
    Call { method: "GET", path: "/nodes", permit: Permit::User, run: Run::Read(nodes) },
];

/// The answer of `/version`.
pub fn version() -> Value {
    json!({"release": "9.2", "version": "9.2.11", "repoid": "14a22df35955d97d"})
}

fn status(world: &World, ask: &Ask) -> Answer {
    let dc = ask.dc(world);
    let quorate = ask.quorum(world).is_ok();
    let mut all = Vec::new();
    if dc.clustered {
        all.push(json!({"type": "cluster", "id": "cluster", "name": dc.name, "version": 2,
                        "nodes": dc.hosts.len(), "quorate": u8::from(quorate)}));
    }
    for (name, host) in &dc.hosts {
        let local = u8::from(*name == ask.via);
        let online = world.is_online(name);
        let number = if dc.clustered { host.number } else { 0 };
        all.push(json!({"type": "node", "id": format!("node/{name}"), "name": name, "level": "",
                        "nodeid": number, "ip": "127.0.0.1", "local": local,
                        "online": u8::from(online)}));
    }
    Ok(Value::Array(all))
}

fn nodes(world: &World, ask: &Ask) -> Answer {
    let dc = ask.dc(world);
    let quorate = ask.quorum(world).is_ok();
    Ok(dc
        .hosts
        .iter()
        .map(|(name, host)| {
            let up = world.is_online(name) && (quorate || *name == ask.via);
            let mut value = json!({
                "type": "node", "id": format!("node/{name}"), "node": name, "level": "",
                "status": if up { "online" } else { "offline" },
                "ssl_fingerprint": host.pair.fingerprint,
            });
            if ask.may(world, &format!("/nodes/{name}"), &["Sys.Audit"]) {
                add_figures(&mut value, world, dc, name, up);
            }
            value
        })
        .collect())
}

/// A node's resources; and their usage, while the node is online.
fn add_figures(value: &mut Value, world: &World, dc: &Datacenter, name: &str, up: bool) {
    let Some(host) = dc.hosts.get(name) else { return };
    let memory = host.memory_mib << 20;
    value["maxcpu"] = json!(host.cpus);
    value["maxmem"] = json!(memory);
    value["maxdisk"] = json!(100u64 << 30);
    if up {
        value["cpu"] = json!(0.05);
        value["mem"] = json!(memory / 10 + used_memory(dc, name));
        value["disk"] = json!(8u64 << 30);
        value["uptime"] = json!(3600 + world.now.0 / 1000);
    }
}

/// Memory of a node that running VMs use, in bytes.
pub fn used_memory(dc: &Datacenter, host: &str) -> u64 {
    let running = dc.vms.values().filter(|vm| vm.host == host && vm.running.is_some());
    running.map(|vm| vm.memory_mib() << 20).sum()
}

fn resources(world: &World, ask: &Ask) -> Answer {
    let dc = ask.dc(world);
    let only = ask.params.text("type");
    let wanted = |kind: &str| only.is_none_or(|only| only == kind);
    let mut all = Vec::new();
    if only.is_none() {
        let pools =
            dc.pools.keys().filter(|id| ask.may(world, &format!("/pool/{id}"), &["Pool.Audit"]));
        all.extend(
            pools.map(|id| json!({"type": "pool", "id": format!("/pool/{id}"), "pool": id})),
        );
    }
    if wanted("vm") {
        let seen = dc
            .vms
            .iter()
            .filter(|(vmid, _)| ask.may(world, &format!("/vms/{vmid}"), &["VM.Audit"]));
        all.extend(seen.map(|(vmid, vm)| vm_resource(world, dc, *vmid, vm)));
    }
    if wanted("node") {
        for name in dc.hosts.keys() {
            let online = world.is_online(name);
            let mut value = json!({"type": "node", "id": format!("node/{name}"), "node": name,
                "level": "", "cgroup-mode": 2,
                "status": if online { "online" } else { "offline" }});
            if ask.may(world, &format!("/nodes/{name}"), &["Sys.Audit"]) {
                add_figures(&mut value, world, dc, name, online);
            }
            all.push(value);
        }
    }
    if wanted("storage") {
        for (id, storage) in &dc.storages {
            let path = format!("/storage/{id}");
            if !ask.may(world, &path, &["Datastore.Audit", "Datastore.AllocateSpace"]) {
                continue;
            }
            for (host, size) in &storage.size {
                all.push(json!({"type": "storage", "id": format!("storage/{host}/{id}"),
                    "node": host, "storage": id, "plugintype": storage.kind,
                    "content": storage.content.join(","), "shared": u8::from(storage.shared),
                    "status": "available", "maxdisk": size, "disk": dc.used(host, id)}));
            }
        }
    }
    let zone = "localnetwork";
    // The zone of every node is not found by its own type.
    if only.is_none() && ask.may(world, &format!("/sdn/zones/{zone}"), &["SDN.Audit"]) {
        all.extend(dc.hosts.keys().map(|name| {
            json!({"type": "network", "id": format!("network/{name}/zone/{zone}"), "node": name,
                   "network": zone, "network-type": "zone", "status": "ok"})
        }));
    }
    Ok(Value::Array(all))
}

/// A VM as `pvestatd` last reported it; one that it has not reported yet has no name and no status.
pub fn vm_resource(world: &World, dc: &Datacenter, vmid: u32, vm: &Vm) -> Value {
    let mut value = json!({"type": "qemu", "id": format!("qemu/{vmid}"), "vmid": vmid,
                           "node": vm.host});
    if let Some(lock) = &vm.lock {
        value["lock"] = json!(lock);
    }
    if let Some(tags) = vm.config.get("tags") {
        value["tags"] = json!(tags);
    }
    if let Some(pool) = dc.pool_of(vmid) {
        value["pool"] = json!(pool);
    }
    let Some(reported) = &vm.reported else {
        value["status"] = json!("unknown");
        return value;
    };
    let uptime = vm.running.map_or(0, |since| world.now.0.saturating_sub(since.0) / 1000);
    let known = json!({"name": vm.name(vmid), "status": reported,
        "template": u8::from(vm.is_template()), "maxcpu": dc.shown_vcpus(vm),
        "maxmem": vm.memory_mib() << 20, "maxdisk": boot_disk_bytes(vm), "cpu": 0, "mem": 0,
        "memhost": 0, "disk": 0, "diskread": 0, "diskwrite": 0, "netin": 0, "netout": 0,
        "uptime": uptime});
    if let (Some(value), Value::Object(known)) = (value.as_object_mut(), known) {
        value.extend(known);
    }
    value
}

/// The size of a VM's boot disk in bytes.
pub fn boot_disk_bytes(vm: &Vm) -> u64 {
    let disk: Option<(String, Drive)> = vm.boot_disk();
    disk.and_then(|(_, drive)| drive.size()).unwrap_or_default()
}
