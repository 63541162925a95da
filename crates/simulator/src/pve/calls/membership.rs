//! The shared state of a cluster's nodes: its membership, HA, its log, VMs without backup (pve-manager
//! PVE/API2/{ClusterConfig,Cluster}.pm and pve-ha-manager src/PVE/API2/HA).

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::nodes::address;
use super::{Answer, Ask, Call, Permit, Run};
use crate::pve::state::Host;
use crate::pve::task::Task;
use crate::pve::wire::Failure;
use crate::world::World;

const AUDIT: Permit = Permit::One("/", &["Sys.Audit"]);

/// The calls of this module.
pub const CALLS: &[Call] = &[
    Call { method: "GET", path: "/cluster/config/join", permit: AUDIT, run: Run::Read(join) },
    Call {
        method: "GET",
        path: "/cluster/config/nodes",
        permit: AUDIT,
        run: Run::Read(|world, ask| {
            let member = |(name, host): (&String, &Host)| {
                let mut value = member(world, name, host);
                value["node"] = json!(name);
                value
            };
            Ok(ask.dc(world).hosts.iter().map(member).collect())
        }),
    },
    Call {
        method: "GET",
        path: "/cluster/ha/status/current",
        permit: AUDIT,
        run: Run::Read(|_, ask| {
            Ok(json!([
                {"id": "quorum", "type": "quorum", "node": ask.via, "status": "OK", "quorate": 1},
                {"id": "fencing", "type": "fencing", "node": ask.via, "armed-state": "standby",
                 "status": "standby (CRM watchdog standby)"},
            ]))
        }),
    },
    Call {
        method: "GET",
        path: "/cluster/ha/status/manager_status",
        permit: AUDIT,
        run: Run::Read(|_, ask| {
            Ok(json!({"manager_status": {"node_status": {}},
                      "quorum": {"quorate": "1", "node": ask.via}}))
        }),
    },
    Call { method: "GET", path: "/cluster/log", permit: Permit::User, run: Run::Read(log) },
    Call {
        method: "GET",
        path: "/cluster/backup-info/not-backed-up",
        permit: AUDIT,
        run: Run::Read(|world, ask| {
            let vms = ask.dc(world).vms.iter();
            Ok(vms
                .map(|(vmid, vm)| json!({"vmid": vmid, "type": "qemu", "name": vm.name(*vmid)}))
                .collect())
        }),
    },
    Call {
        method: "GET",
        path: "/cluster/ceph/status",
        permit: AUDIT,
        run: Run::Read(|_, _| Err(Failure::die(NO_CEPH))),
    },
];

/// The error for Ceph if it is not installed.
pub const NO_CEPH: &str = "binary not installed: /usr/bin/ceph-mon";

fn member(world: &World, name: &str, host: &Host) -> Value {
    json!({"name": name, "nodeid": host.number.to_string(), "quorum_votes": "1",
           "ring0_addr": address(world, name, host.number)})
}

fn join(world: &World, ask: &Ask) -> Answer {
    let dc = ask.dc(world);
    if !dc.clustered {
        return Err(Failure::die("node is not in a cluster, no join info available!"));
    }
    let preferred = ask.params.text("node").unwrap_or(&ask.via);
    if !dc.hosts.contains_key(preferred) {
        return Err(Failure::Die(format!("unknown node '{preferred}'")));
    }
    let nodes = dc.hosts.iter().map(|(name, host)| {
        let mut value = member(world, name, host);
        value["pve_addr"] = value["ring0_addr"].clone();
        value["pve_fp"] = json!(host.pair.fingerprint);
        value
    });
    let digest = Sha256::digest(&dc.name);
    let digest: String = digest.iter().take(20).map(|byte| format!("{byte:02x}")).collect();
    Ok(json!({
        "config_digest": digest, "preferred_node": preferred, "nodelist": nodes.collect::<Vec<_>>(),
        "totem": {"cluster_name": dc.name, "config_version": dc.hosts.len().to_string(),
                  "interface": {"0": {"linknumber": "0"}}, "ip_version": "ipv4-6",
                  "link_mode": "passive", "secauth": "on", "version": "2"},
    }))
}

/// The start and end entries of tasks, newest first.
fn log(world: &World, ask: &Ask) -> Answer {
    let all = ask.may(world, "/", &["Sys.Syslog"]);
    let most = ask.params.number("max").and_then(|most| usize::try_from(most).ok()).unwrap_or(50);
    let line = |task: &Task, time: i64, text: String, pri: u8| {
        json!({"node": task.host, "user": task.caller().full(), "pid": task.pid, "pri": pri,
               "tag": "pvedaemon", "time": time, "msg": text})
    };
    let seen = ask.dc(world).tasks.iter().filter(|task| all || task.user == ask.caller.user);
    let mut lines: Vec<Value> = Vec::new();
    for task in seen {
        lines.push(line(task, task.started, format!("starting task {}", task.upid), 6));
        if let (Some(result), Some(ended)) = (&task.result, task.ended) {
            let pri = if result == "OK" { 6 } else { 3 };
            lines.push(line(task, ended, format!("end task {} {result}", task.upid), pri));
        }
    }
    lines.sort_by_key(|line| line["time"].as_i64());
    for (number, line) in (1..).zip(&mut lines) {
        let number: usize = number;
        line["uid"] = json!(number.to_string());
        line["id"] = json!(format!("{number}:{}", line["node"].as_str().unwrap_or_default()));
    }
    Ok(lines.into_iter().rev().take(most).collect())
}
