//! A cluster of real machines from its creation to the clean-up after a killed run.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::site::{Site, asked, k8sha, labs, until};

const MACHINES: [&str; 4] = ["1011", "1012", "1101", "1201"];
const VIP: &str = "10.101.1.10";

/// What must not change over a restart: the machine's identity, its host keys, and when each of
/// cloud-init's modules ran.
fn lasting(site: &Site, machine: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let key = "etc/ssh/ssh_host_ed25519_key.pub";
    for path in ["etc/machine-id", key] {
        found.insert(path.to_owned(), fs::read_to_string(site.disk(machine, path)).unwrap());
    }
    let instances = site.disk(machine, "var/lib/cloud/instances");
    let instance = fs::read_dir(instances).unwrap().next().unwrap().unwrap().path();
    for entry in fs::read_dir(instance.join("sem")).unwrap().map(|entry| entry.unwrap()) {
        let name = entry.file_name().into_string().unwrap();
        found.insert(name, fs::read_to_string(entry.path()).unwrap());
    }
    assert!(found.len() > 10, "{found:?}");
    found
}

#[test]
#[ignore = "real tier"]
fn real_machines_form_a_cluster_behave_as_vms_and_leave_nothing_behind() {
    if !asked("real_machines_form_a_cluster_behave_as_vms_and_leave_nothing_behind") {
        return;
    }
    let site = Site::start();
    let report = site.run(&["up", "--json"]).ok().json();
    assert_eq!(report["verdict"], "done", "{report:#}");
    let steps = report["steps"].as_array().unwrap();
    let asked_inside = steps.iter().filter(|step| {
        step["step"].as_str().unwrap().starts_with("node-dns/") && step["state"] == "done"
    });
    assert_eq!(asked_inside.count(), MACHINES.len(), "{report:#}");
    assert_eq!(site.holders(&MACHINES, VIP).len(), 1);
    assert!(site.api_answers());

    // A second run finds everything as wanted.
    let again = site.run(&["up", "--json"]).ok().json();
    let changed = |report: &serde_json::Value| {
        let steps = report["steps"].as_array().unwrap().clone();
        steps.iter().any(|step| step["changed"] == true)
    };
    assert!(!changed(&again), "{again:#}");

    // The guest agent's answer is that of the machine's kernel.
    let agent = site.api("GET", "/nodes/pve1/qemu/1101/agent/network-get-interfaces");
    assert!(agent.to_string().contains("10.101.1.101"), "{agent:#}");

    // The API keeps answering while a master and the balancer that holds the VIP are gone without
    // warning.
    let holder = site.holders(&MACHINES, VIP).remove(0);
    let host = |machine: &str| if ["1011", "1101"].contains(&machine) { "pve1" } else { "pve2" };
    let before = lasting(&site, "1201");
    for machine in ["1201", holder.as_str()] {
        site.order("POST", &format!("/nodes/{}/qemu/{machine}/status/stop", host(machine)));
    }
    // Proxmox VE is not asked about it: it happens all the same, and a machine without power has no
    // address.
    until("both are off", || !site.is_plugged("1201") && !site.is_plugged(&holder));
    until("the other balancer takes the VIP over", || site.api_answers());
    let now = site.holders(&MACHINES, VIP);
    assert!(now.len() == 1 && now[0] != holder, "{now:?}");

    // They come back unchanged: a second boot does nothing twice.
    for machine in ["1201", holder.as_str()] {
        site.api("POST", &format!("/nodes/{}/qemu/{machine}/status/start", host(machine)));
    }
    // The run waits while they boot; after that nothing is left to do.
    site.run(&["up", "--json"]).ok();
    let back = site.run(&["up", "--json"]).ok().json();
    assert_eq!(back["verdict"], "settled", "{back:#}");
    assert_eq!(lasting(&site, "1201"), before);
    assert_eq!(site.holders(&MACHINES, VIP).len(), 1);

    // A machine that is asked to shut down does so.
    site.api("POST", "/nodes/pve2/qemu/1201/status/shutdown");
    let current = site.api("GET", "/nodes/pve2/qemu/1201/status/current");
    assert_eq!(current["status"], "stopped");
    // And a destroyed one leaves no disk.
    site.api("DELETE", "/nodes/pve2/qemu/1201");
    until("its disk is gone", || !site.disk("1201", "").exists());

    // A killed simulator cannot clean up; the next one can.
    let id = site.kill();
    assert!(labs().contains(&id));
    let cleaned = k8sha(&["clean"]).ok();
    assert!(cleaned.stdout.contains(&id), "{cleaned:?}");
    assert!(!labs().contains(&id));
    assert!(!Path::new(&format!("/var/tmp/k8sha-lab-{id}")).exists());
    assert!(!Path::new(&format!("/run/netns/k8sha-{id}")).exists());
    assert!(!Path::new(&format!("/run/netns/k8sha-{id}-1101-site")).exists());
    assert_eq!(running(&id), Vec::<String>::new());
}

/// The command lines of processes that name a lab.
fn running(id: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines = processes.filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.contains(id)).collect()
}
