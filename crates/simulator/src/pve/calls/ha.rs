//! HA's resources, rules and the deprecated groups (pve-ha-manager src/PVE/API2/HA). No HA manager runs
//! on a simulated host: invalid requests are refused as on a real one, and no resource is created.

use serde_json::Value;

use super::{Answer, Ask, Call, Permit, Run};
use crate::pve::wire::Failure;
use crate::world::World;

const AUDIT: Permit = Permit::One("/", &["Sys.Audit"]);
const CONSOLE: Permit = Permit::One("/", &["Sys.Console"]);

const RESOURCES: &str = "/cluster/ha/resources";
const RESOURCE: &str = "/cluster/ha/resources/{sid}";
const GROUPS: &str = "/cluster/ha/groups";
const GROUP: &str = "/cluster/ha/groups/{group}";
const RULES: &str = "/cluster/ha/rules";
const RULE: &str = "/cluster/ha/rules/{rule}";

/// The error of every call for the deprecated groups.
const MIGRATED: &str = "ha groups have been migrated to rules";

const fn call(
    method: &'static str,
    path: &'static str,
    permit: Permit,
    run: fn(&World, &Ask) -> Answer,
) -> Call {
    Call { method, path, permit, run: Run::Read(run) }
}

/// The calls of this module.
pub const CALLS: &[Call] = &[
    Call { method: "GET", path: RESOURCES, permit: AUDIT, run: Run::Index("", &[]) },
    call("POST", RESOURCES, CONSOLE, create),
    call("GET", RESOURCE, AUDIT, |world, ask| die(no_resource(&sid(world, ask)?))),
    call("PUT", RESOURCE, CONSOLE, update),
    call("DELETE", RESOURCE, CONSOLE, |world, ask| {
        die(format!("cannot delete service '{}', not HA managed!", sid(world, ask)?))
    }),
    call("POST", "/cluster/ha/resources/{sid}/migrate", CONSOLE, not_managed),
    call("POST", "/cluster/ha/resources/{sid}/relocate", CONSOLE, not_managed),
    call("GET", GROUPS, AUDIT, |_, _| die(format!("cannot index groups: {MIGRATED}"))),
    call("POST", GROUPS, CONSOLE, |_, _| die(format!("cannot create group: {MIGRATED}"))),
    call("GET", GROUP, AUDIT, |_, _| die(format!("cannot read group: {MIGRATED}"))),
    call("PUT", GROUP, CONSOLE, |_, _| die(format!("cannot update group: {MIGRATED}"))),
    call("DELETE", GROUP, CONSOLE, |_, _| die(format!("cannot delete group: {MIGRATED}"))),
    call("POST", RULES, CONSOLE, create_rule),
    call("GET", RULE, AUDIT, |_, ask| die(format!("no such ha rule '{}'", ask.text("rule")))),
    call("PUT", RULE, CONSOLE, |_, ask| {
        let text = format!("HA rule '{}' does not exist", ask.text("rule"));
        die(format!("update HA rules failed: {text}"))
    }),
    // Deleting a missing one is not an error.
    call("DELETE", RULE, CONSOLE, |_, _| Ok(Value::Null)),
];

fn die(text: String) -> Answer {
    Err(Failure::Die(text))
}

/// The requested resource: a bare VMID stands for the VM, which must exist.
fn sid(world: &World, ask: &Ask) -> Result<String, Failure> {
    let sid = ask.text("sid");
    let Ok(vmid) = sid.parse::<u32>() else { return Ok(sid.to_owned()) };
    if ask.dc(world).vms.contains_key(&vmid) {
        return Ok(format!("vm:{vmid}"));
    }
    let text = format!("unable to detect SID from VMID - VM/CT {vmid} does not exist");
    Err(Failure::Die(text))
}

fn no_resource(sid: &str) -> String {
    format!("no such resource '{sid}'")
}

fn not_managed(world: &World, ask: &Ask) -> Answer {
    die(format!("resource '{}' is not HA managed", sid(world, ask)?))
}

/// Refuses a group, and a type that differs from the resource's.
fn is_plain(ask: &Ask, sid: &str) -> Result<(), Failure> {
    let kind = sid.split(':').next().unwrap_or_default();
    if ask.params.text("type").is_some_and(|given| given != kind) {
        return Err(Failure::die("types does not match"));
    }
    match ask.params.text("group") {
        Some(_) => Err(Failure::Die(format!("invalid parameter 'group': {MIGRATED}"))),
        None => Ok(()),
    }
}

fn create(world: &World, ask: &Ask) -> Answer {
    ask.quorum(world)?;
    let sid = sid(world, ask)?;
    is_plain(ask, &sid)?;
    let (_, name) = sid.split_once(':').unwrap_or_default();
    let there = name.parse().is_ok_and(|vmid: u32| ask.dc(world).vms.contains_key(&vmid));
    if !there {
        return die(format!("resource '{sid}' does not exist in cluster"));
    }
    die("no HA manager runs on a simulated host".to_owned())
}

fn update(world: &World, ask: &Ask) -> Answer {
    let sid = sid(world, ask)?;
    is_plain(ask, &sid)?;
    die(format!("update resources config failed: {}", no_resource(&sid)))
}

fn create_rule(world: &World, ask: &Ask) -> Answer {
    ask.quorum(world)?;
    let required = if ask.text("type") == "node-affinity" { "nodes" } else { "affinity" };
    if ask.params.text(required).is_none() {
        return die(format!("missing value for required option '{required}'"));
    }
    let mut unmanaged = ask.params.list("resources");
    unmanaged.sort();
    unmanaged.dedup();
    let text = match unmanaged.is_empty() {
        true => "no resources were specified".to_owned(),
        false => format!("cannot use unmanaged resource(s) {}.", unmanaged.join(", ")),
    };
    die(format!("create ha rule failed: {text}"))
}
