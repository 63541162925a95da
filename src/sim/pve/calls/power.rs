//! `/nodes/{node}/qemu/{vmid}/status` (qemu-server src/PVE/API2/Qemu.pm).

use serde_json::json;

use super::vms::{status, vm};
use super::{Answer, Ask, Call, NODE, Permit, Run, VMID};
use crate::sim::pve::pace;
use crate::sim::pve::schema::{Param, flag, integer, text};
use crate::sim::pve::wire::Failure;
use crate::sim::pve::work::{Power, Shutdown, Work};
use crate::sim::store::Store;
use crate::sim::world::World;

const PERMIT: Permit = Permit::One("/vms/{vmid}", &["VM.PowerMgmt"]);
const START: &[Param] = &[
    NODE,
    VMID,
    flag("skiplock"),
    integer("timeout").min(0),
    text("stateuri"),
    text("migratedfrom"),
    text("machine"),
    text("force-cpu"),
    text("targetstorage"),
];

/// The calls of this part.
pub const CALLS: &[Call] = &[
    Call {
        method: "GET",
        path: "/nodes/{node}/qemu/{vmid}/status/current",
        params: &[&[NODE, VMID]],
        permit: Permit::One("/vms/{vmid}", &["VM.Audit"]),
        run: Run::Read(current),
    },
    Call {
        method: "POST",
        path: "/nodes/{node}/qemu/{vmid}/status/start",
        params: &[START],
        permit: PERMIT,
        run: Run::Write(|world, _, ask| power(world, ask, "qmstart", Power::Start)),
    },
    Call {
        method: "POST",
        path: "/nodes/{node}/qemu/{vmid}/status/stop",
        params: &[&[
            NODE,
            VMID,
            flag("skiplock"),
            integer("timeout").min(0),
            flag("keepActive"),
            flag("overrule-shutdown"),
            text("migratedfrom"),
        ]],
        permit: PERMIT,
        run: Run::Write(|world, _, ask| power(world, ask, "qmstop", Power::Stop)),
    },
    Call {
        method: "POST",
        path: "/nodes/{node}/qemu/{vmid}/status/shutdown",
        params: &[&[
            NODE,
            VMID,
            flag("skiplock"),
            integer("timeout").min(0),
            flag("forceStop"),
            flag("keepActive"),
        ]],
        permit: PERMIT,
        run: Run::Write(|world, _, ask| {
            let how = Shutdown { limit: limit(ask), force: ask.params.flag("forceStop") };
            power(world, ask, "qmshutdown", Power::Shutdown(how))
        }),
    },
    Call {
        method: "POST",
        path: "/nodes/{node}/qemu/{vmid}/status/reboot",
        params: &[&[NODE, VMID, integer("timeout").min(0)]],
        permit: PERMIT,
        run: Run::Write(reboot),
    },
    Call {
        method: "POST",
        path: "/nodes/{node}/qemu/{vmid}/status/reset",
        params: &[&[NODE, VMID, flag("skiplock")]],
        permit: PERMIT,
        run: Run::Write(reset),
    },
];

fn limit(ask: &Ask) -> f64 {
    ask.params.number("timeout").map_or(pace::SHUTDOWN_LIMIT, |seconds| seconds as f64)
}

/// Whether it exists and runs is for the task to find out.
fn power(world: &mut World, ask: &Ask, kind: &str, power: Power) -> Answer {
    let vmid = ask.vmid();
    ask.spawn(world, kind, &vmid.to_string(), Work::Power { vmid, power })
}

fn running(world: &World, ask: &Ask) -> Result<(), Failure> {
    let not = || Failure::Die(format!("VM {} not running", ask.vmid()));
    vm(world, ask)?.running.map(|_| ()).ok_or_else(not)
}

fn reboot(world: &mut World, _: &Store, ask: &Ask) -> Answer {
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
    let mut value = status(world, ask.vmid(), vm, true);
    value["ha"] = json!({"managed": 0});
    value["clipboard"] = json!(null);
    if vm.agent() {
        value["agent"] = json!(1);
    }
    Ok(value)
}
