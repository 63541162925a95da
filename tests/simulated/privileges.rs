//! The smallest role: enough for a cluster's whole life, with every single privilege needed, and named
//! if it is missing.

use k8sha::proxmox::rights::PRIVILEGES;
use serde_json::Value;

use crate::standing::{Api, Server, variant};
use crate::world::Ran;

/// The README's commands that create the user, the role and the token, for another user than the one
/// that every simulated Proxmox VE already has.
fn readme() -> Vec<String> {
    let text = include_str!("../../README.md");
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("# "));
    let ours = |line: &&str| line.starts_with("pveum ") && !line.contains("k8sha-eyes");
    lines.filter(ours).map(|line| line.replace("k8sha@pve", "least@pve")).collect()
}

/// Creates the README's token, with its role without the privileges of `without`.
pub fn token(api: &Api, without: &[&str]) -> String {
    let mut secret = None;
    for line in readme() {
        let kept: Vec<&str> =
            PRIVILEGES.iter().copied().filter(|name| !without.contains(name)).collect();
        let line = line.replace(&PRIVILEGES.join(" "), &kept.join(" "));
        let made = api.pveum(&line);
        if let Some(value) = made["value"].as_str() {
            secret = Some(format!("{}={value}", made["full-tokenid"].as_str().unwrap()));
        }
    }
    secret.unwrap()
}

fn all(ran: &Ran) -> String {
    format!("{}\n{}", ran.stdout, ran.stderr)
}

/// Where a privilege is needed.
fn path(privilege: &str) -> &'static str {
    match privilege.split('.').next().unwrap() {
        "SDN" => "/sdn/zones/localnetwork/vmbr0",
        "Sys" => "/nodes/pve1",
        "Datastore" => "/storage/",
        _ => "/vms",
    }
}

#[test]
fn the_readme_has_exactly_the_role_that_the_program_needs() {
    let role = format!("pveum role add k8sha --privs \"{}\"", PRIVILEGES.join(" "));
    assert!(readme().contains(&role), "{:#?}", readme());
}

#[test]
fn the_smallest_role_is_enough_from_the_first_template_to_the_last_file() {
    let server = Server::start();
    let endpoints = server.endpoints_with(&token(&server.api(), &[]));
    let doctor = server.run(&["doctor", "--json"], &endpoints).ok().json();
    let findings = doctor["findings"].as_array().unwrap();
    assert!(findings.iter().all(|finding| finding["severity"] == "note"), "{doctor:#}");
    let up = server.run(&["up", "--json"], &endpoints).ok().json();
    assert_eq!(up["verdict"], "done");
    server.run(&["destroy", "--yes", "--json"], &endpoints).ok();
    let vms = server.api().call("GET", "/nodes/pve1/qemu", &[]);
    assert_eq!(vms.as_array().map(Vec::len), Some(0), "{vms:#}");
}

/// With one privilege missing, `doctor` names it before the run, the run names it, and the commands
/// that both print fix it.
fn is_named_where_it_is_missing(privilege: &str) {
    let server = Server::with(&["--profile", "homelab"]);
    let api = server.api();
    let endpoints = server.endpoints_with(&token(&api, &[privilege]));
    let homelab =
        |args: &[&str]| server.run(&[args, &["--profile", "homelab"]].concat(), &endpoints);

    let findings = |ran: &Ran| -> Vec<Value> {
        let found = ran.json()["findings"].as_array().unwrap().clone();
        let about = format!("lacks {privilege} on {}", path(privilege));
        found.into_iter().filter(|one| one["what"].as_str().unwrap().contains(&about)).collect()
    };
    let doctor = homelab(&["doctor", "--json"]);
    assert_eq!(doctor.code, 1, "{doctor:#?}");
    let named = findings(&doctor);
    assert!(!named.is_empty(), "{privilege}: {doctor:#?}");

    let mut ran = homelab(&["provision", "--pve", "pve1", "--json"]);
    if privilege == "Datastore.Allocate" {
        ran = homelab(&["destroy", "--yes", "--json"]);
    }
    assert_ne!(ran.code, 0, "{privilege} is not needed");
    let text = all(&ran).replace("\\\"", "\"");
    let role = format!("pveum role modify k8sha --append 1 --privs \"{privilege}\"");
    let grant = format!("pveum acl modify {}", path(privilege));
    for word in [privilege, &role, &grant] {
        assert!(text.contains(word), "{privilege}: no `{word}` in {ran:#?}");
    }

    for finding in named {
        let fix = finding["fix"].as_array().unwrap();
        for line in fix.iter().filter_map(Value::as_str).filter(|line| line.starts_with("pveum ")) {
            api.pveum(line);
        }
    }
    let doctor = homelab(&["doctor", "--json"]);
    assert!(findings(&doctor).is_empty(), "{privilege}: {doctor:#?}");
}

#[test]
fn with_a_vlan_the_privilege_on_its_tag_is_named_and_sufficient() {
    let folder = tempfile::tempdir().unwrap();
    let vlan = [("bridge: vmbr0", "bridge: vmbr0\n  vlan: 5")];
    let profile = variant(folder.path(), "homelab", &vlan);
    let server = Server::with(&["--profile", &profile]);
    let api = server.api();
    let endpoints = server.endpoints_with(&token(&api, &["SDN.Use"]));
    let mine = |args: &[&str]| server.run(&[args, &["--profile", &profile]].concat(), &endpoints);
    let path = "/sdn/zones/localnetwork/vmbr0/5";

    let doctor = mine(&["doctor", "--json"]);
    let lacks = format!("lacks SDN.Use on {path}");
    assert!(all(&doctor).contains(&lacks), "{doctor:#?}");
    let ran = mine(&["provision", "--pve", "pve1", "--json"]);
    assert_eq!(ran.code, 3, "{ran:#?}");
    assert!(all(&ran).contains(&format!("pveum acl modify {path} ")), "{ran:#?}");

    // The tag alone, by a separate role: the rest of the bridge is not for k8sha.
    api.pveum("pveum role add vlan5 --privs \"SDN.Use\"");
    api.pveum(&format!("pveum acl modify {path} --users least@pve --roles vlan5"));
    assert!(!all(&mine(&["doctor", "--json"])).contains(&lacks));
    mine(&["provision", "--pve", "pve1", "--json"]).ok();
    let bridge = [("bridge: vmbr0", "bridge: vmbr0")];
    let untagged = variant(folder.path(), "homelab", &bridge);
    let doctor = server.run(&["doctor", "--json", "--profile", &untagged], &endpoints);
    let lacks = "lacks SDN.Use on /sdn/zones/localnetwork/vmbr0:";
    let found = all(&doctor).replace('"', ":");
    assert!(found.contains(lacks), "{doctor:#?}");
}

#[test]
fn each_missing_privilege_on_vms_is_named() {
    for privilege in PRIVILEGES.iter().filter(|name| name.starts_with("VM.")) {
        is_named_where_it_is_missing(privilege);
    }
}

#[test]
fn each_other_missing_privilege_is_named() {
    for privilege in PRIVILEGES.iter().filter(|name| !name.starts_with("VM.")) {
        is_named_where_it_is_missing(privilege);
    }
}

#[test]
fn an_invisible_cluster_is_not_reported_as_a_standalone_host() {
    let server = Server::start();
    let endpoints = server.endpoints_with(&token(&server.api(), &[]));
    let plan = server.run(&["plan"], &endpoints).ok().stdout;
    let told = "on a Proxmox VE cluster (pve1, pve2) whose name and quorum are not visible \
                (Sys.Audit on /)";
    assert!(plan.lines().next().unwrap().ends_with(told), "{plan}");
}
