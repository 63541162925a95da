//! A VM's IP sets (pve-firewall src/PVE/API2/Firewall/IPSet.pm).

use serde_json::{Value, json};

use super::firewall::{CHANGE_VM, Level, SEE_VM, file, unchanged, writable, write};
use super::{Answer, Ask, Call, Permit, Run};
use crate::pve::firewall::{self, Fields, IpSet};
use crate::pve::wire::Failure;
use crate::store::Store;
use crate::world::World;

const SETS: &str = "/nodes/{node}/qemu/{vmid}/firewall/ipset";
const SET: &str = "/nodes/{node}/qemu/{vmid}/firewall/ipset/{name}";
const ENTRY: &str = "/nodes/{node}/qemu/{vmid}/firewall/ipset/{name}/{cidr}";
const REFS: &str = "/nodes/{node}/qemu/{vmid}/firewall/refs";

const fn call(method: &'static str, path: &'static str, permit: Permit, run: Run) -> Call {
    Call { method, path, permit, run }
}

/// The calls of this module.
pub const CALLS: &[Call] = &[
    call("GET", SETS, SEE_VM, Run::Read(list)),
    call("POST", SETS, CHANGE_VM, Run::Write(create)),
    call("GET", SET, SEE_VM, Run::Read(entries)),
    call("POST", SET, CHANGE_VM, Run::Write(add)),
    call("DELETE", SET, CHANGE_VM, Run::Write(remove)),
    call("GET", ENTRY, SEE_VM, Run::Read(entry)),
    call("PUT", ENTRY, CHANGE_VM, Run::Write(change)),
    call("DELETE", ENTRY, CHANGE_VM, Run::Write(take_out)),
    call("GET", REFS, SEE_VM, Run::Read(refs)),
];

/// The sets as the list shows them.
fn lines(world: &World, ask: &Ask) -> Vec<Fields> {
    let sets = file(world, ask, Level::Vm).sets.into_iter();
    let line = |(name, set): (String, IpSet)| {
        let comment = set.comment.map(|comment| ("comment".to_owned(), comment));
        comment.into_iter().chain([("name".to_owned(), name)]).collect()
    };
    sets.map(line).collect()
}

fn list(world: &World, ask: &Ask) -> Answer {
    let lines = lines(world, ask);
    let digest = firewall::digest(&lines);
    Ok(lines.iter().map(|line| firewall::shown(line, &digest, |_| false)).collect())
}

fn comment(ask: &Ask) -> Option<String> {
    ask.params.text("comment").map(str::to_owned)
}

/// Proxmox stores the names of sets in lower case in the file.
fn create(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    writable(world, ask, Level::Vm)?;
    let mut file = file(world, ask, Level::Vm);
    let name = ask.text("name");
    let refused = |text: String| Err(Failure::parameter("name", text));
    if let Some(old) = ask.params.text("rename").filter(|old| !old.is_empty()) {
        unchanged(ask, &firewall::digest(&lines(world, ask)))?;
        if !file.sets.contains_key(old) {
            return refused(format!("IPSet '{old}' does not exist"));
        }
        if file.sets.contains_key(name) && name != old {
            return refused(format!("IPSet '{name}' does already exist"));
        }
        let mut set = file.sets.remove(old).unwrap_or_default();
        set.comment = comment(ask).or(set.comment).filter(|comment| !comment.is_empty());
        file.sets.insert(name.to_lowercase(), set);
    } else {
        if file.sets.contains_key(name) {
            return refused(format!("IPSet '{name}' already exists"));
        }
        let comment = comment(ask).filter(|comment| !comment.is_empty());
        let set = IpSet { comment, ..IpSet::default() };
        file.sets.entry(name.to_lowercase()).or_insert(set);
    }
    write(world, ask, Level::Vm, file);
    Ok(Value::Null)
}

fn set(world: &World, ask: &Ask) -> Result<IpSet, Failure> {
    let name = ask.text("name");
    let missing = || Failure::Die(format!("no such IPSet '{name}'"));
    file(world, ask, Level::Vm).sets.remove(name).ok_or_else(missing)
}

/// Writes one set, or removes it.
fn keep(world: &mut World, ask: &Ask, set: Option<IpSet>) -> Answer {
    let mut file = file(world, ask, Level::Vm);
    match set {
        Some(set) => drop(file.sets.insert(ask.text("name").to_owned(), set)),
        None => drop(file.sets.remove(ask.text("name"))),
    }
    write(world, ask, Level::Vm, file);
    Ok(Value::Null)
}

fn shown(set: &IpSet) -> Vec<Value> {
    let digest = firewall::digest(set.entries.values());
    let number = |name: &str| name == "nomatch";
    set.entries.values().map(|entry| firewall::shown(entry, &digest, number)).collect()
}

fn entries(world: &World, ask: &Ask) -> Answer {
    set(world, ask).map(|set| shown(&set).into())
}

fn not_there() -> Failure {
    Failure::parameter("cidr", "no such IP/Network")
}

fn entry(world: &World, ask: &Ask) -> Answer {
    let set = set(world, ask)?;
    let mut all = shown(&set).into_iter();
    all.find(|entry| entry["cidr"] == ask.text("cidr")).ok_or_else(not_there)
}

/// The fields of an entry besides its address.
fn fields(ask: &Ask, cidr: &str) -> Fields {
    let mut fields = Fields::from([("cidr".to_owned(), cidr.to_owned())]);
    if ask.params.flag("nomatch") {
        fields.insert("nomatch".to_owned(), "1".to_owned());
    }
    if let Some(comment) = comment(ask).filter(|comment| !comment.trim().is_empty()) {
        fields.insert("comment".to_owned(), comment);
    }
    fields
}

/// The address in the call: the simulator has no call that creates an alias to refer to.
fn address(ask: &Ask) -> Result<String, Failure> {
    let cidr = ask.text("cidr");
    if firewall::is_alias(cidr) {
        let name = cidr.rsplit('/').next().unwrap_or_default();
        return Err(Failure::Die(format!("no such alias '{name}'")));
    }
    let wrong = |text: &str| Failure::parameter("cidr", format!("invalid format - {text}"));
    firewall::entry(cidr).map_err(wrong)
}

fn add(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    writable(world, ask, Level::Vm)?;
    let mut set = set(world, ask)?;
    let cidr = address(ask)?;
    if set.entries.contains_key(&cidr) {
        return Err(Failure::parameter("cidr", format!("address '{cidr}' already exists")));
    }
    if cidr.ends_with("/0") {
        let text = "a zero prefix is not allowed in ipset entries";
        return Err(Failure::parameter("cidr", text));
    }
    let fields = fields(ask, &cidr);
    set.entries.insert(cidr, fields);
    keep(world, ask, Some(set))
}

fn remove(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    writable(world, ask, Level::Vm)?;
    let set = set(world, ask)?;
    if !set.entries.is_empty() && !ask.params.flag("force") {
        return Err(Failure::Die(format!("IPSet '{}' is not empty", ask.text("name"))));
    }
    keep(world, ask, None)
}

fn change(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    writable(world, ask, Level::Vm)?;
    let mut set = set(world, ask)?;
    unchanged(ask, &firewall::digest(set.entries.values()))?;
    let cidr = ask.text("cidr");
    let entry = set.entries.get_mut(cidr).ok_or_else(not_there)?;
    *entry = fields(ask, cidr);
    keep(world, ask, Some(set))
}

/// Removing an address that is not in the set succeeds too.
fn take_out(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    writable(world, ask, Level::Vm)?;
    let mut set = set(world, ask)?;
    unchanged(ask, &firewall::digest(set.entries.values()))?;
    set.entries.remove(ask.text("cidr"));
    keep(world, ask, Some(set))
}

/// The objects that a rule of the VM can refer to.
fn refs(world: &World, ask: &Ask) -> Answer {
    if ask.params.text("type") == Some("alias") {
        return Ok(json!([]));
    }
    let reference = |line: Fields| {
        let name = &line["name"];
        let mut value =
            json!({"type": "ipset", "name": name, "ref": format!("+{name}"), "scope": "guest"});
        if let Some(comment) = line.get("comment") {
            value["comment"] = json!(comment);
        }
        value
    };
    Ok(lines(world, ask).into_iter().map(reference).collect())
}
