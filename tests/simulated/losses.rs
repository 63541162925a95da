//! Machines that go while the cluster is being made.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use serde_json::Value;

use crate::standing::Server;

#[test]
fn a_master_that_is_switched_off_while_it_joins_is_told_at_once_and_started_by_the_next_run() {
    let server = Server::start();
    let mut child = server
        .command(&["up", "--json"], &server.endpoints)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut events = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let joins = r#""event":"started","step":"join/k8s1master3""#;
    let mut before = Vec::new();
    while before.last().is_none_or(|event: &String| !event.contains(joins)) {
        before.push(events.next().unwrap_or_else(|| panic!("it never joins: {before:#?}")));
    }
    server.api().call("POST", "/nodes/pve1/qemu/1103/status/stop", &[]);
    let away = events.filter(|event| event.contains("cannot see")).count();
    let mut report = String::new();
    child.stdout.take().unwrap().read_to_string(&mut report).unwrap();
    assert!(!child.wait().unwrap().success());
    let report: Value = serde_json::from_str(&report).unwrap();
    let failures = report["failures"].as_array().unwrap();
    assert_eq!(failures.len(), 1, "{failures:#?}");
    assert_eq!(failures[0]["step"], "join/k8s1master3");
    assert_eq!(failures[0]["said"], "VM 1103 on pve1 was switched off meanwhile");
    assert!(failures[0]["hint"].as_str().unwrap().contains("k8sha up"));
    // A network that is away gets two minutes of looks.
    assert!(away < 5, "looked {away} times for a machine that is off");
    let state = |step: &str| {
        let steps = report["steps"].as_array().unwrap();
        steps.iter().find(|seen| seen["step"] == step).unwrap()["state"].clone()
    };
    assert_eq!(state("join/k8s1master4"), "done");

    let again = server.run(&["up", "--json"], &server.endpoints).ok().json();
    assert_eq!(again["verdict"], "done", "{again:#}");
    let settled = server.run(&["up", "--json"], &server.endpoints).ok().json();
    assert_eq!(settled["verdict"], "settled", "{settled:#}");
}
