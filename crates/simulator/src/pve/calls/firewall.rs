//! The firewall, which is not configured (pve-firewall src/PVE/API2/Firewall).

use serde_json::json;

use super::{Answer, Ask, Call, Permit, Run};
use crate::world::World;

const VM: Permit = Permit::One("/vms/{vmid}", &["VM.Audit"]);
const NODE: Permit = Permit::One("/nodes/{node}", &["Sys.Audit"]);

/// The SHA-1 of a file that is not there.
const NOTHING: &str = "da39a3ee5e6b4b0d3255bfef95601890afd80709";

const fn get(path: &'static str, permit: Permit, run: Run) -> Call {
    Call { method: "GET", path, permit, run }
}

/// The calls of this part.
pub const CALLS: &[Call] = &[
    get("/cluster/firewall/options", Permit::One("/", &["Sys.Audit"]), Run::Read(options)),
    get("/nodes/{node}/firewall/options", NODE, Run::Read(options)),
    get("/nodes/{node}/firewall/rules", NODE, Run::Index("", &[])),
    get("/nodes/{node}/qemu/{vmid}/firewall/options", VM, Run::Read(options)),
    get("/nodes/{node}/qemu/{vmid}/firewall/rules", VM, Run::Index("", &[])),
    get("/nodes/{node}/qemu/{vmid}/firewall/ipset", VM, Run::Index("", &[])),
    get("/nodes/{node}/qemu/{vmid}/firewall/refs", VM, Run::Index("", &[])),
];

fn options(_: &World, _: &Ask) -> Answer {
    Ok(json!({"digest": NOTHING}))
}
