//! `/cluster/options`: the settings of `datacenter.cfg` (pve-manager PVE/API2/Cluster.pm and
//! pve-cluster src/PVE/DataCenterConfig.pm). Only the range of free VMIDs has an effect here; the other
//! settings are stored and shown.

use serde_json::{Value, json};

use super::{Answer, Ask, Call, Permit, Run};
use crate::pve::rules;
use crate::pve::state::Datacenter;
use crate::pve::wire::Failure;
use crate::store::Store;
use crate::world::World;

const PATH: &str = "/cluster/options";

/// The calls of this module.
pub const CALLS: &[Call] = &[
    Call { method: "GET", path: PATH, permit: Permit::User, run: Run::Read(options) },
    Call {
        method: "PUT",
        path: PATH,
        permit: Permit::One("/", &["Sys.Modify"]),
        run: Run::Write(set),
    },
    Call { method: "GET", path: "/cluster/nextid", permit: Permit::User, run: Run::Read(next_id) },
];

/// Settings with several parts, and the formats that define them.
const PARTS: [(&str, &str); 9] = [
    ("crs", "vm-crs"),
    ("ha", "vm-ha"),
    ("migration", "vm-migration"),
    ("next-id", "vm-next-id"),
    ("notify", "vm-notify"),
    ("replication", "vm-migration"),
    ("tag-style", "vm-tag-style"),
    ("u2f", "vm-u2f"),
    ("webauthn", "vm-webauthn"),
];

/// Settings with effects that are not simulated: permitted tags, prefix of new MAC addresses.
const NOT_SIMULATED: [&str; 4] =
    ["consent-text", "mac_prefix", "registered-tags", "user-tag-access"];

/// A setting as it is read back.
fn shown(name: &str, text: &str) -> Value {
    match PARTS.iter().find(|(known, _)| *known == name) {
        Some((_, format)) => rules::parts(format, text),
        None => json!(text),
    }
}

fn options(world: &World, ask: &Ask) -> Answer {
    let dc = ask.dc(world);
    let all = ask.may(world, "/", &["Sys.Audit"]);
    let open = |name: &str| all || ["console", "tag-style"].contains(&name);
    let mut value = json!({"allowed-tags": []});
    if all {
        value["description"] = json!("");
        value["mac_prefix"] = json!("BC:24:11");
    }
    for (name, text) in dc.options.iter().filter(|(name, _)| open(name)) {
        value[name] = shown(name, text);
    }
    Ok(value)
}

fn set(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    let given = ask.params.0.keys().map(String::as_str).filter(|name| *name != "delete");
    if let Some(name) = given.clone().find(|name| NOT_SIMULATED.contains(name)) {
        return Err(Failure::Die(format!("the simulator has no datacenter option '{name}'")));
    }
    ask.can_write(world, "datacenter_cfg")?;
    let mut options = ask.dc(world).options.clone();
    for name in given {
        let text = ask.text(name);
        match name {
            // Each of its lines is a comment in the file.
            "description" => {
                let lines: String = text.lines().map(|line| format!("{line}\n")).collect();
                options.insert(name.to_owned(), lines);
            }
            "console" if text == "applet" => {
                options.insert(name.to_owned(), "html5".to_owned());
            }
            // Its meaning has moved to `migration`, which takes precedence if present.
            "migration_unsecure" => {
                let kind = if text == "1" { "insecure" } else { "secure" };
                options.entry("migration".to_owned()).or_insert_with(|| kind.to_owned());
            }
            _ => drop(options.insert(name.to_owned(), text.to_owned())),
        }
    }
    for name in ask.params.list("delete") {
        options.remove(&name);
    }
    ask.dc_mut(world).options = options;
    Ok(Value::Null)
}

/// The range of offered VMIDs: from the first, and below the second.
fn range(dc: &Datacenter) -> (u32, u32) {
    let chosen = dc.options.get("next-id").map(|text| rules::parts("vm-next-id", text));
    let limit = |name: &str, usual: u32| {
        let text = chosen.as_ref().and_then(|parts| parts[name].as_str());
        text.and_then(|text| text.parse().ok()).unwrap_or(usual)
    };
    (limit("lower", 100), limit("upper", 1_000_000))
}

fn next_id(world: &World, ask: &Ask) -> Answer {
    let dc = ask.dc(world);
    if let Some(vmid) = ask.params.vmid("vmid") {
        if dc.vms.contains_key(&vmid) {
            return Err(Failure::parameter("vmid", format!("VM {vmid} already exists")));
        }
        return Ok(json!(vmid.to_string()));
    }
    let (lower, upper) = range(dc);
    let free = (lower..upper).find(|vmid| !dc.vms.contains_key(vmid));
    let none = || format!("unable to get any free VMID in range [{lower}, {upper}]");
    free.map(|vmid| json!(vmid.to_string())).ok_or_else(|| Failure::Die(none()))
}
