//! `/nodes/{node}/network`: a node's interfaces (pve-manager PVE/API2/Network.pm). On a simulated host
//! only bridges can be created; pending changes are shown without the diff of the two files that a real
//! host adds.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde_json::{Map, Value, json};

use super::nodes::address;
use super::{Answer, Ask, Call, Permit, Run};
use crate::pve::state::{Host, Interfaces};
use crate::pve::wire::Failure;
use crate::pve::work::Work;
use crate::store::Store;
use crate::world::World;

const CHANGE: Permit = Permit::One("/nodes/{node}", &["Sys.Modify"]);
const ALL: &str = "/nodes/{node}/network";
const ONE: &str = "/nodes/{node}/network/{iface}";

const fn call(method: &'static str, path: &'static str, permit: Permit, run: Run) -> Call {
    Call { method, path, permit, run }
}

/// The calls of this module.
pub const CALLS: &[Call] = &[
    call("GET", ALL, Permit::User, Run::Read(list)),
    call("POST", ALL, CHANGE, Run::Write(create)),
    call("PUT", ALL, CHANGE, Run::Write(reload)),
    call("DELETE", ALL, CHANGE, Run::Write(revert)),
    call("GET", ONE, Permit::One("/nodes/{node}", &["Sys.Audit"]), Run::Read(one)),
    call("PUT", ONE, CHANGE, Run::Write(change)),
    call("DELETE", ONE, CHANGE, Run::Write(delete)),
];

/// A host's initial interfaces: its cards, and a bridge on each.
fn usual(world: &World, ask: &Ask, host: &Host) -> Interfaces {
    let mut all = BTreeMap::new();
    for (place, bridge) in host.bridges.iter().enumerate() {
        let port = host.port(place);
        let card = json!({"type": "eth", "method": "manual", "method6": "manual",
                          "families": ["inet"], "priority": 3, "active": 1});
        let mut value = json!({"type": "bridge", "method": "manual", "active": 1,
                               "method6": "manual", "autostart": 1, "families": ["inet"],
                               "bridge_ports": port, "bridge_stp": "off",
                               "bridge_fd": "0", "priority": place + 4});
        // The first bridge has the host's own address.
        if place == 0 {
            let address = address(world, &ask.node, host.number);
            value["method"] = json!("static");
            value["address"] = json!(address);
            value["netmask"] = json!("24");
            value["cidr"] = json!(format!("{address}/24"));
            value["gateway"] = json!(world.site.gateway);
        }
        all.insert(port, fields(card));
        all.insert(bridge.clone(), fields(value));
    }
    all
}

fn fields(value: Value) -> Map<String, Value> {
    if let Value::Object(fields) = value { fields } else { Map::new() }
}

/// The interfaces in the file that the next reload applies.
fn interfaces(world: &World, ask: &Ask) -> Interfaces {
    let Some(host) = ask.dc(world).hosts.get(&ask.node) else { return BTreeMap::new() };
    let written = host.new_interfaces.as_ref().or(host.interfaces.as_ref());
    written.cloned().unwrap_or_else(|| usual(world, ask, host))
}

fn list(world: &World, ask: &Ask) -> Answer {
    let wanted = |kind: &Value| match ask.params.text("type") {
        None | Some("include_sdn") => true,
        Some("any_bridge" | "any_local_bridge") => kind == "bridge",
        Some(wanted) => kind == wanted,
    };
    let shown = interfaces(world, ask).into_iter().filter(|(name, fields)| {
        wanted(&fields["type"]) && (fields["type"] != "bridge" || sees_bridge(world, ask, name))
    });
    let named = |(name, mut fields): (String, Map<String, Value>)| {
        fields.insert("iface".to_owned(), json!(name));
        Value::Object(fields)
    };
    Ok(shown.map(named).collect())
}

/// Whether a user sees a bridge: by a privilege on it, or on one of its VLANs (pve-access-control
/// src/PVE/RPCEnvironment.pm, `check_sdn_bridge`).
fn sees_bridge(world: &World, ask: &Ask, bridge: &str) -> bool {
    let path = format!("/sdn/zones/localnetwork/{bridge}");
    let vlan = |path: &&str| {
        path.rsplit_once('/').is_some_and(|(above, _)| above.ends_with(&format!("/{bridge}")))
    };
    let granted = ask.dc(world).acl.iter().map(|grant| grant.path.as_str());
    let mut paths = granted.filter(vlan).chain([path.as_str()]);
    paths.any(|path| ask.may(world, path, &["SDN.Use", "SDN.Audit"]))
}

fn missing() -> Failure {
    Failure::parameter("iface", "interface does not exist")
}

fn one(world: &World, ask: &Ask) -> Answer {
    let found = interfaces(world, ask).remove(ask.text("iface"));
    found.map(Value::Object).ok_or_else(missing)
}

/// Checks that no other interface has the same settings.
fn no_clash(all: &Interfaces, ask: &Ask) -> Result<(), Failure> {
    let others = || all.iter().filter(|(name, _)| *name != ask.text("iface"));
    if ask.params.text("gateway").is_some()
        && let Some((name, _)) = others().find(|(_, fields)| fields.contains_key("gateway"))
    {
        let text = format!("Default gateway already exists on interface '{name}'.");
        return Err(Failure::parameter("gateway", text));
    }
    let ports = ask.params.list("bridge_ports");
    for (name, fields) in others() {
        let taken = fields.get("bridge_ports").and_then(Value::as_str).unwrap_or_default();
        if let Some(port) = taken.split_whitespace().find(|port| ports.iter().any(|p| p == port)) {
            let text = format!("{port} is already used on interface '{name}'.");
            return Err(Failure::parameter("bridge_ports", text));
        }
    }
    Ok(())
}

/// Refuses settings that are not simulated.
fn is_known(ask: &Ask) -> Result<(), Failure> {
    let kind = ask.text("type");
    if kind.starts_with("OVS") {
        let text = "Open VSwitch is not installed (need package 'openvswitch-switch')";
        return Err(Failure::die(text));
    }
    let six = ["address6", "cidr6", "gateway6", "netmask6"];
    if kind != "bridge" || six.iter().any(|name| ask.params.text(name).is_some()) {
        let text = "the simulator's hosts have bridges alone, with IPv4 or without an address";
        return Err(Failure::die(text));
    }
    Ok(())
}

/// Sets the caller's values in a bridge. If no address is given, its address is removed.
fn fill(bridge: &mut Map<String, Value>, ask: &Ask) -> Result<(), Failure> {
    let get = |name: &str| ask.params.text(name).filter(|text| !text.is_empty());
    let (mut place, mut mask) = (get("address"), get("netmask"));
    if let Some(cidr) = get("cidr") {
        for (name, given) in [("address", place), ("netmask", mask)] {
            if given.is_some() {
                return Err(Failure::parameter(name, format!("{name} conflicts with cidr")));
            }
        }
        (place, mask) = cidr.split_once('/').unzip();
    }
    for name in ["address", "netmask", "cidr", "gateway"] {
        bridge.remove(name);
    }
    bridge.insert("method".to_owned(), json!(if place.is_some() { "static" } else { "manual" }));
    if let (Some(place), Some(mask)) = (place, mask) {
        // A netmask is stored as a prefix length.
        let bits = mask.parse::<Ipv4Addr>().map(|mask| u32::from(mask).count_ones().to_string());
        let mask = bits.unwrap_or_else(|_| mask.to_owned());
        bridge.insert("address".to_owned(), json!(place));
        bridge.insert("netmask".to_owned(), json!(mask));
        bridge.insert("cidr".to_owned(), json!(format!("{place}/{mask}")));
        if let Some(gateway) = get("gateway") {
            bridge.insert("gateway".to_owned(), json!(gateway));
        }
    }
    for name in ["autostart", "bridge_vlan_aware"] {
        if ask.params.text(name).is_some() {
            bridge.remove(name);
        }
        if ask.params.flag(name) {
            bridge.insert(name.to_owned(), json!(1));
        }
    }
    for name in ["bridge_ports", "bridge_vids"] {
        if ask.params.text(name).is_some() {
            bridge.insert(name.to_owned(), json!(ask.params.list(name).join(" ")));
        }
    }
    if let Some(mtu) = get("mtu") {
        bridge.insert("mtu".to_owned(), json!(mtu));
    }
    if let Some(comments) = ask.params.text("comments") {
        let lines: String = comments.lines().map(|line| format!("{line}\n")).collect();
        bridge.insert("comments".to_owned(), json!(lines));
    }
    Ok(())
}

fn write(world: &mut World, ask: &Ask, all: Interfaces) -> Answer {
    if let Some(host) = ask.dc_mut(world).hosts.get_mut(&ask.node) {
        host.new_interfaces = Some(all);
    }
    Ok(Value::Null)
}

fn create(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    let mut all = interfaces(world, ask);
    let name = ask.text("iface");
    if all.contains_key(name) {
        return Err(Failure::parameter("iface", "interface already exists"));
    }
    no_clash(&all, ask)?;
    is_known(ask)?;
    let last = all.values().filter_map(|fields| fields["priority"].as_u64()).max();
    let mut bridge = fields(json!({"type": "bridge", "method6": "manual", "families": ["inet"],
        "bridge_ports": "", "bridge_stp": "off", "bridge_fd": "0",
        "priority": last.unwrap_or(3) + 1}));
    fill(&mut bridge, ask)?;
    all.insert(name.to_owned(), bridge);
    write(world, ask, all)
}

fn change(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    let mut all = interfaces(world, ask);
    let name = ask.text("iface");
    let kind = all.get(name).ok_or_else(missing)?["type"].clone();
    no_clash(&all, ask)?;
    is_known(ask)?;
    if kind != "bridge" {
        return Err(Failure::Die(format!("the simulator changes no interface like '{name}'")));
    }
    let Some(bridge) = all.get_mut(name) else { return Err(missing()) };
    for key in ask.params.list("delete") {
        bridge.remove(&key);
    }
    fill(bridge, ask)?;
    write(world, ask, all)
}

fn delete(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    let mut all = interfaces(world, ask);
    let gone = all.remove(ask.text("iface")).ok_or_else(missing)?;
    if gone.contains_key("gateway") {
        let text = "a simulated host cannot lose the interface that it is reached by";
        return Err(Failure::die(text));
    }
    write(world, ask, all)
}

/// Pending changes are discarded.
fn revert(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    if let Some(host) = ask.dc_mut(world).hosts.get_mut(&ask.node) {
        host.new_interfaces = None;
    }
    Ok(Value::Null)
}

fn reload(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    ask.spawn(world, "srvreload", "networking", Work::ReloadNetwork)
}
