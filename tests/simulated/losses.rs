//! Machines that are lost while the cluster is being created.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use serde_json::Value;

use crate::standing::Server;

/// `up`, and a VM that is switched off when a step starts: the report, and how many looks at an
/// unreachable node followed.
fn up_and_lose(server: &Server, step: &str, vm: &str) -> (Value, usize) {
    let mut child = server
        .command(&["up", "--json"], &server.endpoints)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut events = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let begins = format!(r#""event":"started","step":"{step}""#);
    let mut before = Vec::new();
    while before.last().is_none_or(|event: &String| !event.contains(&begins)) {
        before.push(events.next().unwrap_or_else(|| panic!("it never starts: {before:#?}")));
    }
    server.api().call("POST", &format!("/nodes/{vm}/status/stop"), &[]);
    let looks = events.filter(|event| event.contains("cannot see")).count();
    let mut report = String::new();
    child.stdout.take().unwrap().read_to_string(&mut report).unwrap();
    assert!(!child.wait().unwrap().success(), "{report}");
    (serde_json::from_str(&report).unwrap(), looks)
}

fn state(report: &Value, step: &str) -> Value {
    let steps = report["steps"].as_array().unwrap();
    steps.iter().find(|seen| seen["step"] == step).unwrap()["state"].clone()
}

/// The only failure: its step, its node, its message.
fn failure(report: &Value) -> [String; 3] {
    let failures = report["failures"].as_array().unwrap();
    assert_eq!(failures.len(), 1, "{failures:#?}");
    assert!(failures[0]["hint"].as_str().unwrap().contains("k8sha up"), "{failures:#?}");
    ["step", "on", "said"].map(|key| failures[0][key].as_str().unwrap().to_owned())
}

fn repaired(server: &Server) {
    let again = server.run(&["up", "--json"], &server.endpoints).ok().json();
    assert_eq!(again["verdict"], "done", "{again:#}");
    let settled = server.run(&["up", "--json"], &server.endpoints).ok().json();
    assert_eq!(settled["verdict"], "settled", "{settled:#}");
}

#[test]
fn a_master_switched_off_while_it_joins_is_reported_at_once_and_started_by_the_next_run() {
    let server = Server::start();
    let (report, looks) = up_and_lose(&server, "join/k8s1master3", "pve1/qemu/1103");
    let said = "VM 1103 on pve1 was powered off";
    assert_eq!(failure(&report), ["join/k8s1master3", "k8s1master3", said]);
    // An unreachable node is polled for two minutes.
    assert!(looks < 5, "{looks} looks at a machine that is off");
    assert_eq!(state(&report, "join/k8s1master4"), "done");
    repaired(&server);
}

#[test]
fn a_cluster_is_not_done_while_one_of_its_balancers_is_off() {
    let server = Server::start();
    let (report, _) = up_and_lose(&server, "join/k8s1master3", "pve2/qemu/1012");
    let said = "VM 1012 on pve2 was powered off";
    assert_eq!(failure(&report), ["verify", "k8s1vrrp2", said]);
    assert_eq!(state(&report, "join/k8s1master6"), "done");
    repaired(&server);
}
