//! A VM's console, keys and monitor (qemu-server src/PVE/API2/Qemu.pm).

use serde_json::{Value, json};

use super::vms::vm;
use super::{Answer, Ask, Call, Permit, Run};
use crate::pve::wire::Failure;
use crate::pve::work::Work;
use crate::store::Store;
use crate::world::World;

const CONSOLE: Permit = Permit::One("/vms/{vmid}", &["VM.Console"]);

/// The calls of this module.
pub const CALLS: &[Call] = &[
    Call {
        method: "PUT",
        path: "/nodes/{node}/qemu/{vmid}/sendkey",
        permit: CONSOLE,
        run: Run::Read(|world, ask| running(world, ask).map(|()| Value::Null)),
    },
    Call {
        method: "POST",
        path: "/nodes/{node}/qemu/{vmid}/monitor",
        permit: Permit::One("/vms/{vmid}", &["Sys.Audit", "Sys.Modify"]),
        run: Run::Read(|world, ask| {
            running(world, ask)?;
            let state = if vm(world, ask)?.is_paused() { "paused" } else { "running" };
            match ask.text("command") {
                "info status" => Ok(json!(format!("VM status: {state}\r\n"))),
                other => {
                    let word = other.split_whitespace().next().unwrap_or_default();
                    Ok(json!(format!("unknown command: '{word}'\r\n")))
                }
            }
        }),
    },
    Call {
        method: "POST",
        path: "/nodes/{node}/qemu/{vmid}/vncproxy",
        permit: CONSOLE,
        run: Run::Write(|world, _: &Store, ask| proxy(world, ask)),
    },
    Call {
        method: "POST",
        path: "/nodes/{node}/qemu/{vmid}/termproxy",
        permit: CONSOLE,
        run: Run::Write(|world, _: &Store, ask| proxy(world, ask)),
    },
    Call {
        method: "POST",
        path: "/nodes/{node}/qemu/{vmid}/spiceproxy",
        permit: CONSOLE,
        run: Run::Read(|world, ask| {
            vm(world, ask)?;
            Err(Failure::die("no spice port"))
        }),
    },
];

fn running(world: &World, ask: &Ask) -> Result<(), Failure> {
    let not = || Failure::Die(format!("VM {} not running", ask.vmid()));
    vm(world, ask)?.running.map(|_| ()).ok_or_else(not)
}

/// A console without a connection: its task ends by itself.
fn proxy(world: &mut World, ask: &Ask) -> Answer {
    vm(world, ask)?;
    let ticket = format!("PVEVNC:{:08X}::{}", world.unix(), world.pve.new_uuid());
    let vmid = ask.vmid().to_string();
    let text = "connection timed out".to_owned();
    let upid = ask.spawn(world, "vncproxy", &vmid, Work::Refuse(text))?;
    Ok(json!({"upid": upid, "port": "5900", "ticket": ticket, "user": ask.caller.full(),
              "cert": ask.dc(world).ca.cert}))
}
