//! `rebuild` removes nothing that it could not create again, and hints never cost more than necessary.

use std::fs;

use k8sha::cluster::VmId;
use k8sha::proxmox::Params;
use k8sha_simulator::inspect::VmLine;

use crate::living::Living;
use crate::world::{Ran, World};

/// The VMs that are not templates.
fn machines(world: &World) -> Vec<VmLine> {
    world.vms().into_iter().filter(|vm| !vm.template).collect()
}

/// `rebuild` ends with this result, and every machine still exists and runs.
fn refused(living: &Living, more: &[&str], words: &[&str]) {
    let before = machines(&living.world);
    let ran = living.world.run(&[&["rebuild", "--yes"], more].concat());
    assert_ne!(ran.code, 0, "{ran:#?}");
    for word in words {
        assert!(ran.stderr.contains(word), "no `{word}` in {}", ran.stderr);
    }
    assert_eq!(machines(&living.world), before, "a machine was removed or stopped");
    living.unharmed();
}

fn set(living: &Living, vmid: u32, key: &str, value: &str) {
    let params = Params::new().with(key, value);
    living.administer("pve1", async |client| {
        client.set_config(VmId(vmid), &params, &[], None).await.unwrap();
    });
}

fn unset(living: &Living, vmid: u32, key: &str) {
    living.administer("pve1", async |client| {
        client.set_config(VmId(vmid), &Params::new(), &[key], None).await.unwrap();
    });
}

#[test]
fn a_rebuild_that_could_not_recreate_the_cluster_removes_nothing() {
    let mut living = Living::stacked();
    refused(&living, &["--inject", "dns-silent@192.168.10.2"], &["192.168.10.2"]);
    let edits = [
        ("sha256: 91", "sha256: 92", "was created from another image"),
        ("ram: 8G, vcpu: 4", "ram: 8G, vcpu: 999", "cannot start VMs with more"),
        ("proxmox:\n", "proxmox:\n  pool: nowhere\n", "pool `nowhere` does not exist"),
    ];
    for (from, to, words) in edits {
        living.edit(&[(from, to)]);
        refused(&living, &[], &[words]);
    }
    living.edit(&[]);
    // A VM that lost its mark would be kept, and block its row's new machine.
    unset(&living, 3041, "description");
    refused(&living, &[], &["VM 3041 on pve1 is `k8s-master1`, which k8sha did not create"]);
}

#[test]
fn more_cpus_or_memory_than_the_host_has_is_not_written_to_a_running_machine() {
    let mut living = Living::stacked();
    let before = living.world.digest();
    for (size, words) in [
        ("ram: 8G, vcpu: 999", "k8s-worker1 needs 999"),
        ("ram: 999G, vcpu: 4", "k8s-worker1 needs 1022976 MiB"),
    ] {
        let row = "ip: 192.168.10.51, ";
        living.edit(&[(&format!("{row}ram: 8G, vcpu: 4"), &format!("{row}{size}"))]);
        for command in ["plan", "up", "provision"] {
            let ran = living.world.run(&[command]);
            assert_eq!(ran.code, 3, "{command}: {ran:#?}");
            assert!(ran.stderr.contains(words), "{}", ran.stderr);
        }
        assert_eq!(living.world.digest(), before);
    }
}

#[test]
fn a_machine_that_lost_its_mark_gets_no_duplicate_at_its_address() {
    let mut living = Living::stacked();
    unset(&living, 3031, "description");
    let told = living.world.run(&["plan"]);
    assert_eq!(told.code, 1, "{told:#?}");
    for words in ["would create a second machine at", "<!-- k8sha", "node: k8s-lb1", "-->"] {
        assert!(told.stderr.contains(words), "no `{words}` in {}", told.stderr);
    }
    // Another VMID all the same.
    living.edit(&[("pve: pve1, vmid: 3031", "pve: pve1, vmid: 3034")]);
    let before = living.world.digest();
    for command in ["plan", "up", "provision"] {
        let ran = living.world.run(&[command]);
        assert_eq!(ran.code, 1, "{command}: {ran:#?}");
        assert!(ran.stderr.contains("its address 192.168.10.31 is in use"), "{}", ran.stderr);
    }
    assert_eq!(living.world.digest(), before);
    // The command in the message.
    living.edit(&[]);
    let block = told.stderr.split_once("<!-- k8sha").unwrap().1.split_once("-->").unwrap().0;
    let lines: Vec<&str> = block.lines().map(str::trim).collect();
    set(&living, 3031, "description", &format!("<!-- k8sha{}\n-->", lines.join("\n")));
    living.world.run(&["up", "--quiet"]).ok();
    living.settled();
}

#[test]
fn an_etcd_ca_that_is_not_the_clusters_is_installed_nowhere() {
    let world = World::of("k8s1-etcd").made();
    let other = World::of("k8s1-etcd");
    other.run(&["provision", "--quiet"]).ok();
    let folder = |world: &World| world.path().join("operator/k8s1-etcd/etcd");
    let ours = fs::read(folder(&world).join("ca.pem")).unwrap();
    fs::copy(folder(&other).join("ca.pem"), folder(&world).join("ca.pem")).unwrap();
    let before = world.digest();
    for command in ["plan", "up", "bootstrap"] {
        let ran = world.run(&[command]);
        assert_eq!(ran.code, 1, "{command}: {ran:#?}");
        let words = "is not the one that these members trust: k8s1etcd1, k8s1etcd2";
        assert!(ran.stderr.contains(words), "{command}: {}", ran.stderr);
    }
    assert_eq!(world.digest(), before, "something was planted");
    fs::write(folder(&world).join("ca.pem"), ours).unwrap();
    world.run(&["up", "--quiet"]).ok();
    assert_eq!(world.run(&["status", "--json"]).ok().json()["healthy"], true);
}

#[test]
fn the_hint_for_one_machine_affects_one_machine() {
    let living = Living::stacked();
    let plan = |living: &Living| -> Ran { living.world.run(&["plan"]) };
    unset(&living, 3051, "scsi0");
    let ran = plan(&living);
    assert_eq!(ran.code, 1, "{ran:#?}");
    assert!(ran.stderr.contains("qm set 3051 --scsi0 local-lvm:vm-3051-disk-0"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("rebuild"), "{}", ran.stderr);
    let folder = living.world.path().join("operator/homelab");
    for number in 1..=3 {
        fs::remove_file(folder.join(format!("ssh/host-k8s-master{number}"))).unwrap();
    }
    let ran = plan(&living);
    assert!(ran.stderr.contains("Remove one machine at a time"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("qm destroy 304"), "{}", ran.stderr);
}

#[test]
fn a_machine_converted_to_a_template_is_reported_as_one() {
    let living = Living::stacked();
    living.administer("pve1", async |client| {
        client.stop_vm(VmId(3051)).await.unwrap();
        client.make_template(VmId(3051)).await.unwrap();
    });
    for command in ["plan", "up"] {
        let ran = living.world.run(&[command]);
        assert_eq!(ran.code, 1, "{command}: {ran:#?}");
        assert!(ran.stderr.contains("VM 3051 was converted to a template"), "{}", ran.stderr);
    }
}

#[test]
fn doctor_reports_pending_changes_even_if_the_clusters_record_is_lost() {
    let living = Living::stacked();
    let folder = living.world.path().join("operator/homelab");
    fs::remove_file(folder.join("identity.json")).unwrap();
    set(&living, 3051, "onboot", "0");
    living.administer("pve1", async |client| client.stop_vm(VmId(3051)).await.unwrap());
    let doctor = living.world.run(&["doctor"]);
    assert!(doctor.stdout.contains("k8s-worker1: onboot is 0"), "{}", doctor.stdout);
}

#[test]
fn a_template_removed_from_the_profile_is_named_by_destroy() {
    let mut living = Living::stacked();
    let before = living.world.vms();
    let template = before.iter().find(|vm| vm.template && vm.host == "pve1").unwrap().vmid;
    living.edit(&[(&format!("ubuntu-22.04: {template}"), "ubuntu-22.04: 3095")]);
    let ran = living.world.run(&["destroy", "--yes"]).ok();
    let line = format!("template {template} on pve1 is kept: it has this cluster's mark");
    assert!(ran.stdout.contains(&line), "{ran:#?}");
    let left: Vec<u32> = living.world.vms().iter().map(|vm| vm.vmid).collect();
    assert_eq!(left, [template]);
}
