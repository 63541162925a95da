//! Bad input and refused requests: each error as a user reads it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use crate::golden::assert_golden;
use crate::standing::Server;
use crate::world::{World, k8sha, redact};
use serde_json::Value;

fn golden(name: &str, ran: &crate::world::Ran, server: &Server) {
    let start = ran.stderr.find("error: ").unwrap_or_default();
    let text = format!("exit {}\n{}", ran.code, &ran.stderr[start..]);
    assert_golden(&format!("refused/{name}.txt"), &redact(&text, server.folder.path()));
}

#[test]
fn a_standing_simulator_serves_a_whole_run_and_a_killed_one() {
    let server = Server::start();
    let ran = server.run(&["up", "--json"], &server.endpoints).ok();
    assert_eq!(ran.json()["verdict"], "done");
    let again = server.run(&["up", "--json"], &server.endpoints).ok();
    assert_eq!(again.json()["verdict"], "settled");
}

#[test]
fn a_wrong_token_is_named() {
    let server = Server::start();
    let mut endpoints = server.endpoints.clone();
    for host in ["pve1", "pve2"] {
        let wrong = "k8sha@pve!k8sha=00000000-0000-4000-8000-000000000000";
        endpoints["hosts"][host]["token"] = Value::from(wrong);
    }
    let ran = server.run(&["plan"], &endpoints);
    assert!(!ran.stderr.contains("00000000-0000"), "{}", ran.stderr);
    golden("wrong-token", &ran, &server);
}

#[test]
fn a_wrong_fingerprint_is_named_and_nothing_is_sent() {
    let server = Server::start();
    let mut endpoints = server.endpoints.clone();
    endpoints["hosts"]["pve1"]["fingerprint"] = Value::from(["AB"; 32].join(":"));
    let ran = server.run(&["plan"], &endpoints);
    let seen = server.endpoints["hosts"]["pve1"]["fingerprint"].as_str().unwrap();
    assert!(ran.stderr.contains(seen), "{}", ran.stderr);
    let shown = crate::world::Ran { stderr: ran.stderr.replace(seen, "SEEN"), ..ran };
    golden("wrong-fingerprint", &shown, &server);
}

#[test]
fn a_real_host_without_a_pin_is_refused() {
    let ran = k8sha(&["plan"]);
    assert_eq!(ran.code, 2);
    let at = ran.stderr.find("error: ").unwrap();
    assert_golden("refused/no-pin.txt", &ran.stderr[at..]);
}

#[test]
fn a_real_host_without_a_token_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let profile = folder.path().join("mine.yaml");
    let pin = format!("      fingerprint: {}\n      storage: local-lvm\n", ["AB"; 32].join(":"));
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/profiles/k8s1.yaml"));
    let text = text.unwrap().replace("      storage: local-lvm\n", &pin);
    fs::write(&profile, text).unwrap();
    let ran = k8sha(&["plan", "--profile", profile.to_str().unwrap()]);
    assert_eq!(ran.code, 2);
    let at = ran.stderr.find("error: ").unwrap();
    assert_golden("refused/no-token.txt", &ran.stderr[at..]);
}

#[test]
fn two_runs_at_once_are_refused() {
    let world = World::new();
    let state = world.path().join("operator/k8s1-cluster");
    fs::create_dir_all(&state).unwrap();
    let lock = fs::File::create(state.join("lock")).unwrap();
    lock.lock().unwrap();
    let ran = world.run(&["up"]);
    assert_eq!(ran.code, 7, "{ran:#?}");
    assert!(ran.stderr.contains("another k8sha"), "{}", ran.stderr);
    assert!(world.writes().is_empty());
}

#[test]
fn two_runs_in_one_world_are_refused_until_the_first_is_killed() {
    let world = World::new();
    world.run(&["plan", "--quiet"]).ok();
    let before = world.digest();
    // It waits for a host that does not answer.
    let mut first = world
        .command(&["plan", "--inject", "host-down@pve2"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(first.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("waiting for its")), "it does not wait");
    for command in ["plan", "up", "status"] {
        let ran = world.run(&[command]);
        assert_eq!(ran.code, 7, "{command}: {ran:#?}");
        let folder = world.path().display().to_string();
        for part in [&format!("process {} uses", first.id()), &folder, "--endpoints"] {
            assert!(ran.stderr.contains(part), "no `{part}` in {}", ran.stderr);
        }
    }
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(world.digest(), before);
    world.run(&["plan", "--quiet"]).ok();
}

#[test]
fn a_fault_in_the_real_world_is_refused() {
    let ran = k8sha(&["plan", "--profile", "k8s1", "--inject", "ssh-late@m1"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("real world"), "{}", ran.stderr);
}

#[test]
fn an_unknown_fault_lists_the_known_ones() {
    let ran = k8sha(&["plan", "--simulate", "--inject", "gremlins@pve1"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("gremlins") && ran.stderr.contains("ssh-late"), "{}", ran.stderr);
}

/// The text that a user reads of a refusal, from the error on.
fn refusal(name: &str, world: &World, ran: &crate::world::Ran) {
    let at = ran.stderr.find("error: ").unwrap_or_else(|| panic!("{ran:#?}"));
    let text = format!("exit {}\n{}", ran.code, &ran.stderr[at..]);
    let folder = world.path();
    let text = redact(&text, folder.parent().unwrap());
    assert_golden(&format!("refused/{name}.txt"), &text);
}

#[test]
fn foreign_vms_on_the_profiles_vmids_stop_the_run_before_anything_is_changed() {
    let mut world = World::new();
    world.with_profile("other.yaml", &[("name: k8s1-cluster", "name: other")]);
    world.run(&["provision", "--pve", "pve1", "--quiet"]).ok();
    let before = world.digest();
    world.with_profile("mine.yaml", &[]);
    let ran = world.run(&["up"]);
    assert_eq!(world.digest(), before, "nothing was written");
    refusal("foreign-vms", &world, &ran);
    let ran = world.run(&["destroy", "--yes", "--quiet"]);
    assert_eq!((ran.code, world.digest()), (0, before), "what is not ours is not destroyed");
}

#[test]
fn a_storage_without_the_needed_content_is_named() {
    let mut world = World::new();
    world.run(&["plan", "--quiet"]).ok();
    world.with_profile("mine.yaml", &[("iso_storage: local", "iso_storage: local-lvm")]);
    let ran = world.run(&["up"]);
    assert!(world.writes().is_empty());
    refusal("storage-content", &world, &ran);
}

#[test]
fn a_missing_storage_and_bridge_are_named() {
    let mut world = World::new();
    world.run(&["plan", "--quiet"]).ok();
    world.with_profile("mine.yaml", &[("      storage: local-lvm", "      storage: nvme")]);
    refusal("no-storage", &world, &world.run(&["up"]));
    world.with_profile("mine.yaml", &[("bridge: vmbr0", "bridge: vmbr7")]);
    refusal("no-bridge", &world, &world.run(&["up"]));
    assert!(world.writes().is_empty());
}

#[test]
fn an_unknown_host_is_named_with_the_known_ones() {
    let mut world = World::new();
    world.run(&["plan", "--quiet"]).ok();
    world.with_profile("mine.yaml", &[("pve2", "pve9")]);
    refusal("unknown-host", &world, &world.run(&["up"]));
}

#[test]
fn a_bootstrap_without_machines_says_what_to_do_first() {
    let world = World::new();
    refusal("nothing-provisioned", &world, &world.run(&["bootstrap"]));
    assert!(world.writes().is_empty());
}
