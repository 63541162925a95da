//! `/nodes/{node}/qemu/{vmid}/agent` (qemu-server src/PVE/API2/Qemu/Agent.pm).
//!
//! The agent of a simulated guest answers what every Linux guest can answer. Of programs it runs `echo`
//! and `true`, which end at once: the state of a node is queried through its SSH server.

use serde_json::{Value, json};

use super::vms::vm;
use super::{Answer, Ask, Call, Permit, Run};
use crate::pve::nic;
use crate::pve::pace;
use crate::pve::wire::{Failure, Given};
use crate::world::World;

const VM: &str = "/vms/{vmid}";
const AUDIT: Permit = Permit::One(VM, &["VM.GuestAgent.Audit", "VM.GuestAgent.Unrestricted"]);
const FILES: Permit =
    Permit::One(VM, &["VM.GuestAgent.FileSystemMgmt", "VM.GuestAgent.Unrestricted"]);
const POWER: Permit = Permit::One(VM, &["VM.PowerMgmt", "VM.GuestAgent.Unrestricted"]);
const ALL: Permit = Permit::One(VM, &["VM.GuestAgent.Unrestricted"]);

/// The file that every Linux guest has.
const OS_RELEASE: &str = "NAME=\"Ubuntu\"\nID=ubuntu\nVERSION_ID=\"22.04\"\n\
    PRETTY_NAME=\"Ubuntu 22.04 LTS\"\n";
/// The process id before the first that the agent starts.
const FIRST: i64 = 4000;

macro_rules! agent {
    ($method:literal $name:literal $permit:expr) => {
        Call {
            method: $method,
            path: concat!("/nodes/{node}/qemu/{vmid}/agent/", $name),
            permit: $permit,
            run: Run::Read(|world, ask| result(world, ask, $name)),
        }
    };
}

/// The calls of this module.
pub const CALLS: &[Call] = &[
    agent!("POST" "ping" AUDIT),
    agent!("POST" "fsfreeze-freeze" FILES),
    agent!("POST" "fsfreeze-thaw" FILES),
    agent!("POST" "fstrim" FILES),
    agent!("POST" "shutdown" POWER),
    agent!("POST" "suspend-disk" POWER),
    agent!("POST" "suspend-hybrid" POWER),
    agent!("POST" "suspend-ram" POWER),
    agent!("GET" "get-fsinfo" AUDIT),
    agent!("GET" "get-host-name" AUDIT),
    agent!("GET" "get-memory-block-info" AUDIT),
    agent!("GET" "get-memory-blocks" AUDIT),
    agent!("GET" "get-osinfo" AUDIT),
    agent!("GET" "get-time" AUDIT),
    agent!("GET" "get-timezone" AUDIT),
    agent!("GET" "get-users" AUDIT),
    agent!("GET" "get-vcpus" AUDIT),
    agent!("GET" "info" AUDIT),
    agent!("GET" "network-get-interfaces" AUDIT),
    Call {
        method: "POST",
        path: "/nodes/{node}/qemu/{vmid}/agent/fsfreeze-status",
        permit: Permit::One(
            VM,
            &["VM.GuestAgent.Audit", "VM.GuestAgent.FileSystemMgmt", "VM.GuestAgent.Unrestricted"],
        ),
        run: Run::Read(|world, ask| result(world, ask, "fsfreeze-status")),
    },
    Call {
        method: "POST",
        path: "/nodes/{node}/qemu/{vmid}/agent",
        permit: ALL,
        run: Run::Read(|world, ask| result(world, ask, ask.text("command"))),
    },
    Call {
        method: "POST",
        path: "/nodes/{node}/qemu/{vmid}/agent/set-user-password",
        permit: ALL,
        run: Run::Read(|world, ask| {
            let password = ask.text("password").chars().count();
            if password < 5 {
                let text = "value must be at least 5 characters long";
                return Err(Failure::parameter("password", text));
            }
            reachable(world, ask).map(|()| json!({"result": {}}))
        }),
    },
    Call {
        method: "POST",
        path: "/nodes/{node}/qemu/{vmid}/agent/exec",
        permit: ALL,
        run: Run::Write(|world, _, ask| exec(world, ask)),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/qemu/{vmid}/agent/exec-status",
        permit: ALL,
        run: Run::Write(|world, _, ask| exec_status(world, ask)),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/qemu/{vmid}/agent/file-read",
        permit: Permit::One(VM, &["VM.GuestAgent.FileRead", "VM.GuestAgent.Unrestricted"]),
        run: Run::Read(|world, ask| {
            reachable(world, ask)?;
            let file = ask.text("file");
            if file != "/etc/os-release" {
                return Err(Failure::Die(format!(
                    "Agent error: failed to open file '{file}' (mode: 'r'): No such file or \
                     directory"
                )));
            }
            Ok(json!({"content": OS_RELEASE, "bytes-read": OS_RELEASE.len()}))
        }),
    },
    Call {
        method: "POST",
        path: "/nodes/{node}/qemu/{vmid}/agent/file-write",
        permit: Permit::One(VM, &["VM.GuestAgent.FileWrite", "VM.GuestAgent.Unrestricted"]),
        run: Run::Read(|world, ask| {
            reachable(world, ask)?;
            // Files of a simulated guest are written through its SSH server only.
            let file = ask.text("file");
            Err(Failure::Die(format!(
                "Agent error: failed to open file '{file}' (mode: 'w'): Permission denied"
            )))
        }),
    },
];

fn reachable(world: &World, ask: &Ask) -> Result<(), Failure> {
    let vm = vm(world, ask)?;
    if !vm.config.contains_key("agent") {
        return Err(Failure::die("No QEMU guest agent configured"));
    }
    if vm.running.is_none() {
        return Err(Failure::Die(format!("VM {} is not running", ask.vmid())));
    }
    let down = Failure::die("QEMU guest agent is not running");
    if !vm.agent() {
        // Without the device there is nothing to wait for.
        return Err(down);
    }
    if !vm.is_paused() && world.guests.agent(&world.pve.key(ask.dc, ask.vmid()), world.now) {
        return Ok(());
    }
    Err(Failure::Late(pace::AGENT_TIMEOUT, Box::new(down)))
}

/// The agent's answer to a command without parameters.
fn result(world: &World, ask: &Ask, command: &str) -> Answer {
    reachable(world, ask)?;
    let vm = vm(world, ask)?;
    let result = match command {
        "network-get-interfaces" => interfaces(world, ask)?,
        "get-host-name" => {
            // The guest's own host name, which may differ from the VM's name.
            let key = world.pve.key(ask.dc, ask.vmid());
            let name = vm.name(ask.vmid());
            let short = || name.split('.').next().unwrap_or_default();
            json!({"host-name": world.guests.hostname(&key).unwrap_or_else(short)})
        }
        "get-osinfo" => json!({
            "id": "ubuntu", "name": "Ubuntu", "pretty-name": "Ubuntu 22.04 LTS",
            "version": "22.04 LTS (Jammy Jellyfish)", "version-id": "22.04", "machine": "x86_64",
            "kernel-release": "5.15.0-100-generic", "kernel-version": "#110-Ubuntu SMP",
        }),
        "get-time" => json!(world.unix() * 1_000_000_000),
        "get-timezone" => json!({"offset": 0, "zone": "UTC"}),
        "get-users" | "get-fsinfo" | "get-memory-blocks" => json!([]),
        "get-memory-block-info" => json!({"size": 128 << 20}),
        "get-vcpus" => (0..vm.vcpus())
            .map(|id| json!({"logical-id": id, "online": true, "can-offline": id > 0}))
            .collect(),
        "info" => {
            let command = |name: &str| json!({"name": format!("guest-{name}"), "enabled": true, "success-response": true});
            let commands = [
                "ping",
                "info",
                "exec",
                "exec-status",
                "get-osinfo",
                "get-host-name",
                "network-get-interfaces",
            ];
            json!({"version": "6.2.0", "supported_commands": commands.map(command)})
        }
        "fsfreeze-status" => json!("thawed"),
        "fsfreeze-freeze" | "fsfreeze-thaw" => json!(0),
        "fstrim" => json!({"paths": []}),
        _ => json!({}),
    };
    Ok(json!({"result": result}))
}

/// The words of the command in a call.
fn words(ask: &Ask) -> Vec<String> {
    match ask.params.0.get("command") {
        Some(Given::Many(words)) => words.clone(),
        Some(Given::One(word)) => vec![word.clone()],
        None => Vec::new(),
    }
}

fn exec(world: &mut World, ask: &Ask) -> Answer {
    reachable(world, ask)?;
    let words = words(ask);
    let program = words.first().map(String::as_str).unwrap_or_default();
    let said = match program.rsplit('/').next().unwrap_or_default() {
        "echo" => format!("{}\n", words[1..].join(" ")),
        "true" => String::new(),
        _ => {
            // The agent quotes in glib's way, which Proxmox cannot write into an answer.
            return Err(Failure::Die(format!(
                "Agent error: Guest agent command failed, error was \u{2018}Failed to execute child \
                 process \u{201c}{program}\u{201d} (No such file or directory)\u{2019}"
            )));
        }
    };
    let vm = ask.dc_mut(world).vms.get_mut(&ask.vmid());
    let Some(processes) = vm.map(|vm| &mut vm.processes) else { return Ok(Value::Null) };
    processes.count += 1;
    let pid = FIRST + i64::from(processes.count);
    processes.ended.insert(pid, said);
    Ok(json!({"pid": pid}))
}

/// The status of a process. The agent forgets an ended process once it has reported it.
fn exec_status(world: &mut World, ask: &Ask) -> Answer {
    reachable(world, ask)?;
    let vm = ask.dc_mut(world).vms.get_mut(&ask.vmid());
    let ended =
        vm.zip(ask.params.number("pid")).and_then(|(vm, pid)| vm.processes.ended.remove(&pid));
    match ended {
        Some(said) if said.is_empty() => Ok(json!({"exited": 1, "exitcode": 0})),
        Some(said) => Ok(json!({"exited": 1, "exitcode": 0, "out-data": said, "out-truncated": 0})),
        // As Perl's format prints it.
        None => Err(Failure::die("Agent error: PID ld does not exist")),
    }
}

fn interfaces(world: &World, ask: &Ask) -> Answer {
    let statistics = json!({"rx-bytes": 0, "rx-packets": 0, "rx-errs": 0, "rx-dropped": 0,
                            "tx-bytes": 0, "tx-packets": 0, "tx-errs": 0, "tx-dropped": 0});
    let mut all = vec![json!({
        "name": "lo", "hardware-address": "00:00:00:00:00:00", "statistics": statistics,
        "ip-addresses": [{"ip-address": "127.0.0.1", "ip-address-type": "ipv4", "prefix": 8},
                         {"ip-address": "::1", "ip-address-type": "ipv6", "prefix": 128}],
    })];
    let nets = vm(world, ask)?.config.iter().filter(|(key, _)| nic::is_net(key));
    let macs: Vec<_> = nets.filter_map(|(_, value)| nic::nic(value)).collect();
    let addresses = world.guests.addresses(&world.pve.key(ask.dc, ask.vmid()), world.now);
    let cards = addresses.iter().filter(|(name, ..)| name != "lo");
    for (place, (name, address, prefix)) in cards.enumerate() {
        let mac = macs.get(place.min(macs.len().saturating_sub(1)));
        let mac = mac.map(|(mac, ..)| mac.to_lowercase()).unwrap_or_default();
        all.push(json!({
            "name": name, "hardware-address": mac, "statistics": statistics,
            "ip-addresses": [{"ip-address": address, "ip-address-type": "ipv4", "prefix": prefix}],
        }));
    }
    Ok(Value::Array(all))
}
