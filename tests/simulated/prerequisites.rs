//! Missing objects on a host are found before anything is changed, and objects that the account may not
//! see are not taken as absent.

use crate::golden::assert_golden;
use crate::standing::{Server, variant};
use crate::world::{Ran, World, k8sha, redact, requests};
use serde_json::Value;

fn writes(server: &Server) -> Vec<Value> {
    let all = requests(&server.site()).into_iter();
    all.filter(|request| request["method"] != "GET").collect()
}

/// Runs a command for k8s1 with some of its text replaced, on an empty site.
fn run(server: &Server, args: &[&str], endpoints: &Value, changes: &[(&str, &str)]) -> Ran {
    let profile = variant(server.folder.path(), "k8s1", changes);
    server.run(&[args, &["--profile", &profile]].concat(), endpoints)
}

#[test]
fn missing_objects_on_a_host_stop_a_run_before_anything_is_changed() {
    let server = Server::start();
    for (name, changes) in [
        ("pool", ("  clone: linked", "  pool: k8s\n  clone: linked")),
        ("cpu-type", ("cpu: x86-64-v2-AES", "cpu: EPYC-Milano")),
        ("cpu-flags", ("cpu: x86-64-v2-AES", "cpu: x86-64-v4")),
        (
            "vcpu",
            ("ram: 4G, vcpu: 2, disk: 20G, pve: pve2", "ram: 4G, vcpu: 32, disk: 20G, pve: pve2"),
        ),
    ] {
        let ran = run(&server, &["up"], &server.endpoints, &[changes]);
        assert_eq!(ran.code, 3, "{name}: {ran:#?}");
        assert_eq!(writes(&server), Vec::<Value>::new(), "{name}");
        let start = ran.stderr.find("error: ").unwrap_or_else(|| panic!("{ran:#?}"));
        let text = format!("exit {}\n{}", ran.code, &ran.stderr[start..]);
        assert_golden(&format!("refused/{name}.txt"), &redact(&text, server.folder.path()));
    }
}

#[test]
fn doctor_finds_the_same() {
    let server = Server::start();
    let changes = [
        ("  clone: linked", "  pool: k8s\n  clone: linked"),
        ("cpu: x86-64-v2-AES", "cpu: x86-64-v4"),
        ("ram: 4G, vcpu: 2, disk: 20G, pve: pve2", "ram: 4G, vcpu: 32, disk: 20G, pve: pve2"),
    ];
    let ran = run(&server, &["doctor"], &server.endpoints, &changes);
    let text = format!("exit {}\n{}", ran.code, ran.stdout);
    assert_golden("doctor/machines.txt", &redact(&text, server.folder.path()));
}

#[test]
fn an_existing_pool_is_used() {
    let mut world = World::new();
    world.with_profile("pooled", &[("  clone: linked", "  pool: k8s\n  clone: linked")]);
    world.run(&["provision", "--json"]).ok();
    assert_eq!(world.vms().len(), 10);
    // A run without work queries none of it again.
    let before = world.requests().len();
    world.run(&["provision", "--json"]).ok();
    let asked = world.requests().split_off(before);
    let path = |request: &Value| request["path"].as_str().unwrap_or_default().to_owned();
    let needless: Vec<String> = asked
        .iter()
        .map(path)
        .filter(|path| path.contains("pools") || path.contains("capab"))
        .collect();
    assert_eq!(needless, Vec::<String>::new());
}

#[test]
fn invisible_objects_are_reported_once_and_block_nothing() {
    let server = Server::start();
    let api = server.api();
    let role = "Datastore.Allocate Datastore.AllocateSpace Datastore.AllocateTemplate SDN.Use \
                Sys.AccessNetwork VM.Allocate VM.Audit VM.Clone VM.Config.CDROM VM.Config.CPU \
                VM.Config.Disk VM.Config.HWType VM.Config.Memory VM.Config.Network \
                VM.Config.Options VM.PowerMgmt";
    api.pveum("pveum user add ci@pve");
    api.pveum(&format!("pveum role add k8sha --privs '{role}'"));
    api.pveum("pveum acl modify / --users ci@pve --roles k8sha");
    let made = api.pveum("pveum user token add ci@pve one --privsep 0");
    let token = format!("ci@pve!one={}", made["value"].as_str().unwrap());
    let endpoints = server.endpoints_with(&token);
    let changes = [
        ("  clone: linked", "  pool: k8s\n  clone: linked"),
        ("cpu: x86-64-v2-AES", "cpu: custom-node"),
    ];
    let ran = run(&server, &["plan"], &endpoints, &changes).ok();
    for said in
        ["its CPUs are not visible", "the CPU type `custom-node`", "the pool `k8s` is not visible"]
    {
        assert_eq!(ran.stdout.matches(said).count(), 1, "{said}: {}", ran.stdout);
    }
    assert!(ran.stdout.contains("pve1, pve2: its CPUs"), "{}", ran.stdout);
}

#[test]
fn a_fault_with_an_unknown_target_is_refused_with_the_known_ones() {
    let ran = k8sha(&[
        "plan",
        "--simulate",
        "--inject",
        "host-down@pve9",
        "--inject",
        "dns-stale@10.0.0.1",
    ]);
    assert_eq!(ran.code, 2);
    assert_golden("refused/inject.txt", &ran.stderr[ran.stderr.find("error: ").unwrap()..]);
}

#[test]
fn a_wildcard_in_the_domain_is_found_by_dns_and_doctor_and_reported_by_a_run() {
    let world = World::of("homelab");
    let fault = ["--inject", "dns-wildcard@192.168.10.2"];
    let ran = world.run(&[&["dns"], fault.as_slice()].concat()).ok();
    assert!(ran.stdout.contains("there is a wildcard record `*.home.arpa`"), "{}", ran.stdout);
    assert!(ran.stdout.contains("*.home.arpa. IN A 203.0.113.80"), "{}", ran.stdout);
    let ran = world.run(&[&["doctor"], fault.as_slice()].concat()).ok();
    assert_golden("doctor/dns-wildcard.txt", &redact(&ran.stdout, &world.path()));
    let ran = world.run(&[&["up", "-v"], fault.as_slice()].concat()).ok();
    assert!(ran.stderr.contains("there is a wildcard"), "{}", ran.stderr);
    assert_eq!(world.run(&["doctor"]).ok().stdout, "");
}
