//! `k8sha doctor`: prints nothing if no problems are found, and each finding otherwise.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::golden::assert_golden;
use crate::standing::{Server, variant};
use crate::world::{Ran, World, k8sha, redact};

/// Compares the findings with `tests/golden/doctor/NAME.txt`.
fn golden(name: &str, ran: &Ran, world: &std::path::Path, urls: &[&Value]) {
    let mut text = ran.stdout.clone();
    for url in urls {
        text = text.replace(url.as_str().unwrap(), "https://127.0.0.1:PORT");
    }
    // The date of an answer has whole seconds, and a loaded machine reads it late.
    let late = (50..60).map(|second| format!("about {second} s"));
    let text = late.fold(text, |text, late| text.replace(&late, "about 60 s"));
    let text = format!("exit {}\n{}", ran.code, redact(&text, world));
    assert_golden(&format!("doctor/{name}.txt"), &text);
}

/// The findings in a world with a fault.
fn injected(name: &str, faults: &[&str]) {
    let world = World::new();
    let mut args = vec!["doctor"];
    args.extend(faults.iter().flat_map(|fault| ["--inject", fault]));
    golden(name, &world.run(&args), &world.path(), &[]);
}

/// The findings on a running site, for a shipped profile with some of its text replaced.
fn examined(name: &str, server: &Server, changes: &[(&str, &str)]) -> Ran {
    let profile = variant(server.folder.path(), "k8s1", changes);
    let ran = server.run(&["doctor", "--profile", &profile], &server.endpoints);
    let hosts = server.endpoints["hosts"].as_object().unwrap();
    let urls: Vec<&Value> = hosts.values().map(|host| &host["url"]).collect();
    golden(name, &ran, server.folder.path(), &urls);
    ran
}

#[test]
fn a_healthy_world_has_no_findings() {
    for args in [&["--topology", "cluster"], &["--topology", "standalone"]] {
        for profile in ["k8s1", "homelab"] {
            let world = World::of(profile);
            let began = Instant::now();
            let ran = world.run(&[&["doctor"], args.as_slice()].concat()).ok();
            assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
            assert_eq!(ran.stdout, "");
            assert!(world.writes().is_empty(), "{:#?}", world.writes());
            assert!(!world.requests().is_empty());
            let json = world.run(&[&["doctor", "--json"], args.as_slice()].concat()).ok().json();
            assert_eq!(json["findings"], Value::Array(Vec::new()));
        }
    }
}

#[test]
fn existing_vms_are_not_findings_either() {
    let world = World::of("homelab");
    world.run(&["provision", "--json"]).ok();
    assert_eq!(world.run(&["doctor"]).ok().stdout, "");
}

#[test]
fn a_lost_quorum_is_found() {
    injected("no-quorum", &["no-quorum@pve1"]);
}

#[test]
fn wrong_and_silent_name_servers_are_found() {
    injected("dns", &["dns-stale@10.101.1.2", "dns-silent@10.101.1.3"]);
}

#[test]
fn a_wrong_clock_is_found() {
    injected("clock", &["clock-ahead@pve2"]);
}

#[test]
fn an_etcd_member_that_does_not_answer_is_a_note() {
    injected("etcd-member", &["etcd-member-down@10.103.1.203"]);
}

#[test]
fn a_full_storage_is_found() {
    injected("disk-full", &["disk-full@pve2"]);
}

#[test]
fn a_host_that_is_switched_off_is_found_with_the_lost_quorum() {
    injected("host-down", &["host-down@pve2"]);
}

#[test]
fn a_certificate_that_has_expired_is_found() {
    injected("certificate-expired", &["certificate-expired@pve1"]);
}

#[test]
fn bad_etcd_files_are_found() {
    for file in ["ca", "cert", "key"] {
        injected(&format!("etcd-file-broken-{file}"), &[&format!("etcd-file-broken@{file}")]);
    }
    injected("etcd-cert-expired", &["etcd-cert-expired@cert"]);
}

#[test]
fn locked_vms_and_templates_are_found_and_block_a_run() {
    let world = World::of("homelab").after(&["provision", "--pve", "pve1", "--quiet"]);
    let vm = world.vms().into_iter().find(|vm| !vm.template).unwrap();
    let locked = format!("vm-locked@{}", vm.name);
    let ran = world.run(&["doctor", "--inject", &locked]);
    golden("vm-locked", &ran, &world.path(), &[]);
    let template = world.vms().into_iter().find(|vm| vm.template).unwrap();
    let ran = world.run(&["doctor", "--inject", &format!("vm-locked@{}", template.vmid)]);
    golden("template-locked", &ran, &world.path(), &[]);

    let before = world.writes().len();
    let ran = world.run(&["up", "--inject", &locked]);
    assert_eq!(ran.code, 1, "{ran:#?}");
    assert_eq!(world.writes().len(), before, "nothing was written");
    let at = ran.stderr.find("error: ").unwrap();
    assert_golden("faults/vm-locked.txt", &redact(&ran.stderr[at..], &world.path()));
    world.run(&["provision", "--pve", "pve1", "--quiet"]).ok();
}

#[test]
fn storages_without_the_needed_content_types_are_found() {
    let server = Server::start();
    let api = server.api();
    api.call("PUT", "/storage/local", &[("content", "vztmpl,iso")]);
    examined("storage-content", &server, &[]);
    api.call("PUT", "/storage/local", &[("content", "vztmpl,iso,import"), ("disable", "1")]);
    examined("storage-disabled", &server, &[]);
}

#[test]
fn objects_of_the_profile_that_a_host_lacks_are_found() {
    let server = Server::start();
    examined("storage-unknown", &server, &[("storage: local-lvm", "storage: tank")]);
    examined("bridge-unknown", &server, &[("bridge: vmbr0", "bridge: vmbr1")]);
    examined("bridge-vlan", &server, &[("bridge: vmbr0", "bridge: vmbr0\n  vlan: 5")]);
}

#[test]
fn insufficient_space_is_found() {
    let server = Server::start();
    examined("memory", &server, &[("ram: 4G", "ram: 40G")]);
    examined("memory-tight", &server, &[("ram: 4G", "ram: 19G")]);
    examined(
        "storage-full",
        &server,
        &[("clone: linked", "clone: full"), ("disk: 20G", "disk: 300G")],
    );
    examined("storage-overcommitted", &server, &[("disk: 20G", "disk: 300G")]);
}

#[test]
fn foreign_objects_on_the_profiles_vmids_are_found() {
    let server = Server::start();
    let api = server.api();
    let make = |host: &str, form: &[(&str, &str)]| {
        api.call("POST", &format!("/nodes/{host}/qemu"), form);
    };
    make("pve1", &[("vmid", "1101"), ("name", "db"), ("memory", "2048")]);
    make("pve2", &[("vmid", "1102"), ("name", "mail"), ("memory", "2048")]);
    make("pve1", &[("vmid", "9001"), ("name", "golden"), ("memory", "2048")]);
    examined("foreign", &server, &[]);
}

#[test]
fn addresses_used_by_other_machines_are_found() {
    let server = Server::start();
    let wanted = [("vmid", "500"), ("name", "old"), ("ipconfig0", "ip=10.101.1.101/24")];
    server.api().call("POST", "/nodes/pve1/qemu", &wanted);
    server.run(&["provision", "--pve", "pve2", "--json"], &server.endpoints).ok();
    // The same addresses for VMs that do not exist: those that answer belong to other machines.
    let ran = examined("addresses", &server, &[("vmid: 12", "vmid: 22")]);
    assert!(ran.stdout.contains("10.101.1.201 is in use"), "{}", ran.stdout);
}

#[test]
fn an_unreachable_host_is_found_beside_the_others() {
    let server = Server::start();
    let mut endpoints = server.endpoints.clone();
    let hosts = &mut endpoints["hosts"];
    hosts["pve1"]["token"] = Value::from("k8sha@pve!k8sha=00000000-0000-4000-8000-000000000000");
    // Nothing listens on that port.
    hosts["pve2"]["url"] = Value::from("https://127.0.0.1:1");
    let ran = server.run(&["doctor"], &endpoints);
    golden("unreachable", &ran, server.folder.path(), &[&server.endpoints["hosts"]["pve1"]["url"]]);
}

#[test]
fn a_host_without_a_pin_is_found_with_the_certificate_that_it_presents() {
    let server = Server::start();
    let url = |host: &str| server.endpoints["hosts"][host]["url"].as_str().unwrap();
    let changes = [
        ("https://pve1.kloud.lan:8006", url("pve1")),
        ("https://pve2.kloud.lan:8006", url("pve2")),
    ];
    let profile = variant(server.folder.path(), "k8s1", &changes);
    let ran = k8sha_with_token(&["doctor", "--json", "--profile", &profile]);
    assert_eq!(ran.code, 1, "{ran:#?}");
    let seen = server.endpoints["hosts"]["pve1"]["fingerprint"].as_str().unwrap();
    assert!(ran.stdout.contains(seen) && ran.stdout.contains("pvenode cert info"), "{ran:#?}");
}

fn k8sha_with_token(args: &[&str]) -> Ran {
    let home = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_k8sha"));
    command.args(args).env("HOME", home.path()).env_remove("XDG_STATE_HOME");
    command.env("K8SHA_PVE_TOKEN", "k8sha@pve!k8sha=00000000-0000-4000-8000-000000000000");
    let output = command.output().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn a_state_folder_that_cannot_be_written_is_found() {
    let ran = k8sha(&["doctor", "--simulate", "--state", "/dev/null/state"]);
    golden("state-folder", &ran, std::path::Path::new("/dev/null/state"), &[]);
}
