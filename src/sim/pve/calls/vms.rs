//! `/nodes/{node}/qemu`: VMs and their configuration (qemu-server src/PVE/API2/Qemu.pm).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::cluster::boot_disk_bytes;
use super::{Answer, Ask, Call, NODE, Permit, Run, VMID};
use crate::sim::pve::cloudinit as generated;
use crate::sim::pve::config::{self, Change};
use crate::sim::pve::nic;
use crate::sim::pve::options::{self, OPTIONS};
use crate::sim::pve::pace;
use crate::sim::pve::schema::{Format, Kind, Param, flag, integer, must, text};
use crate::sim::pve::state::Vm;
use crate::sim::pve::task::{timeout_text, vm_lock};
use crate::sim::pve::wire::Failure;
use crate::sim::pve::work::{Work, no_config};
use crate::sim::store::Store;
use crate::sim::world::World;

/// What changing any option needs at least one of.
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
const CHANGE: &[Param] = &[
    text("delete").of(Format::List),
    text("revert").of(Format::List),
    text("digest").up_to(40),
    flag("force"),
    flag("skiplock"),
];

/// The calls of this part.
pub const CALLS: &[Call] = &[
    Call {
        method: "GET",
        path: "/nodes/{node}/qemu",
        params: &[&[NODE, flag("full")]],
        permit: Permit::User,
        run: Run::Read(list),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/qemu/{vmid}/config",
        params: &[&[NODE, VMID, flag("current"), text("snapshot").of(Format::ConfigId)]],
        permit: AUDIT,
        run: Run::Read(config),
    },
    Call {
        method: "PUT",
        path: "/nodes/{node}/qemu/{vmid}/config",
        params: &[&[NODE, VMID], CHANGE, OPTIONS],
        permit: Permit::One("/vms/{vmid}", ANY_CONFIG),
        run: Run::Write(change_now),
    },
    Call {
        method: "POST",
        path: "/nodes/{node}/qemu/{vmid}/config",
        params: &[&[NODE, VMID, integer("background_delay").min(1)], CHANGE, OPTIONS],
        permit: Permit::One("/vms/{vmid}", ANY_CONFIG),
        run: Run::Write(change_later),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/qemu/{vmid}/pending",
        params: &[&[NODE, VMID]],
        permit: AUDIT,
        run: Run::Read(pending),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/qemu/{vmid}/cloudinit",
        params: &[&[NODE, VMID]],
        permit: AUDIT,
        run: Run::Read(cloudinit),
    },
    Call {
        method: "PUT",
        path: "/nodes/{node}/qemu/{vmid}/cloudinit",
        params: &[&[NODE, VMID]],
        permit: Permit::One("/vms/{vmid}", &["VM.Config.Cloudinit"]),
        run: Run::Write(|world, _, ask| vm(world, ask).map(|_| Value::Null)),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/qemu/{vmid}/cloudinit/dump",
        params: &[&[NODE, VMID, must("type", Kind::Text).one_of(&["user", "network", "meta"])]],
        permit: AUDIT,
        run: Run::Read(dump),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/qemu/{vmid}/snapshot",
        params: &[&[NODE, VMID]],
        permit: AUDIT,
        run: Run::Read(snapshots),
    },
    Call {
        method: "PUT",
        path: "/nodes/{node}/qemu/{vmid}/unlink",
        params: &[&[NODE, VMID, must("idlist", Kind::Text).of(Format::List), flag("force")]],
        permit: Permit::One("/vms/{vmid}", &["VM.Config.Disk"]),
        run: Run::Write(unlink),
    },
    Call {
        method: "PUT",
        path: "/nodes/{node}/qemu/{vmid}/resize",
        params: &[&[
            NODE,
            VMID,
            must("disk", Kind::Text),
            must("size", Kind::Text).of(Format::DiskSize),
            text("digest").up_to(40),
            flag("skiplock"),
        ]],
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
        params: &[&[NODE, VMID, text("disk")]],
        permit: Permit::One("/vms/{vmid}", &["VM.Allocate"]),
        run: Run::Write(template),
    },
    Call {
        method: "DELETE",
        path: "/nodes/{node}/qemu/{vmid}",
        params: &[&[
            NODE,
            VMID,
            flag("purge"),
            flag("destroy-unreferenced-disks"),
            flag("skiplock"),
        ]],
        permit: Permit::One("/vms/{vmid}", &["VM.Allocate"]),
        run: Run::Write(destroy),
    },
];

/// The VM of the path.
pub fn vm<'a>(world: &'a World, ask: &Ask) -> Result<&'a Vm, Failure> {
    let found = ask.dc(world).vm_on(&ask.node, ask.vmid());
    found.ok_or_else(|| Failure::Die(no_config(&ask.node, ask.vmid())))
}

/// What a VM's status says, in the list and alone; `full` asks QEMU too.
pub fn status(world: &World, vmid: u32, vm: &Vm, full: bool) -> Value {
    let uptime = vm.running.map_or(0, |since| world.now.0.saturating_sub(since.0) / 1000);
    let mut value = json!({
        "vmid": vmid, "name": vm.name(vmid), "status": vm.status(), "cpus": vm.vcpus(),
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
        value["qmpstatus"] = json!(vm.status());
    }
    if full && vm.running.is_some() {
        let taps = vm.config.keys().filter(|key| nic::is_net(key)).map(|key| {
            let tap = format!("tap{vmid}i{}", key.trim_start_matches("net"));
            (tap, json!({"netin": 0, "netout": 0}))
        });
        value["nics"] = taps.collect();
    }
    value
}

fn list(world: &World, ask: &Ask) -> Answer {
    let vms = ask.dc(world).vms.iter().filter(|(_, vm)| vm.host == ask.node);
    let seen = vms.filter(|(vmid, _)| ask.may(world, &format!("/vms/{vmid}"), &["VM.Audit"]));
    let full = ask.params.flag("full");
    Ok(seen.map(|(vmid, vm)| status(world, *vmid, vm, full)).collect())
}

fn shown(key: &str, value: &str) -> Value {
    if key == "cipassword" {
        return json!("**********");
    }
    match value.parse::<i64>() {
        Ok(number) if options::is_number(key) => json!(number),
        _ => json!(value),
    }
}

fn config(world: &World, ask: &Ask) -> Answer {
    if let Some(snapshot) = ask.params.text("snapshot") {
        return Err(Failure::Die(format!("snapshot '{snapshot}' does not exist")));
    }
    let vm = vm(world, ask)?;
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
    all.push(json!({"key": "digest", "value": vm.digest()}));
    Ok(Value::Array(all))
}

/// Snapshots are not simulated; what a VM is now stands in their list always.
fn snapshots(world: &World, ask: &Ask) -> Answer {
    let vm = vm(world, ask)?;
    Ok(json!([{"name": "current", "description": "You are here!", "digest": vm.digest(),
               "running": u8::from(vm.running.is_some())}]))
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
        "network" => generated::network(vm, &world.site),
        _ => format!("instance-id: {}\n", vm.digest()),
    }))
}

fn change_of(ask: &Ask) -> Change {
    let mut set: BTreeMap<String, String> = BTreeMap::new();
    for name in ask.params.0.keys() {
        if options::exists(name)
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
    config::check(ask.dc(world), &ask.caller, &ask.node, ask.vmid(), change)?;
    writable(world, ask)?;
    let file = vm_lock(&ask.node, ask.vmid());
    if ask.dc(world).is_locked(&file, world.now) {
        if world.now >= ask.first.after(pace::VM_LOCK_WAIT) {
            return Err(Failure::Die(timeout_text(&file)));
        }
        return Err(Failure::Wait(world.now.after(0.1)));
    }
    let unix = world.unix();
    config::apply(&mut world.pve, ask.dc, &ask.node, ask.vmid(), change, unix)
        .map_err(Failure::Die)?;
    Ok(Value::Null)
}

fn change_later(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    let change = change_of(ask);
    if ask.params.number("background_delay").is_some() {
        // It waits that long for the task, and ours is always done by then.
        return apply(world, ask, &change);
    }
    config::check(ask.dc(world), &ask.caller, &ask.node, ask.vmid(), &change)?;
    let vmid = ask.vmid();
    ask.spawn(world, "qmconfig", &vmid.to_string(), Work::Config { vmid, change })
}

fn unlink(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    let delete = ask.params.list("idlist");
    apply(world, ask, &Change { delete, ..Change::default() })
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
    ask.spawn(world, "qmdestroy", &vmid.to_string(), Work::Destroy { vmid, purge })
}
