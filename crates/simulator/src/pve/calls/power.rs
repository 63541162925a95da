//! `/nodes/{node}/qemu/{vmid}/status` (qemu-server src/PVE/API2/Qemu.pm).

use serde_json::json;

use super::vms::{status, vm};
use super::{Answer, Ask, Call, Permit, Run};
use crate::pve::pace;
use crate::pve::wire::Failure;
use crate::pve::work::{Power, Shutdown, Work};
use crate::store::Store;
use crate::world::World;

const PERMIT: Permit = Permit::One("/vms/{vmid}", &["VM.PowerMgmt"]);

/// The calls of this module.
pub const CALLS: &[Call] = &[
    Call {
        method: "GET",
        path: "/nodes/{node}/qemu/{vmid}/status/current",
        permit: Permit::One("/vms/{vmid}", &["VM.Audit"]),
        run: Run::Read(current),
    },
    Call {
        method: "POST",
        path: "/nodes/{node}/qemu/{vmid}/status/start",
        permit: PERMIT,
        run: Run::Write(|world, _, ask| power(world, ask, "qmstart", Power::Start)),
    },
    Call {
        method: "POST",
        path: "/nodes/{node}/qemu/{vmid}/status/stop",
        permit: PERMIT,
        run: Run::Write(|world, _, ask| power(world, ask, "qmstop", Power::Stop)),
    },
    Call {
        method: "POST",
        path: "/nodes/{node}/qemu/{vmid}/status/shutdown",
        permit: PERMIT,
        run: Run::Write(|world, _, ask| {
            let how = Shutdown { limit: limit(ask), force: ask.params.flag("forceStop") };
            if is_paused(world, ask) && !how.force {
                return Err(Failure::die("VM is paused - cannot shutdown"));
            }
            power(world, ask, "qmshutdown", Power::Shutdown(how))
        }),
    },
    Call {
        method: "POST",
        path: "/nodes/{node}/qemu/{vmid}/status/suspend",
        permit: PERMIT,
        run: Run::Write(|world, _, ask| {
            running(world, ask)?;
            power(world, ask, "qmpause", Power::Pause)
        }),
    },
    Call {
        method: "POST",
        path: "/nodes/{node}/qemu/{vmid}/status/resume",
        permit: PERMIT,
        run: Run::Write(|world, _, ask| {
            running(world, ask)?;
            power(world, ask, "qmresume", Power::Resume)
        }),
    },
    Call {
        method: "POST",
        path: "/nodes/{node}/qemu/{vmid}/status/reboot",
        permit: PERMIT,
        run: Run::Write(reboot),
    },
    Call {
        method: "POST",
        path: "/nodes/{node}/qemu/{vmid}/status/reset",
        permit: PERMIT,
        run: Run::Write(reset),
    },
];

fn limit(ask: &Ask) -> f64 {
    ask.params.number("timeout").map_or(pace::SHUTDOWN_LIMIT, |seconds| seconds as f64)
}

/// The task checks whether it exists and runs.
fn power(world: &mut World, ask: &Ask, kind: &str, power: Power) -> Answer {
    let vmid = ask.vmid();
    let skiplock = ask.params.flag("skiplock");
    ask.spawn(world, kind, &vmid.to_string(), Work::Power { vmid, power, skiplock })
}

fn running(world: &World, ask: &Ask) -> Result<(), Failure> {
    let not = || Failure::Die(format!("VM {} not running", ask.vmid()));
    vm(world, ask)?.running.map(|_| ()).ok_or_else(not)
}

fn is_paused(world: &World, ask: &Ask) -> bool {
    ask.dc(world).vm_on(&ask.node, ask.vmid()).is_some_and(|vm| vm.is_paused())
}

fn reboot(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    if is_paused(world, ask) {
        return Err(Failure::die("VM is paused - cannot shutdown"));
    }
    running(world, ask)?;
    let how = Shutdown { limit: limit(ask), force: false };
    power(world, ask, "qmreboot", Power::Reboot(how))
}

fn reset(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    running(world, ask)?;
    power(world, ask, "qmreset", Power::Reset)
}

fn current(world: &World, ask: &Ask) -> Answer {
    let vm = vm(world, ask)?;
    let mut value = status(world, ask.dc(world), ask.vmid(), vm, true);
    value["ha"] = json!({"managed": 0});
    if vm.config.contains_key("vga") {
        value["clipboard"] = json!(null);
    }
    if vm.agent() {
        value["agent"] = json!(1);
    }
    Ok(value)
}
