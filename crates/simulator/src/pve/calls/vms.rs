//! `/nodes/{node}/qemu`: VMs and their configuration (qemu-server src/PVE/API2/Qemu.pm).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::cluster::boot_disk_bytes;
use super::{Answer, Ask, Call, Permit, Run};
use crate::faults::FaultKind;
use crate::pve::cloudinit as generated;
use crate::pve::config::{self, Change};
use crate::pve::nic;
use crate::pve::pace;
use crate::pve::resolver::Resolver;
use crate::pve::rules;
use crate::pve::state::{Datacenter, Vm};
use crate::pve::task::{timeout_text, vm_lock};
use crate::pve::wire::Failure;
use crate::pve::work::{Work, no_config};
use crate::store::Store;
use crate::world::World;

/// Changing an option requires at least one of these privileges.
const ANY_CONFIG: &[&str] = &[
    "VM.Config.Disk",
    "VM.Config.CDROM",
    "VM.Config.CPU",
    "VM.Config.Memory",
    "VM.Config.Network",
    "VM.Config.HWType",
    "VM.Config.Options",
    "VM.Config.Cloudinit",
];
const AUDIT: Permit = Permit::One("/vms/{vmid}", &["VM.Audit"]);

/// The calls of this module.
pub const CALLS: &[Call] = &[
    Call { method: "GET", path: "/nodes/{node}/qemu", permit: Permit::User, run: Run::Read(list) },
    Call {
        method: "GET",
        path: "/nodes/{node}/qemu/{vmid}/config",
        permit: AUDIT,
        run: Run::Read(config),
    },
    Call {
        method: "PUT",
        path: "/nodes/{node}/qemu/{vmid}/config",
        permit: Permit::One("/vms/{vmid}", ANY_CONFIG),
        run: Run::Write(change_now),
    },
    Call {
        method: "POST",
        path: "/nodes/{node}/qemu/{vmid}/config",
        permit: Permit::One("/vms/{vmid}", ANY_CONFIG),
        run: Run::Write(change_later),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/qemu/{vmid}/pending",
        permit: AUDIT,
        run: Run::Read(pending),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/qemu/{vmid}/cloudinit",
        permit: AUDIT,
        run: Run::Read(cloudinit),
    },
    Call {
        method: "PUT",
        path: "/nodes/{node}/qemu/{vmid}/cloudinit",
        permit: Permit::One("/vms/{vmid}", &["VM.Config.Cloudinit"]),
        run: Run::Write(|world, _, ask| vm(world, ask).map(|_| Value::Null)),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/qemu/{vmid}/cloudinit/dump",
        permit: AUDIT,
        run: Run::Read(dump),
    },
    Call {
        method: "PUT",
        path: "/nodes/{node}/qemu/{vmid}/unlink",
        permit: Permit::One("/vms/{vmid}", &["VM.Config.Disk"]),
        run: Run::Write(unlink),
    },
    Call {
        method: "PUT",
        path: "/nodes/{node}/qemu/{vmid}/resize",
        permit: Permit::One("/vms/{vmid}", &["VM.Config.Disk"]),
        run: Run::Write(|world, _, ask| {
            let (disk, size) = (ask.text("disk").to_owned(), ask.text("size").to_owned());
            let vmid = ask.vmid();
            ask.spawn(world, "resize", &vmid.to_string(), Work::Resize { vmid, disk, size })
        }),
    },
    Call {
        method: "POST",
        path: "/nodes/{node}/qemu/{vmid}/template",
        permit: Permit::One("/vms/{vmid}", &["VM.Allocate"]),
        run: Run::Write(template),
    },
    Call {
        method: "DELETE",
        path: "/nodes/{node}/qemu/{vmid}",
        permit: Permit::One("/vms/{vmid}", &["VM.Allocate"]),
        run: Run::Write(destroy),
    },
];

/// The VM in the path.
pub fn vm<'a>(world: &'a World, ask: &Ask) -> Result<&'a Vm, Failure> {
    let found = ask.dc(world).vm_on(&ask.node, ask.vmid());
    found.ok_or_else(|| Failure::Die(no_config(&ask.node, ask.vmid())))
}

/// A VM's status, in the list and alone; `full` includes data from QEMU.
pub fn status(world: &World, dc: &Datacenter, vmid: u32, vm: &Vm, full: bool) -> Value {
    let uptime = vm.running.map_or(0, |since| world.now.0.saturating_sub(since.0) / 1000);
    let mut value = json!({
        "vmid": vmid, "name": vm.name(vmid), "status": vm.status(), "cpus": dc.shown_vcpus(vm),
        "maxmem": vm.memory_mib() << 20, "maxdisk": boot_disk_bytes(vm), "uptime": uptime,
        "cpu": 0, "mem": 0, "memhost": 0, "disk": 0, "netin": 0, "netout": 0,
    });
    if vm.is_template() {
        value["template"] = json!(1);
    }
    if let Some(lock) = &vm.lock {
        value["lock"] = json!(lock);
    }
    if let Some(tags) = vm.config.get("tags") {
        value["tags"] = json!(tags);
    }
    if vm.config.contains_key("serial0") {
        value["serial"] = json!(1);
    }
    if vm.running.is_some() {
        value["pid"] = json!(10_000 + vmid);
        for pressure in ["cpufull", "cpusome", "iofull", "iosome", "memoryfull", "memorysome"] {
            value[format!("pressure{pressure}")] = json!(0);
        }
    }
    if full {
        let halted = vm.halted.as_deref().filter(|_| vm.running.is_some());
        value["qmpstatus"] = json!(halted.unwrap_or(vm.status()));
    }
    if full && vm.running.is_some() {
        let taps = vm.config.keys().filter(|key| nic::is_net(key)).map(|key| {
            let tap = format!("tap{vmid}i{}", key.trim_start_matches("net"));
            (tap, json!({"netin": 0, "netout": 0}))
        });
        let taps: serde_json::Map<_, _> = taps.collect();
        if !taps.is_empty() {
            value["nics"] = Value::Object(taps);
        }
    }
    value
}

fn list(world: &World, ask: &Ask) -> Answer {
    let dc = ask.dc(world);
    let vms = dc.vms.iter().filter(|(_, vm)| vm.host == ask.node);
    let seen = vms.filter(|(vmid, _)| ask.may(world, &format!("/vms/{vmid}"), &["VM.Audit"]));
    let full = ask.params.flag("full");
    Ok(seen.map(|(vmid, vm)| status(world, dc, *vmid, vm, full)).collect())
}

/// An option's value as it is read back.
pub fn shown(key: &str, value: &str) -> Value {
    if key == "cipassword" {
        return json!("**********");
    }
    match value.parse::<i64>() {
        Ok(number) if rules::is_number(key) => json!(number),
        _ => json!(value),
    }
}

fn config(world: &World, ask: &Ask) -> Answer {
    let vm = vm(world, ask)?;
    if let Some(name) = ask.params.text("snapshot").filter(|name| !name.is_empty()) {
        let missing = || super::snapshots::missing(name);
        let mut then = super::snapshots::options(vm.snapshots.get(name).ok_or_else(missing)?);
        then["digest"] = json!(vm.digest());
        return Ok(then);
    }
    let mut options = vm.config.clone();
    if !ask.params.flag("current") {
        for (key, value) in &vm.pending {
            match value {
                Some(value) => drop(options.insert(key.clone(), value.clone())),
                None => drop(options.remove(key)),
            }
        }
    }
    let mut all: BTreeMap<_, _> =
        options.iter().map(|(key, value)| (key.clone(), shown(key, value))).collect();
    all.insert("digest".to_owned(), json!(vm.digest()));
    if let Some(lock) = &vm.lock {
        all.insert("lock".to_owned(), json!(lock));
    }
    Ok(json!(all))
}

fn pending(world: &World, ask: &Ask) -> Answer {
    let vm = vm(world, ask)?;
    let keys: BTreeSet<_> = vm.config.keys().chain(vm.pending.keys()).collect();
    let mut all: Vec<_> = keys
        .into_iter()
        .map(|key| {
            let mut item = json!({"key": key});
            if let Some(value) = vm.config.get(key) {
                item["value"] = shown(key, value);
            }
            match vm.pending.get(key) {
                Some(Some(value)) => item["pending"] = shown(key, value),
                Some(None) => item["delete"] = json!(1),
                None => {}
            }
            item
        })
        .collect();
    if let Some(lock) = &vm.lock {
        all.push(json!({"key": "lock", "value": lock}));
    }
    all.push(json!({"key": "digest", "value": vm.digest()}));
    Ok(Value::Array(all))
}

fn cloudinit(world: &World, ask: &Ask) -> Answer {
    let vm = vm(world, ask)?;
    let keys = ["ciuser", "cipassword", "sshkeys", "nameserver", "searchdomain", "cicustom"];
    let there = keys.iter().filter_map(|key| Some((key, vm.config.get(*key)?)));
    Ok(there.map(|(key, value)| json!({"key": key, "value": shown(key, value)})).collect())
}

fn dump(world: &World, ask: &Ask) -> Answer {
    let vm = vm(world, ask)?;
    Ok(json!(match ask.text("type") {
        "user" => {
            let all = ask.may(world, &format!("/vms/{}", ask.vmid()), &["VM.Config.Cloudinit"]);
            generated::user(vm, ask.vmid(), all)
        }
        "network" => {
            let host = ask.dc(world).hosts.get(&ask.node);
            generated::network(vm, &Resolver::of(host, &world.site))
        }
        _ => format!("instance-id: {}\n", vm.digest()),
    }))
}

fn change_of(ask: &Ask) -> Change {
    let mut set: BTreeMap<String, String> = BTreeMap::new();
    for name in ask.params.0.keys() {
        if rules::is_option(name)
            && let Some(value) = ask.params.text(name)
        {
            let name = if name == "cdrom" { "ide2" } else { name };
            set.insert(name.to_owned(), value.to_owned());
        }
    }
    Change {
        set,
        delete: ask.params.list("delete"),
        revert: ask.params.list("revert"),
        digest: ask.params.text("digest").map(str::to_owned),
        skiplock: ask.params.flag("skiplock"),
        force: ask.params.flag("force"),
    }
}

fn writable(world: &World, ask: &Ask) -> Result<(), Failure> {
    ask.quorum(world).map_err(|_| {
        Failure::Die(format!(
            "unable to open file '/etc/pve/nodes/{}/qemu-server/{}.conf.tmp.76' - Permission denied",
            ask.node,
            ask.vmid()
        ))
    })
}

fn change_now(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    let change = change_of(ask);
    apply(world, ask, &change)
}

fn apply(world: &mut World, ask: &Ask, change: &Change) -> Answer {
    let file = vm_lock(&ask.node, ask.vmid());
    let held = ask.dc(world).is_locked(&file, world.now);
    // It is checked before waiting for the file, and again once the file is unlocked.
    if !held || !ask.again {
        config::check(ask.dc(world), &ask.caller, &ask.node, ask.vmid(), change)?;
    }
    writable(world, ask)?;
    if held {
        if world.now >= ask.first.after(pace::VM_LOCK_WAIT) {
            return Err(Failure::Die(timeout_text(&file)));
        }
        return Err(Failure::Wait(world.now.after(0.1)));
    }
    if let Some(failure) = busy(world, ask, change)? {
        return Err(failure);
    }
    let unix = world.unix();
    config::apply(&mut world.pve, ask.dc, &ask.node, ask.vmid(), change, unix)
        .map_err(Failure::Die)?;
    Ok(Value::Null)
}

/// A device that a running guest does not release: the change becomes pending, and a parameter error is
/// returned after the guest's timeout.
fn busy(world: &mut World, ask: &Ask, change: &Change) -> Result<Option<Failure>, Failure> {
    let found = vm(world, ask)?;
    let reacts = world.guests.reacts(&world.pve.key(ask.dc, ask.vmid()), world.now);
    if found.running.is_none() || reacts {
        return Ok(None);
    }
    let devices = config::unplugged(found, change);
    if devices.is_empty() {
        return Ok(None);
    }
    let rest = Change {
        set: change.set.clone().into_iter().filter(|(key, _)| !names(&devices, key)).collect(),
        delete: change.delete.iter().filter(|key| !names(&devices, key)).cloned().collect(),
        ..change.clone()
    };
    let (dc, unix) = (ask.dc, world.unix());
    config::apply(&mut world.pve, dc, &ask.node, ask.vmid(), &rest, unix).map_err(Failure::Die)?;
    let mut waiting = change.clone();
    for (key, value) in waiting.set.iter_mut().filter(|(key, _)| nic::is_net(key)) {
        *value = config::normalised(&mut world.pve, key, value);
    }
    if let Some(vm) = ask.dc_mut(world).vms.get_mut(&ask.vmid()) {
        config::postpone(vm, &waiting, &devices);
    }
    let seconds = devices.iter().map(|(key, _)| match nic::is_net(key) {
        true => pace::UNPLUG_NET,
        false => pace::UNPLUG_DISK,
    });
    let text = |device: &str| {
        format!(
            "hotplug problem - error on hot-unplugging device '{device}' - still busy in guest?\n"
        )
    };
    let errors = devices.iter().map(|(key, device)| (key.clone(), text(device))).collect();
    let seconds = seconds.sum();
    Ok(Some(Failure::Late(seconds, Box::new(Failure::Parameters(errors)))))
}

fn names(devices: &[(String, String)], key: &str) -> bool {
    devices.iter().any(|(name, _)| name == key)
}

fn change_later(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    let change = change_of(ask);
    if ask.params.number("background_delay").is_some() {
        // It waits that long for the task; the simulated task is always done by then.
        return apply(world, ask, &change);
    }
    overtake(world, ask, &change);
    config::check(ask.dc(world), &ask.caller, &ask.node, ask.vmid(), &change)?;
    let vmid = ask.vmid();
    ask.spawn(world, "qmconfig", &vmid.to_string(), Work::Config { vmid, change })
}

/// Simulates a faster client, if that fault is armed for the VM.
fn overtake(world: &mut World, ask: &Ask, change: &Change) {
    let Some(vm) = ask.dc(world).vms.get(&ask.vmid()) else { return };
    let name = vm.config.get("name").cloned().unwrap_or_default();
    let short = name.split('.').next().unwrap_or_default();
    if change.digest.is_some()
        && world.faults.take(FaultKind::ConfigChanged, short)
        && let Some(vm) = ask.dc_mut(world).vms.get_mut(&ask.vmid())
    {
        vm.config.insert("keyboard".to_owned(), "de".to_owned());
    }
}

fn unlink(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    let (delete, force) = (ask.params.list("idlist"), ask.params.flag("force"));
    apply(world, ask, &Change { delete, force, ..Change::default() })
}

fn template(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    let vm = vm(world, ask)?;
    if let Some(lock) = &vm.lock {
        return Err(Failure::Die(format!("VM is locked ({lock})")));
    }
    if vm.is_template() {
        return Err(Failure::die("you can't convert a template to a template"));
    }
    if vm.running.is_some() {
        return Err(Failure::die("you can't convert a VM to template if VM is running"));
    }
    if !vm.snapshots.is_empty() {
        return Err(Failure::die("unable to create template, because VM contains snapshots"));
    }
    let vmid = ask.vmid();
    ask.spawn(world, "qmtemplate", &vmid.to_string(), Work::Template(vmid))
}

fn destroy(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    let vmid = ask.vmid();
    let vm = vm(world, ask)?;
    if vm.config.get("protection").is_some_and(|flag| flag == "1") {
        return Err(Failure::Die(format!("can't remove VM {vmid} - protection mode enabled")));
    }
    if vm.running.is_some() {
        return Err(Failure::Die(format!("VM {vmid} is running - destroy failed")));
    }
    let purge = ask.params.flag("purge");
    let skiplock = ask.params.flag("skiplock");
    ask.spawn(world, "qmdestroy", &vmid.to_string(), Work::Destroy { vmid, purge, skiplock })
}
