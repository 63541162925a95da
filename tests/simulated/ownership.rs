//! Manual changes to k8sha's VMs, and foreign objects in their place: refused or reported, and nothing
//! is changed.

use std::future::Future;

use k8sha::cluster::{HostName, VmId};
use k8sha::mark::Mark;
use k8sha::proxmox::tls::Fingerprint;
use k8sha::proxmox::{Auth, Client, CreateRequest, Params};
use k8sha_simulator::{Options, Sim, inspect};

use serde_json::Value;

use crate::golden::assert_golden;
use crate::world::{World, redact};

/// An administrator uses the world's Proxmox VE for a while.
fn meddle<F: Future<Output = ()>>(world: &World, work: impl FnOnce(Client) -> F) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let site = inspect::open(&world.path()).unwrap().site;
        let options = Options {
            folder: Some(world.path()),
            speed: 150.0,
            schema: crate::world::schema(),
            ..Options::default()
        };
        let sim = Sim::start(site, options).await.unwrap();
        let endpoint = sim.endpoints().hosts["pve1"].clone();
        let pin: Fingerprint = endpoint.fingerprint.parse().unwrap();
        let client = Client::new(
            HostName("pve1".to_owned()),
            &endpoint.url,
            &k8sha::proxmox::Trust::Fingerprint(pin.0),
            Auth::Token(endpoint.token.into()),
            150.0,
        );
        work(client.unwrap()).await;
        assert!(sim.violations().is_empty(), "{:#?}", sim.violations());
        sim.stop().await;
    });
}

/// A world whose cluster is incomplete: enough for manual changes.
fn provisioned() -> World {
    World::new().after(&["provision", "--pve", "pve1", "--quiet"])
}

/// `up` refuses with this text and changes nothing.
fn refused(name: &str, world: &World) {
    let before = world.digest();
    let ran = world.run(&["up"]);
    assert_eq!(ran.code, 1, "{ran:#?}");
    assert_eq!(world.digest(), before, "nothing was changed");
    let at = ran.stderr.find("error: ").unwrap();
    assert_golden(&format!("ownership/{name}.txt"), &redact(&ran.stderr[at..], &world.path()));
}

#[test]
fn a_foreign_vm_on_the_profiles_vmid_is_refused() {
    let world = World::new();
    world.run(&["plan", "--quiet"]).ok();
    meddle(&world, |client| async move {
        let mark = Mark {
            cluster: "somebody".to_owned(),
            node: None,
            spec: String::new(),
            creation: String::new(),
            machine: None,
            read: None,
        };
        let request = CreateRequest {
            vmid: VmId(1102),
            name: "mail".to_owned(),
            pool: None,
            claim: mark.claim(""),
            settings: Params::new().with("memory", 512),
        };
        client.create_vm(&request).await.unwrap();
        client
            .set_config(VmId(1102), &Params::new().with("description", "ours"), &[], None)
            .await
            .unwrap();
    });
    refused("foreign", &world);
}

#[test]
fn a_template_on_a_clones_vmid_is_refused() {
    let world = provisioned();
    meddle(&world, |client| async move {
        client.stop_vm(VmId(1102)).await.unwrap();
        client.destroy_vm(VmId(1102)).await.unwrap();
        let request = CreateRequest {
            vmid: VmId(1102),
            name: "golden".to_owned(),
            pool: None,
            claim: Mark {
                cluster: "k8s1-cluster".to_owned(),
                node: None,
                spec: "0".to_owned(),
                creation: "0".to_owned(),
                machine: None,
                read: None,
            }
            .claim(""),
            settings: Params::new().with("memory", 512).with("scsi0", "local-lvm:1"),
        };
        client.create_vm(&request).await.unwrap();
        client.make_template(VmId(1102)).await.unwrap();
    });
    refused("template", &world);
}

#[test]
fn a_disk_that_was_detached_by_hand_is_refused() {
    let world = provisioned();
    meddle(&world, |client| async move {
        client.stop_vm(VmId(1103)).await.unwrap();
        client.set_config(VmId(1103), &Params::new(), &["scsi0"], None).await.unwrap();
    });
    refused("disk", &world);
}

#[test]
fn a_vm_that_lost_its_mark_counts_as_foreign() {
    let world = provisioned();
    meddle(&world, |client| async move {
        let plain = Params::new().with("description", "my own notes");
        client.set_config(VmId(1101), &plain, &[], None).await.unwrap();
    });
    refused("unmarked", &world);
    let ran = world.run(&["destroy", "--yes", "--quiet"]).ok();
    assert!(ran.stdout.contains("is kept"), "{}", ran.stdout);
    assert!(world.vms().iter().any(|vm| vm.vmid == 1101), "it is unchanged");
}

#[test]
fn foreign_vms_outlive_a_destroy_and_block_a_rebuild() {
    let world = provisioned();
    let ours = ["1011", "1101", "1103"];
    meddle(&world, |client| async move {
        let plain = Params::new().with("description", "somebody's").with("name", "mail");
        client.set_config(VmId(1102), &plain, &[], None).await.unwrap();
    });
    let seen = |world: &World| world.vms().into_iter().find(|vm| vm.vmid == 1102).unwrap();
    let before = seen(&world);
    let writes = world.writes().len();
    let ran = world.run(&["destroy", "--yes", "--quiet"]).ok();
    assert!(ran.stdout.contains("VM 1102 on pve1 (`mail`) is kept"), "{}", ran.stdout);
    assert_eq!(seen(&world), before);
    assert_eq!(world.vms().iter().filter(|vm| !vm.template).count(), 1);
    let touched: Vec<Value> = world.writes().split_off(writes);
    for write in &touched {
        assert!(!write["path"].as_str().unwrap().contains("/qemu/1102"), "{write}");
    }
    assert!(ours.iter().all(|vmid| {
        touched
            .iter()
            .any(|write| write["path"].as_str().unwrap().contains(&format!("/qemu/{vmid}")))
    }));
    let digest = world.digest();
    let ran = world.run(&["rebuild", "--yes"]);
    assert_eq!(ran.code, 1, "{ran:#?}");
    assert!(
        ran.stderr.contains("VM 1102 on pve1 is `mail`, which k8sha did not create"),
        "{}",
        ran.stderr
    );
    assert_eq!(world.digest(), digest, "nothing was changed");
}

#[test]
fn a_foreign_vm_on_another_host_of_the_cluster_is_refused() {
    let world = World::new();
    world.run(&["plan", "--quiet"]).ok();
    // pve1's own, on the VMID of a row of pve2.
    meddle(&world, |client| async move {
        let request = CreateRequest {
            vmid: VmId(1201),
            name: "mail".to_owned(),
            pool: None,
            claim: Mark {
                cluster: "somebody".to_owned(),
                node: None,
                spec: String::new(),
                creation: String::new(),
                machine: None,
                read: None,
            }
            .claim(""),
            settings: Params::new().with("memory", 512),
        };
        client.create_vm(&request).await.unwrap();
    });
    refused("elsewhere", &world);
}

#[test]
fn the_mark_is_read_again_before_each_write_and_each_delete() {
    let world = World::of("homelab");
    world.run(&["provision", "--quiet"]).ok();
    world.run(&["destroy", "--yes", "--quiet"]).ok();
    // The VMs whose configuration was read since they were last written to.
    let mut read: std::collections::BTreeSet<u32> = std::collections::BTreeSet::new();
    let mut writes = 0;
    // The hosts that have listed their VMs since their template was created, which shows that one is
    // absent. Concurrent clones share a look.
    let mut listed: std::collections::BTreeSet<String> = std::collections::BTreeSet::new();
    for request in world.requests() {
        let path = request["path"].as_str().unwrap();
        let host = request["host"].as_str().unwrap();
        if path.ends_with("/qemu") && request["method"] == "GET" {
            listed.insert(host.to_owned());
        }
        let Some((_, rest)) = path.split_once("/qemu/") else { continue };
        let (vmid, call) = rest.split_once('/').unwrap_or((rest, ""));
        // The CPU types are listed below `qemu` too.
        let Ok(vmid) = vmid.split('?').next().unwrap().parse::<u32>() else { continue };
        if request["method"] == "GET" {
            if call.starts_with("config") {
                read.insert(vmid);
            }
            continue;
        }
        // The source of a clone is not written to; its target does not exist yet.
        let form = &request["form"]["newid"];
        match form.as_str() {
            Some(_) => assert!(listed.contains(host), "no look before {request}"),
            None => assert!(read.remove(&vmid), "VM {vmid} was not looked at before {request}"),
        }
        if call == "template" {
            listed.remove(host);
        }
        writes += 1;
    }
    assert!(writes > 7 * 6, "clone, configure, start, eject, stop, delete of 7 VMs: {writes}");
}

#[test]
fn a_vm_that_was_renamed_by_hand_is_reported_and_keeps_its_name() {
    let world = World::new().made();
    meddle(&world, |client| async move {
        let renamed = Params::new().with("name", "favourite");
        client.set_config(VmId(1101), &renamed, &[], None).await.unwrap();
    });
    let before = world.digest();
    let plan = world.run(&["plan", "--quiet"]).ok().stdout;
    assert!(plan.contains("VM 1101 is now named `favourite`"), "{plan}");
    assert!(plan.contains("nothing to do"), "{plan}");
    world.run(&["up", "--quiet"]).ok();
    assert_eq!(world.digest(), before, "nothing was changed");
}
