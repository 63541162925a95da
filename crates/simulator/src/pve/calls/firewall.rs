//! The firewall's options and rules (pve-firewall src/PVE/API2/Firewall/{Cluster,Host,VM,Rules}.pm).

use serde_json::{Value, json};

use super::{Answer, Ask, Call, Permit, Run};
use crate::pve::firewall::{self, Env, Fields, Firewall};
use crate::pve::rules;
use crate::pve::wire::Failure;
use crate::world::World;

/// Privileges to read a VM's firewall.
pub const SEE_VM: Permit = Permit::One("/vms/{vmid}", &["VM.Audit"]);
/// Privileges to change it.
pub const CHANGE_VM: Permit = Permit::One("/vms/{vmid}", &["VM.Config.Network"]);
const SEE_NODE: Permit = Permit::One("/nodes/{node}", &["Sys.Audit"]);
const CHANGE_NODE: Permit = Permit::One("/nodes/{node}", &["Sys.Modify"]);
const SEE_ALL: Permit = Permit::One("/", &["Sys.Audit"]);
const CHANGE_ALL: Permit = Permit::One("/", &["Sys.Modify"]);

/// How long, in seconds, a firewall stays on that was enabled for a trial.
const TRIAL: i64 = 60;

/// The owner of the firewall in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The cluster's.
    Cluster,
    /// A node's.
    Host,
    /// A VM's.
    Vm,
}

impl Level {
    /// The name of its file's lock, and of the file here.
    pub fn scope(self, ask: &Ask) -> String {
        match self {
            Level::Cluster => "cluster".to_owned(),
            Level::Host => format!("host-{}", ask.node),
            Level::Vm => format!("vm-{}", ask.vmid()),
        }
    }

    fn env(self) -> Env {
        if self == Level::Vm { Env::Vm } else { Env::Host }
    }
}

const fn call(method: &'static str, path: &'static str, permit: Permit, run: Run) -> Call {
    Call { method, path, permit, run }
}

const CLUSTER_OPTIONS: &str = "/cluster/firewall/options";
const HOST_OPTIONS: &str = "/nodes/{node}/firewall/options";
const HOST_RULES: &str = "/nodes/{node}/firewall/rules";
const HOST_RULE: &str = "/nodes/{node}/firewall/rules/{pos}";
const VM_OPTIONS: &str = "/nodes/{node}/qemu/{vmid}/firewall/options";
const VM_RULES: &str = "/nodes/{node}/qemu/{vmid}/firewall/rules";
const VM_RULE: &str = "/nodes/{node}/qemu/{vmid}/firewall/rules/{pos}";

/// The calls of this module.
pub const CALLS: &[Call] = &[
    call("GET", CLUSTER_OPTIONS, SEE_ALL, Run::Read(|w, ask| options(w, ask, Level::Cluster))),
    call("PUT", CLUSTER_OPTIONS, CHANGE_ALL, Run::Write(|w, _, ask| set(w, ask, Level::Cluster))),
    call("GET", HOST_OPTIONS, SEE_NODE, Run::Read(|w, ask| options(w, ask, Level::Host))),
    call("PUT", HOST_OPTIONS, CHANGE_NODE, Run::Write(|w, _, ask| set(w, ask, Level::Host))),
    call("GET", HOST_RULES, SEE_NODE, Run::Read(|w, ask| list(w, ask, Level::Host))),
    call("POST", HOST_RULES, CHANGE_NODE, Run::Write(|w, _, ask| add(w, ask, Level::Host))),
    call("GET", HOST_RULE, SEE_NODE, Run::Read(|w, ask| one(w, ask, Level::Host))),
    call("PUT", HOST_RULE, CHANGE_NODE, Run::Write(|w, _, ask| change(w, ask, Level::Host))),
    call("DELETE", HOST_RULE, CHANGE_NODE, Run::Write(|w, _, ask| delete(w, ask, Level::Host))),
    call("GET", VM_OPTIONS, SEE_VM, Run::Read(|w, ask| options(w, ask, Level::Vm))),
    call("PUT", VM_OPTIONS, CHANGE_VM, Run::Write(|w, _, ask| set(w, ask, Level::Vm))),
    call("GET", VM_RULES, SEE_VM, Run::Read(|w, ask| list(w, ask, Level::Vm))),
    call("POST", VM_RULES, CHANGE_VM, Run::Write(|w, _, ask| add(w, ask, Level::Vm))),
    call("GET", VM_RULE, SEE_VM, Run::Read(|w, ask| one(w, ask, Level::Vm))),
    call("PUT", VM_RULE, CHANGE_VM, Run::Write(|w, _, ask| change(w, ask, Level::Vm))),
    call("DELETE", VM_RULE, CHANGE_VM, Run::Write(|w, _, ask| delete(w, ask, Level::Vm))),
];

/// A firewall's file; an empty one if there is none.
pub fn file(world: &World, ask: &Ask, level: Level) -> Firewall {
    ask.dc(world).firewalls.get(&level.scope(ask)).cloned().unwrap_or_default()
}

/// Writes a firewall's file; one without contents is removed.
pub fn write(world: &mut World, ask: &Ask, level: Level, file: Firewall) {
    let (scope, all) = (level.scope(ask), &mut ask.dc_mut(world).firewalls);
    if file == Firewall::default() {
        all.remove(&scope);
    } else {
        all.insert(scope, file);
    }
}

/// Checks that a firewall's file can be changed.
///
/// # Errors
/// 500, after the lock timeout.
pub fn writable(world: &World, ask: &Ask, level: Level) -> Result<(), Failure> {
    ask.can_lock(world, &format!("firewall-{}", level.scope(ask)))
}

/// Checks that the changed version is the one that the caller has seen.
///
/// # Errors
/// 500.
pub fn unchanged(ask: &Ask, digest: &str) -> Result<(), Failure> {
    let known = ask.params.text("digest").filter(|known| !known.is_empty());
    if known.is_some_and(|known| known != digest) {
        let text = "detected modified configuration - file changed by other user? Try again.";
        return Err(Failure::die(text));
    }
    Ok(())
}

/// The options in force: an expired trial is off.
fn in_force(world: &World, ask: &Ask, level: Level) -> Fields {
    let mut options = file(world, ask, level).options;
    if let Some(since) = options.get_mut("enable")
        && since.parse().is_ok_and(|since: i64| since > 1 && world.unix() - since > TRIAL)
    {
        "0".clone_into(since);
    }
    options
}

fn options(world: &World, ask: &Ask, level: Level) -> Answer {
    let options = in_force(world, ask, level);
    Ok(firewall::shown(&options, &firewall::digest([&options]), |_| true))
}

fn set(world: &mut World, ask: &Ask, level: Level) -> Answer {
    writable(world, ask, level)?;
    let path = match level {
        Level::Cluster => CLUSTER_OPTIONS,
        Level::Host => HOST_OPTIONS,
        Level::Vm => VM_OPTIONS,
    };
    let not_options = ["delete", "digest", "node", "vmid"];
    let is_option = |name: &str| !not_options.contains(&name) && rules::takes("PUT", path, name);
    let mut options = in_force(world, ask, level);
    unchanged(ask, &firewall::digest([&options]))?;
    for name in ask.params.list("delete") {
        if !is_option(&name) {
            return Err(Failure::parameter("delete", format!("no such option '{name}'")));
        }
        options.remove(&name);
    }
    for name in ask.params.0.keys().filter(|name| is_option(name)) {
        let mut text = ask.text(name).to_owned();
        let trial = text.parse().is_ok_and(|number: i64| number > 1);
        if name == "enable" && level == Level::Cluster && trial {
            text = world.unix().to_string();
        }
        options.insert(name.clone(), text);
    }
    let file = Firewall { options, ..file(world, ask, level) };
    write(world, ask, level, file);
    Ok(Value::Null)
}

fn digest_of(rules: &[Fields]) -> String {
    firewall::digest(rules)
}

fn rule(rules: &[Fields], pos: usize) -> Value {
    let number = |name: &str| ["enable", "ipversion"].contains(&name);
    let mut value = firewall::shown(&rules[pos], &digest_of(rules), number);
    value["pos"] = json!(pos);
    value
}

fn list(world: &World, ask: &Ask, level: Level) -> Answer {
    let rules = file(world, ask, level).rules;
    Ok((0..rules.len()).map(|pos| rule(&rules, pos)).collect())
}

/// The position in the path, if there is a rule.
fn pos(ask: &Ask, rules: &[Fields]) -> Result<usize, Failure> {
    let pos = ask.text("pos").parse().ok().filter(|pos| *pos < rules.len());
    pos.ok_or_else(|| Failure::Die(format!("no rule at position {}", ask.text("pos"))))
}

fn one(world: &World, ask: &Ask, level: Level) -> Answer {
    let rules = file(world, ask, level).rules;
    pos(ask, &rules).map(|pos| rule(&rules, pos))
}

/// The fields of a rule.
const PROPERTIES: [&str; 13] = [
    "action",
    "comment",
    "dest",
    "dport",
    "enable",
    "icmp-type",
    "iface",
    "log",
    "macro",
    "proto",
    "source",
    "sport",
    "type",
];

/// Sets the caller's values in a rule; an empty value or a dash removes the field.
fn put_in(ask: &Ask, rule: &mut Fields) -> Result<(), Failure> {
    let given = PROPERTIES.iter().filter_map(|name| Some((*name, ask.params.text(name)?)));
    let given: Fields = given.map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
    firewall::formats(&given)?;
    for (name, text) in given {
        if text.is_empty() || text == "-" {
            rule.remove(&name);
        } else {
            rule.insert(name, text);
        }
    }
    Ok(())
}

fn verify(rule: &mut Fields, file: &Firewall, all: &Firewall, level: Level) -> Result<(), Failure> {
    let has = |name: &str| file.sets.contains_key(name) || all.sets.contains_key(name);
    firewall::verify(rule, level.env(), has)
}

fn add(world: &mut World, ask: &Ask, level: Level) -> Answer {
    writable(world, ask, level)?;
    let (mut file, all) = (file(world, ask, level), file(world, ask, Level::Cluster));
    let mut rule = Fields::new();
    put_in(ask, &mut rule)?;
    verify(&mut rule, &file, &all, level)?;
    rule.entry("enable".to_owned()).or_insert_with(|| "0".to_owned());
    // A new rule comes first, whatever position the caller requested.
    file.rules.insert(0, firewall::kept(rule));
    write(world, ask, level, file);
    Ok(Value::Null)
}

fn change(world: &mut World, ask: &Ask, level: Level) -> Answer {
    writable(world, ask, level)?;
    let (mut file, all) = (file(world, ask, level), file(world, ask, Level::Cluster));
    unchanged(ask, &digest_of(&file.rules))?;
    let pos = pos(ask, &file.rules)?;
    let to = ask.params.number("moveto").and_then(|to| usize::try_from(to).ok());
    match to.filter(|to| *to != pos) {
        Some(to) => {
            let last = file.rules.len();
            let rule = file.rules.remove(pos);
            // It is moved before the rule that is at that position now.
            let place = if to > pos { to.min(last) - 1 } else { to };
            file.rules.insert(place, rule);
        }
        None => {
            let mut rule = file.rules[pos].clone();
            put_in(ask, &mut rule)?;
            for name in ask.params.list("delete") {
                let refused = |text: String| Err(Failure::parameter("delete", text));
                if !PROPERTIES.contains(&name.as_str()) && !["digest", "pos"].contains(&&*name) {
                    return refused(format!("no such property ('{name}')"));
                }
                if name == "type" || name == "action" {
                    return refused(format!("unable to delete required property '{name}'"));
                }
                rule.remove(&name);
            }
            verify(&mut rule, &file, &all, level)?;
            file.rules[pos] = firewall::kept(rule);
        }
    }
    write(world, ask, level, file);
    Ok(Value::Null)
}

fn delete(world: &mut World, ask: &Ask, level: Level) -> Answer {
    writable(world, ask, level)?;
    let mut file = file(world, ask, level);
    unchanged(ask, &digest_of(&file.rules))?;
    let pos = pos(ask, &file.rules)?;
    file.rules.remove(pos);
    write(world, ask, level, file);
    Ok(Value::Null)
}
