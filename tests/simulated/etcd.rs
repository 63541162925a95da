//! k8sha's own etcd: created, used, lost, restored.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::thread;

use crate::standing::Server;
use crate::world::{Ran, World, events, k8sha};
use k8sha_simulator::inspect;
use serde_json::Value;
use tempfile::TempDir;

/// The number of points of a run at which it is killed.
const POINTS: usize = 10;

/// `k8s1-etcd` with three of its six etcd machines and two of its six masters.
fn small() -> (TempDir, String) {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/profiles/k8s1-etcd.yaml");
    let text = fs::read_to_string(source).unwrap();
    let left_out = ["etcd2,", "etcd3,", "etcd5,", "master3,", "master4,", "master5,", "master6,"];
    let rows = text.lines().filter(|line| {
        !line.starts_with("  - {") || !left_out.iter().any(|name| line.contains(name))
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.yaml");
    fs::write(&path, rows.map(|row| format!("{row}\n")).collect::<String>()).unwrap();
    (folder, path.to_str().unwrap().to_owned())
}

fn results(report: &Value, wanted: &str) -> usize {
    let nodes = report["nodes"].as_array().unwrap();
    nodes.iter().filter(|node| node["result"].as_str().unwrap().contains(wanted)).count()
}

/// Where the operator's keys of etcd are.
fn keys(world: &World) -> PathBuf {
    world.path().join("operator/k8s1-etcd/etcd")
}

fn healthy(world: &World) -> Value {
    let status = world.run(&["status", "--json"]).ok().json();
    assert_eq!(status["healthy"], true, "{status:#}");
    status
}

#[test]
fn six_machines_are_created_formed_and_used_and_removed_with_their_keys() {
    let world = World::of("k8s1-etcd");
    world.run(&["plan", "--quiet"]).ok();
    let bare = world.digest();
    let ran = world.run(&["up", "--json"]).ok();
    let report = ran.json();
    assert_eq!(report["verdict"], "done", "{report:#}");
    assert_eq!((results(&report, "etcd member"), results(&report, "control plane")), (6, 6));
    let status = healthy(&world);
    let nodes = status["nodes"].as_array().unwrap();
    assert_eq!(nodes.iter().filter(|node| node["etcd"] == "etcd healthy").count(), 6);

    let before = world.writes().len();
    let again = world.run(&["up", "--json"]).ok().json();
    assert_eq!(again["verdict"], "settled", "{again:#}");
    assert_eq!(world.writes().len(), before);

    let secrets = inspect::secrets(&inspect::open(&world.path()).unwrap());
    let authority = fs::read_to_string(keys(&world).join("ca.pem")).unwrap();
    let key: Vec<&str> = authority.lines().filter(|line| line.len() == 64).collect();
    assert!(!key.is_empty());
    for secret in secrets.iter().map(String::as_str) {
        assert!(!ran.stdout.contains(secret) && !ran.stderr.contains(secret));
    }
    let mode = fs::metadata(keys(&world).join("ca.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    world.run(&["destroy", "--yes", "--quiet"]).ok();
    assert!(!keys(&world).exists());
    assert_eq!(world.digest(), bare);
}

#[test]
fn the_ca_key_is_on_no_machine() {
    let (_folder, profile) = small();
    let world = World::of(&profile).made();
    let pem = fs::read_to_string(keys(&world).join("ca.pem")).unwrap();
    let key = pem.split("PRIVATE KEY-----").nth(1).unwrap().lines().nth(1).unwrap().to_owned();
    let server = fs::read_to_string(keys(&world).join("server-k8s1etcd1.pem")).unwrap();
    let planted = server.split("PRIVATE KEY-----").nth(1).unwrap().lines().nth(1).unwrap();
    let secrets = inspect::secrets(&inspect::open(&world.path()).unwrap());
    assert!(secrets.contains(planted), "the members' keys are there");
    assert!(!secrets.contains(&key));
}

#[test]
fn a_rebuild_starts_with_a_new_ca() {
    let (_folder, profile) = small();
    let world = World::of(&profile).made();
    let before = fs::read_to_string(keys(&world).join("ca.pem")).unwrap();
    let report = world.run(&["rebuild", "--yes", "--json"]).ok().json();
    assert_eq!(results(&report, "etcd member"), 3, "{report:#}");
    assert_ne!(fs::read_to_string(keys(&world).join("ca.pem")).unwrap(), before);
    healthy(&world);
}

#[test]
fn a_dead_member_is_named_and_the_next_run_continues() {
    let (_folder, profile) = small();
    let world = World::of(&profile);
    let ran = world.run(&["up", "--json", "--inject", "etcd-member-down@10.103.1.203"]);
    assert_eq!(ran.code, 5, "{ran:#?}");
    let report = ran.json();
    let failure = &report["failures"][0];
    assert_eq!(
        (failure["step"].as_str(), report["failures"].as_array().unwrap().len()),
        (Some("etcd-form"), 1)
    );
    assert_eq!(
        failure["said"],
        "etcd on `k8s1etcd6` is activating; the end of its journal:\nStarting etcd...\npanic: failed to \
         open WAL: read: input/output error"
    );
    world.run(&["up", "--quiet"]).ok();
    healthy(&world);
}

#[test]
fn a_renewed_certificate_reaches_members_and_masters() {
    let (_folder, profile) = small();
    let world = World::of(&profile).made();
    // A certificate for an unknown node is created again, and so is one that expires within a month.
    for name in ["server-k8s1etcd4.for", "apiserver-etcd-client.for"] {
        fs::write(keys(&world).join(name), "nobody").unwrap();
    }
    let report = world.run(&["up", "--json"]).ok().json();
    let steps = report["steps"].as_array().unwrap().iter();
    let changed: Vec<&str> = steps
        .filter(|step| step["changed"] == true)
        .map(|step| step["step"].as_str().unwrap())
        .collect();
    let wanted = ["etcd-member/k8s1etcd4", "etcd-client/k8s1master1", "etcd-client/k8s1master2"];
    assert_eq!(changed, wanted);
    healthy(&world);
    assert_eq!(world.run(&["up", "--json"]).ok().json()["verdict"], "settled");
}

/// The program against a running simulator.
fn on(server: &Server, profile: &str, args: &[&str]) -> Ran {
    server.run(&[args, &["--profile", profile]].concat(), &server.endpoints)
}

#[test]
fn a_lost_machine_is_created_again_and_takes_its_place() {
    let (_folder, profile) = small();
    let server = Server::with(&["--profile", &profile]);
    let made = on(&server, &profile, &["up", "--json"]).ok().json();
    let api = server.api();
    api.call("POST", "/nodes/pve2/qemu/3201/status/stop", &[]);
    api.call("DELETE", "/nodes/pve2/qemu/3201", &[]);
    let status = on(&server, &profile, &["status", "--json"]);
    assert_eq!(status.code, 1);
    assert_eq!(status.json()["api"]["ready"], true, "two of three are a quorum");

    let report = on(&server, &profile, &["up", "--json"]).ok().json();
    assert_eq!(results(&report, "created, etcd member"), 1, "{report:#}");
    assert_eq!(results(&report, "kept"), made["nodes"].as_array().unwrap().len() - 1);
    let status = on(&server, &profile, &["status", "--json"]).ok().json();
    assert_eq!(status["healthy"], true, "{status:#}");
    assert_eq!(on(&server, &profile, &["up", "--json"]).ok().json()["verdict"], "settled");
}

#[test]
fn a_lost_quorum_is_not_replaced_by_an_empty_etcd() {
    let (_folder, profile) = small();
    let server = Server::with(&["--profile", &profile]);
    on(&server, &profile, &["up", "--quiet"]).ok();
    let api = server.api();
    for vmid in ["3201", "3203"] {
        api.call("POST", &format!("/nodes/pve2/qemu/{vmid}/status/stop"), &[]);
        api.call("DELETE", &format!("/nodes/pve2/qemu/{vmid}"), &[]);
    }
    let there = || on(&server, &profile, &["status", "--json"]).json()["nodes"].clone();
    let before = there();
    for command in ["plan", "provision", "up"] {
        let ran = on(&server, &profile, &[command]);
        assert_eq!(ran.code, 1, "{command}: {ran:#?}");
        for words in [
            "of 3 etcd members, the machines of 2 are lost (k8s1etcd4, k8s1etcd6)",
            "qmrestore",
            "k8sha rebuild",
        ] {
            assert!(ran.stderr.contains(words), "{command}: no `{words}` in {}", ran.stderr);
        }
    }
    assert_eq!(there(), before, "a machine was created although a backup must be restored");
}

/// The state that must not depend on how often a run was killed.
fn end_state(world: &World) -> (Vec<inspect::VmLine>, usize) {
    (world.vms(), healthy(world)["nodes"].as_array().unwrap().len())
}

#[test]
fn a_kill_at_any_point_and_a_second_run_end_where_one_run_ends() {
    let (_folder, profile) = small();
    let whole = World::of(&profile);
    let ran = whole.run(&["up", "--json"]).ok();
    let (total, wanted) = (events(&ran), end_state(&whole));
    assert!(total > 2 * POINTS, "too few events to spread over: {total}");
    let try_points = |points: Vec<usize>| {
        for point in points {
            let world = World::of(&profile);
            let after = 1 + total * point / (POINTS + 1);
            world.kill_after(&["up"], after);
            let ran = world.run(&["up", "--json"]);
            assert_eq!(ran.code, 0, "killed after {after} of {total} events: {ran:#?}");
            assert_eq!(end_state(&world), wanted, "killed after {after} of {total} events");
        }
    };
    // Two at a time: each waits for its simulated world most of the time.
    thread::scope(|scope| {
        scope.spawn(|| try_points((1..=POINTS).filter(|point| point % 2 == 1).collect()));
        try_points((1..=POINTS).filter(|point| point % 2 == 0).collect());
    });
}

#[test]
fn a_members_documents_have_no_kubeadm_configuration() {
    let ran = k8sha(&["render", "k8s1etcd1", "--quiet", "--profile", "k8s1-etcd"]).ok();
    for part in ["ETCD_NAME=k8s1etcd1", "etcd.service", "10.103.1.101/24"] {
        assert!(ran.stdout.contains(part), "no {part} in {}", ran.stdout);
    }
    assert!(!ran.stdout.contains("kubeadm"), "{}", ran.stdout);
}
