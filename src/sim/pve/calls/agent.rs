//! `/nodes/{node}/qemu/{vmid}/agent` (qemu-server src/PVE/API2/Qemu/Agent.pm).

use serde_json::json;

use super::vms::vm;
use super::{Answer, Ask, Call, NODE, Permit, Run, VMID};
use crate::sim::pve::nic;
use crate::sim::pve::pace;
use crate::sim::pve::wire::Failure;
use crate::sim::world::World;

const PERMIT: Permit =
    Permit::One("/vms/{vmid}", &["VM.GuestAgent.Audit", "VM.GuestAgent.Unrestricted"]);

/// The calls of this part.
pub const CALLS: &[Call] = &[
    Call {
        method: "POST",
        path: "/nodes/{node}/qemu/{vmid}/agent/ping",
        params: &[&[NODE, VMID]],
        permit: PERMIT,
        run: Run::Read(|world, ask| reachable(world, ask).map(|()| json!({"result": {}}))),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/qemu/{vmid}/agent/network-get-interfaces",
        params: &[&[NODE, VMID]],
        permit: PERMIT,
        run: Run::Read(interfaces),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/qemu/{vmid}/agent/get-host-name",
        params: &[&[NODE, VMID]],
        permit: PERMIT,
        run: Run::Read(|world, ask| {
            reachable(world, ask)?;
            let name = vm(world, ask)?.name(ask.vmid());
            let short = name.split('.').next().unwrap_or_default();
            Ok(json!({"result": {"host-name": short}}))
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
    if world.lab.agent(&world.pve.key(ask.dc, ask.vmid()), world.now) {
        return Ok(());
    }
    Err(Failure::Late(pace::AGENT_TIMEOUT, Box::new(down)))
}

fn interfaces(world: &World, ask: &Ask) -> Answer {
    reachable(world, ask)?;
    let statistics = json!({"rx-bytes": 0, "rx-packets": 0, "rx-errs": 0, "rx-dropped": 0,
                            "tx-bytes": 0, "tx-packets": 0, "tx-errs": 0, "tx-dropped": 0});
    let mut all = vec![json!({
        "name": "lo", "hardware-address": "00:00:00:00:00:00", "statistics": statistics,
        "ip-addresses": [{"ip-address": "127.0.0.1", "ip-address-type": "ipv4", "prefix": 8},
                         {"ip-address": "::1", "ip-address-type": "ipv6", "prefix": 128}],
    })];
    let nets = vm(world, ask)?.config.iter().filter(|(key, _)| nic::is_net(key));
    let macs: Vec<_> = nets.filter_map(|(_, value)| nic::nic(value)).collect();
    let addresses = world.lab.addresses(&world.pve.key(ask.dc, ask.vmid()), world.now);
    let cards = addresses.iter().filter(|(name, ..)| name != "lo");
    for (place, (name, address, prefix)) in cards.enumerate() {
        let mac = macs.get(place.min(macs.len().saturating_sub(1)));
        let mac = mac.map(|(mac, ..)| mac.to_lowercase()).unwrap_or_default();
        all.push(json!({
            "name": name, "hardware-address": mac, "statistics": statistics,
            "ip-addresses": [{"ip-address": address, "ip-address-type": "ipv4", "prefix": prefix}],
        }));
    }
    Ok(json!({"result": all}))
}
