//! A running cluster, and what ordinary edits and losses must never do to it: create a second CA, reset
//! a node in use, change a foreign object, report a match with the profile where there is none.

use std::collections::{BTreeMap, BTreeSet};

use k8sha::cluster::{HostName, VmId};
use k8sha::mark::Marked;
use k8sha::proxmox::tls::Fingerprint;
use k8sha::proxmox::{Auth, Client};
use k8sha_simulator::inspect::What;
use k8sha_simulator::{Options, Sim, inspect};

use crate::made;
use crate::world::{Ran, SPEED, World};

/// Rows that are not in the profile, but known to the site's name servers.
const MORE: &str = "
  - { role: master,        name: k8s-master8, ip: 192.168.10.48, ram: 4G, vcpu: 2,           pve: pve1, vmid: 3048 }
  - { role: master,        name: k8s-master9, ip: 192.168.10.49, ram: 4G, vcpu: 2,           pve: pve2, vmid: 3049 }
  - { role: worker,        name: k8s-worker3, ip: 192.168.10.53, ram: 8G, vcpu: 4,           pve: pve2, vmid: 3053 }";

/// A running cluster, and its state that must not change.
pub struct Living {
    pub world: World,
    profile: &'static str,
    ca: String,
    uid: String,
}

impl Living {
    /// `homelab`: three masters with etcd on them, two workers.
    pub fn stacked() -> Self {
        Self::up("homelab", &[])
    }

    /// `k8s1`: six masters, etcd beside them.
    pub fn external() -> Self {
        Self::up("k8s1", &[])
    }

    fn up(profile: &'static str, changes: &[(&str, &str)]) -> Self {
        let mut world = World::of(profile);
        made::once(&mut world, format!("living {profile} {changes:?}"), |world| {
            if profile == "homelab" {
                let last = "pve: pve2, vmid: 3052 }";
                world.with_profile_of(profile, "all.yaml", &[(last, &format!("{last}{MORE}"))]);
                world.run(&["plan", "--quiet"]).ok();
            }
            world.with_profile_of(profile, "mine.yaml", changes);
            world.run(&["up", "--quiet"]).ok();
        });
        world.with_profile_of(profile, "mine.yaml", changes);
        let world = Self { world, profile, ca: String::new(), uid: String::new() };
        let lines = inspect::clusters(&inspect::open(&world.world.path()).unwrap());
        assert_eq!(lines.len(), 1, "{lines:?}");
        Self { ca: lines[0].ca.clone(), uid: lines[0].uid.clone(), ..world }
    }

    pub fn edit(&mut self, changes: &[(&str, &str)]) {
        self.world.with_profile_of(self.profile, "mine.yaml", changes);
    }

    /// Adds rows above all others.
    fn above(&mut self, rows: &str) {
        let first = if self.profile == "homelab" { "nodes:\n  - { role: load" } else { "nodes:\n" };
        let text = format!("nodes:\n{rows}\n{}", first.trim_start_matches("nodes:\n"));
        self.edit(&[(first, &text)]);
    }

    pub fn administer<F: Future<Output = ()>>(&self, host: &str, work: impl FnOnce(Client) -> F) {
        administer(&self.world, host, work);
    }

    /// Destroys a VM in Proxmox VE.
    pub fn destroy(&self, host: &str, vmid: u32) {
        self.administer(host, async |client| {
            client.stop_vm(VmId(vmid)).await.unwrap();
            client.destroy_vm(VmId(vmid)).await.unwrap();
        });
    }

    fn history(&self) -> Vec<What> {
        let world = inspect::open(&self.world.path()).unwrap();
        inspect::history(&world).into_iter().map(|act| act.what).collect()
    }

    /// Checks that nothing forbidden has happened.
    pub fn unharmed(&self) {
        for act in self.history() {
            match &act {
                What::Authority { pin } => assert_eq!(*pin, self.ca, "a second CA"),
                What::Overwritten { .. } => panic!("an init with the data of a running cluster"),
                What::Reset { node: Some(node), .. } => panic!("{node} was reset while it served"),
                What::NodeDeleted { node, ready: true } => panic!("{node} was deleted while Ready"),
                What::MemberRemoved { peer, up: true } => panic!("{peer} was removed while it ran"),
                _ => {}
            }
        }
        let lines = inspect::clusters(&inspect::open(&self.world.path()).unwrap());
        // With its last master, a stacked cluster's data is lost.
        let Some(line) = lines.iter().find(|line| line.uid == self.uid) else { return };
        assert_eq!(line.ca, self.ca);
        let pins: BTreeSet<&String> = line.servers.values().collect();
        assert!(pins.len() <= 1, "a split cluster: {line:#?}");
    }

    /// `plan`, `up` and `status` refuse with these words, and nothing is changed.
    pub fn refused(&self, words: &[&str]) {
        let before = self.world.digest();
        for command in ["plan", "up"] {
            let ran = self.world.run(&[command]);
            assert_eq!(ran.code, 1, "{command}: {ran:#?}");
            for word in words {
                assert!(
                    ran.stderr.contains(word),
                    "{command} does not say `{word}`: {}",
                    ran.stderr
                );
            }
        }
        let status = self.world.run(&["status"]);
        assert_eq!(status.code, 1, "{status:#?}");
        assert!(status.stdout.contains("does not match the profile"), "{}", status.stdout);
        assert!(words.iter().any(|word| status.stdout.contains(word)), "{}", status.stdout);
        let doctor = self.world.run(&["doctor"]);
        assert!(words.iter().any(|word| doctor.stdout.contains(word)), "{}", doctor.stdout);
        assert_eq!(self.world.digest(), before, "nothing was written");
        self.unharmed();
    }

    /// The cluster matches the profile: nothing is changed, and every command says so.
    pub fn settled(&self) {
        let writes = self.world.writes().len();
        let report = self.world.run(&["up", "--json"]).ok().json();
        assert_eq!(report["verdict"], "settled", "{report:#}");
        assert_eq!(report["differences"].as_array().unwrap().len(), 0, "{report:#}");
        assert_eq!(
            self.world.writes().len(),
            writes,
            "a cluster that matches the profile is written to"
        );
        self.world.run(&["plan", "--exit-code"]).ok();
        assert_eq!(self.world.run(&["status", "--json"]).ok().json()["healthy"], true);
        self.unharmed();
    }

    fn nodes(&self) -> BTreeMap<String, bool> {
        let lines = inspect::clusters(&inspect::open(&self.world.path()).unwrap());
        lines.into_iter().find(|line| line.uid == self.uid).unwrap().nodes
    }
}

/// Acts on a world's Proxmox VE host as its administrator.
pub fn administer<F: Future<Output = ()>>(
    world: &World,
    host: &str,
    work: impl FnOnce(Client) -> F,
) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let site = inspect::open(&world.path()).unwrap().site;
        let speed = SPEED.parse().unwrap();
        let folder = Some(world.path());
        let sim = Sim::start(site, Options { folder, speed, ..Options::default() }).await.unwrap();
        let endpoint = sim.endpoints().hosts[host].clone();
        let pin: Fingerprint = endpoint.fingerprint.parse().unwrap();
        let trust = k8sha::proxmox::Trust::Fingerprint(pin.0);
        let token = Auth::Token(endpoint.token.into());
        let name = HostName(host.to_owned());
        work(Client::new(name, &endpoint.url, &trust, token, speed).unwrap()).await;
        sim.stop().await;
    });
}

fn said(ran: &Ran) -> String {
    format!("{}{}", ran.stdout, ran.stderr)
}

#[test]
fn new_masters_above_the_old_ones_join_them() {
    let mut living = Living::stacked();
    let rows: Vec<&str> = MORE.trim_matches('\n').lines().take(2).collect();
    living.above(&rows.join("\n"));
    assert_eq!(living.world.run(&["plan", "--exit-code"]).code, 10);
    living.world.run(&["up", "--quiet"]).ok();
    living.unharmed();
    assert_eq!(living.nodes().len(), 7, "{:?}", living.nodes());
    living.settled();
}

#[test]
fn a_lost_first_master_of_a_stacked_etcd_is_created_again_and_joins() {
    let living = Living::stacked();
    living.destroy("pve1", 3041);
    let plan = said(&living.world.run(&["plan"]).ok());
    assert!(
        plan.contains(
            "remove the lost machine k8s-master1.home.arpa from the cluster: its VM is gone"
        ),
        "{plan}"
    );
    assert!(!plan.contains("kubeadm init"), "{plan}");
    living.world.run(&["up", "--quiet"]).ok();
    living.settled();
    let lines = inspect::clusters(&inspect::open(&living.world.path()).unwrap());
    assert_eq!(lines[0].members.len(), 3, "{lines:#?}");
    assert!(lines[0].members.values().all(|up| *up), "{lines:#?}");
}

#[test]
fn a_lost_later_master_or_worker_is_created_again_and_joins() {
    let living = Living::stacked();
    living.destroy("pve2", 3042);
    living.destroy("pve1", 3051);
    let status = living.world.run(&["status"]);
    assert_eq!(status.code, 1);
    living.world.run(&["up", "--quiet"]).ok();
    living.settled();
    assert!(living.nodes().values().all(|ready| *ready), "{:?}", living.nodes());
}

#[test]
fn a_lost_first_master_with_an_external_etcd_joins_the_existing_data() {
    let living = Living::external();
    living.destroy("pve1", 1101);
    living.world.run(&["up", "--quiet"]).ok();
    living.settled();
    assert_eq!(living.nodes().len(), 6);
}

#[test]
fn a_lost_balancer_is_created_again() {
    let living = Living::stacked();
    living.destroy("pve1", 3031);
    living.world.run(&["up", "--quiet"]).ok();
    living.settled();
}

#[test]
fn a_lost_quorum_is_reported_and_no_second_cluster_is_created() {
    let living = Living::stacked();
    living.destroy("pve1", 3041);
    living.destroy("pve2", 3042);
    let ran = living.world.run(&["up"]);
    assert_eq!(ran.code, 1, "{ran:#?}");
    assert!(ran.stderr.contains("its quorum is lost"), "{}", ran.stderr);
    assert!(ran.stderr.contains("qmrestore") && ran.stderr.contains("snapshot"), "{}", ran.stderr);
    living.unharmed();
}

#[test]
fn with_all_masters_lost_nothing_is_initialised_on_the_remaining_data() {
    for living in [Living::stacked(), Living::external()] {
        let all: &[(&str, u32)] = match living.profile {
            "homelab" => &[("pve1", 3041), ("pve2", 3042), ("pve1", 3043)],
            _ => &[
                ("pve1", 1101),
                ("pve1", 1102),
                ("pve1", 1103),
                ("pve2", 1201),
                ("pve2", 1202),
                ("pve2", 1203),
            ],
        };
        for (host, vmid) in all {
            living.destroy(host, *vmid);
        }
        for args in [&["up"][..], &["up", "--wipe-etcd"]] {
            let ran = living.world.run(args);
            assert_eq!(ran.code, 1, "{ran:#?}");
            assert!(ran.stderr.contains("none of its masters is left"), "{}", ran.stderr);
            assert!(ran.stderr.contains("k8sha rebuild"), "{}", ran.stderr);
        }
        living.unharmed();
    }
}

#[test]
fn a_cluster_that_was_switched_off_is_started_and_works_again() {
    let living = Living::stacked();
    for (host, all) in [("pve1", &[3031, 3041, 3043, 3051][..]), ("pve2", &[3032, 3042, 3052])] {
        living.administer(host, async |client| {
            for vmid in all {
                client.stop_vm(VmId(*vmid)).await.unwrap();
            }
        });
    }
    let plan = said(&living.world.run(&["plan"]).ok());
    assert!(plan.contains("then k8sha looks again and plans the rest"), "{plan}");
    assert!(!plan.contains("kubeadm init"), "{plan}");
    living.world.run(&["up", "--quiet"]).ok();
    living.settled();
}

#[test]
fn a_new_row_is_created_in_the_run_that_starts_a_machine_first() {
    let mut living = Living::stacked();
    living.administer("pve1", async |client| client.stop_vm(VmId(3043)).await.unwrap());
    let last = "pve: pve2, vmid: 3052 }";
    living.edit(&[(
        last,
        &format!("{last}{}", MORE.lines().last().map(|row| format!("\n{row}")).unwrap()),
    )]);
    let ran = living.world.run(&["up", "--quiet"]);
    assert_eq!(ran.code, 0, "{ran:#?}");
    living.settled();
}

#[test]
fn another_domain_or_role_or_address_or_user_is_refused_before_the_first_write() {
    let mut living = Living::stacked();
    living.edit(&[("domain: home.arpa  ", "domain: other.arpa  ")]);
    living.refused(&["k8s-master1.home.arpa", "k8s-master1.other.arpa"]);
    living.edit(&[(
        "role: worker,        name: k8s-worker1, ip: 192.168.10.51, ram: 8G",
        "role: master,        name: k8s-worker1, ip: 192.168.10.51, ram: 8G",
    )]);
    living.refused(&["role is worker, should be master"]);
    living.edit(&[("ip: 192.168.10.52", "ip: 192.168.10.53")]);
    living.refused(&["ip is 192.168.10.52, should be 192.168.10.53", "k8sha replace k8s-worker2"]);
    living.edit(&[("access:\n", "access:\n  user: opsen\n")]);
    living.refused(&["access.user is"]);
    living.edit(&[]);
    living.settled();
}

#[test]
fn another_port_or_vip_is_refused_before_the_balancers_change() {
    let mut living = Living::stacked();
    living.edit(&[("vip: 192.168.10.30", "vip: 192.168.10.29")]);
    living.refused(&["cluster.api.vip is 192.168.10.30"]);
    living.edit(&[("vip: 192.168.10.30", "vip: 192.168.10.30, port: 7443")]);
    living.refused(&["cluster.api.port is 6443"]);
    living.edit(&[]);
    living.settled();
}

#[test]
fn a_renamed_row_is_refused_with_its_former_name() {
    let mut living = Living::stacked();
    living.edit(&[("name: k8s-worker1,", "name: k8s-workerx,")]);
    living.refused(&[
        "VM 3051 on pve1 was created as `k8s-worker1`",
        "rename the row back to `k8s-worker1`",
    ]);
    living.edit(&[]);
    living.settled();
}

#[test]
fn another_router_id_is_applied_and_nothing_differs_afterwards() {
    let mut living = Living::stacked();
    living.edit(&[("vrid: 130", "vrid: 131")]);
    assert_eq!(living.world.run(&["plan", "--exit-code"]).code, 10);
    living.world.run(&["up", "--quiet"]).ok();
    living.settled();
}

#[test]
fn another_vmid_or_host_for_a_row_creates_no_second_machine() {
    let mut living = Living::stacked();
    living.edit(&[("vmid: 3051", "vmid: 3061")]);
    living.refused(&["vmid is 3051 on pve1", "set `vmid: 3051` again"]);
    living.edit(&[("pve: pve1, vmid: 3051", "pve: pve2, vmid: 3051")]);
    living.refused(&["pve is pve1", "qm migrate 3051 pve2"]);
    living.edit(&[]);
    living.settled();
}

#[test]
fn settings_that_cannot_change_on_a_running_cluster_are_shown_and_refused() {
    let mut living = Living::stacked();
    for (from, to, words) in [
        ("version: 1.36.4", "version: 1.36.5", "kubernetes.version is 1.36.4"),
        ("10.244.0.0/16", "10.245.0.0/16", "kubernetes.pods.cidr is 10.244.0.0/16"),
        ("services: 10.96.0.0/16", "services: 10.97.0.0/16", "kubernetes.services is 10.96.0.0/16"),
        ("dns_domain: cluster.local", "dns_domain: other.local", "kubernetes.dns_domain is"),
        (
            "cilium: { version: 1.19.8",
            "cilium: { version: 1.19.9",
            "kubernetes.cni is cilium 1.19.8",
        ),
    ] {
        living.edit(&[(from, to)]);
        living.refused(&[words]);
    }
    living.edit(&[("proxy: none   ", "proxy: iptables")]);
    living.refused(&["kubernetes.proxy is none"]);
    living.edit(&[(
        "defaults: { os: ubuntu-22.04, kernel: hwe, disk: 32G }",
        "defaults: { os: ubuntu-22.04, kernel: hwe, disk: 24G }",
    )]);
    let report = living.world.run(&["up", "--json"]).ok().json();
    let text = report.to_string();
    assert!(text.contains("disk is 32G") && text.contains("needs a new machine"), "{report:#}");
    living.unharmed();
}

#[test]
fn two_clusters_with_overlapping_names_never_touch_each_other() {
    // The cluster `prod` with nodes `eu-…` beside the cluster `prod-eu`.
    let prod = [
        ("name: homelab", "name: prod"),
        ("name: k8s-", "name: eu-"),
        ("vmid: 30", "vmid: 40"),
        ("ip: 192.168.10.", "ip: 192.168.10.1"),
        ("vip: 192.168.10.130", "vip: 192.168.10.30"),
    ];
    let prod_eu = [("name: homelab", "name: prod-eu"), ("name: k8s-", "name: ")];
    let mut world = World::of("homelab");
    let source = format!("{}/profiles/homelab.yaml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(source).unwrap();
    let rows: String =
        text.lines().filter(|line| line.contains("role:")).fold(String::new(), |all, row| {
            let row = row.replace("name: k8s-", "name: eu-").replace("vmid: 30", "vmid: 40");
            format!("{all}\n{}", row.replace("ip: 192.168.10.", "ip: 192.168.10.1"))
        });
    let last = "pve: pve2, vmid: 3052 }";
    let all = format!("{last}{rows}");
    // The site's name servers know the names of the first look.
    world.with_profile_of("homelab", "all.yaml", &[(last, &all), ("name: k8s-", "name: ")]);
    world.run(&["plan", "--quiet"]).ok();
    world.with_profile_of("homelab", "prod.yaml", &prod);
    world.run(&["provision", "--quiet"]).ok();
    world.with_profile_of("homelab", "prod-eu.yaml", &prod_eu);
    world.run(&["provision", "--quiet"]).ok();

    // Disks and images: the other cluster's machines and templates use them.
    let theirs = |world: &World| -> BTreeSet<String> {
        let seen = inspect::open(&world.path()).unwrap();
        let own = |volume: &String| volume.contains(":vm-40") || volume.contains("-eu-");
        inspect::volumes(&seen).into_iter().filter(|volume| !own(volume)).collect()
    };
    let (before, vms) = (theirs(&world), world.vms());
    assert_eq!(vms.len(), 16);
    world.with_profile_of("homelab", "prod.yaml", &prod);
    world.run(&["destroy", "--yes", "--quiet"]).ok();
    let ours = |name: &str| name.starts_with("eu-");
    let kept: Vec<_> = vms.into_iter().filter(|vm| !ours(&vm.name)).collect();
    assert_eq!(world.vms(), kept, "templates stay too: the other cluster was made from them");
    assert_eq!(theirs(&world), before);
    world.with_profile_of("homelab", "prod-eu.yaml", &prod_eu);
    assert!(world.run(&["provision"]).ok().stdout.contains("nothing to do"));
}

#[test]
fn the_etcd_data_of_a_cluster_with_existing_machines_is_not_wiped() {
    let mut living = Living::external();
    let source = format!("{}/profiles/k8s1.yaml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(source).unwrap();
    let mut other = text
        .replace("k8s1-cluster", "k8s2-cluster")
        .replace("k8s1api, vip: 10.101.1.10", "k8s2api, vip: 10.101.1.20")
        .replace("vrid: 101", "vrid: 102")
        .replace("k8s1vrrp", "k8s2vrrp")
        .replace("k8s1master", "k8s2master");
    for (ip, vmid) in [
        (11, 1011),
        (12, 1012),
        (101, 1101),
        (102, 1102),
        (103, 1103),
        (201, 1201),
        (202, 1202),
        (203, 1203),
    ] {
        other = other
            .replace(&format!("10.101.1.{ip},"), &format!("10.101.1.{},", ip + 10))
            .replace(&format!("vmid: {vmid}"), &format!("vmid: {}", vmid + 5000));
    }
    living.world.with_text(&other);
    for (flag, words) in [
        ("--quiet", "the cluster `k8s1-cluster`"),
        ("--wipe-etcd", "the cluster `k8s1-cluster`"),
        ("--wipe-etcd=k8s1-cluster", "machines of that cluster still exist: VM 1011 on pve1"),
    ] {
        let ran = living.world.run(&["up", flag]);
        assert_ne!(ran.code, 0, "{flag}");
        assert!(said(&ran).contains(words), "{flag} does not say `{words}`: {}", said(&ran));
        living.unharmed();
    }
    living.edit(&[]);
    living.settled();
}

#[test]
fn destroy_takes_machines_without_a_row_and_nothing_else() {
    let mut living = Living::stacked();
    let row = "  - { role: worker,        name: k8s-worker2, ip: 192.168.10.52, ram: 8G, vcpu: 4,           pve: pve2, vmid: 3052 }";
    living.edit(&[(row, "")]);
    living.world.run(&["destroy", "--yes", "--quiet"]).ok();
    assert!(living.world.vms().is_empty(), "{:?}", living.world.vms());
}

#[test]
fn a_copy_of_a_machine_is_named_and_is_not_removed_with_the_cluster() {
    let living = Living::stacked();
    living.administer("pve1", async |client| {
        let config = client.find_vm(VmId(3051)).await.unwrap().unwrap();
        let request = k8sha::proxmox::CreateRequest {
            vmid: VmId(9000),
            name: "customer-db".into(),
            pool: None,
            claim: config.mark().unwrap().claim("a copy"),
            settings: k8sha::proxmox::Params::new().with("tags", "k8sha"),
        };
        client.create_vm(&request).await.unwrap();
    });
    living.refused(&["VM 9000 on pve1 as well"]);
    let ran = living.world.run(&["destroy", "--yes"]).ok();
    assert!(ran.stdout.contains("VM 9000 on pve1 is kept"), "{}", ran.stdout);
    let left: Vec<u32> = living.world.vms().iter().map(|vm| vm.vmid).collect();
    assert_eq!(left, [3091, 9000], "and the template that it may hang on");
}

#[test]
fn a_protected_machine_is_reported_before_anything_is_removed() {
    let living = Living::stacked();
    living.administer("pve2", async |client| {
        let protect = k8sha::proxmox::Params::new().with("protection", 1);
        client.set_config(VmId(3042), &protect, &[], None).await.unwrap();
    });
    let vms = living.world.vms();
    for command in ["destroy", "rebuild"] {
        let ran = living.world.run(&[command, "--yes"]);
        assert_eq!(ran.code, 3, "{ran:#?}");
        assert!(ran.stderr.contains("qm set 3042 --protection 0"), "{}", ran.stderr);
        assert_eq!(living.world.vms(), vms, "{command} removed or stopped something");
    }
}

#[test]
fn lost_masters_are_not_created_while_the_quorum_is_lost() {
    let living = Living::stacked();
    living.destroy("pve2", 3042);
    living.destroy("pve1", 3043);
    living.administer("pve1", async |client| client.stop_vm(VmId(3041)).await.unwrap());
    // The record of the cluster is lost as well; its kubeconfig is not.
    let folder = living.world.path().join("operator/homelab");
    std::fs::remove_file(folder.join("identity.json")).unwrap();
    let ran = living.world.run(&["up"]);
    assert_eq!(ran.code, 1, "{ran:#?}");
    assert!(ran.stderr.contains("its quorum is lost"), "{}", ran.stderr);
    let made = living.world.vms();
    assert!(!made.iter().any(|vm| [3042, 3043].contains(&vm.vmid)), "{made:?}");
    assert_eq!(living.world.run(&["provision"]).code, 1);
    assert_eq!(living.world.run(&["plan", "--exit-code"]).code, 1);
    living.unharmed();
}

#[test]
fn another_state_folder_does_not_destroy_the_cluster_with_yes() {
    let living = Living::stacked();
    let other = tempfile::tempdir().unwrap();
    let state = other.path().to_str().unwrap().to_owned();
    let before = living.world.digest();
    let ran = living.world.run(&["destroy", "--yes", "--state", &state]);
    assert_ne!(ran.code, 0, "{ran:#?}");
    assert!(ran.stderr.contains("did not create the cluster `homelab`"), "{}", ran.stderr);
    let up = living.world.run(&["up", "--state", &state]);
    assert_eq!(up.code, 1);
    assert!(up.stderr.contains("this state folder has created nothing"), "{}", up.stderr);
    assert!(!up.stderr.contains("k8sha rebuild"), "{}", up.stderr);
    assert_eq!(living.world.digest(), before);
    living.settled();
}

#[test]
fn foreign_vms_cost_no_request_each() {
    let living = Living::stacked();
    let count = |living: &Living| {
        let before = living.world.requests().len();
        living.world.run(&["up", "--quiet"]).ok();
        living.world.requests().len() - before
    };
    let alone = count(&living);
    living.administer("pve1", async |client| {
        for vmid in 5000..5040 {
            let request = k8sha::proxmox::CreateRequest {
                vmid: VmId(vmid),
                name: format!("theirs-{vmid}"),
                pool: None,
                claim: k8sha::mark::Mark {
                    cluster: "another".into(),
                    node: Some(k8sha::cluster::NodeName("n".into())),
                    spec: "x".into(),
                    creation: "x".into(),
                    machine: None,
                    read: None,
                }
                .claim("theirs"),
                settings: k8sha::proxmox::Params::new().with("memory", 16),
            };
            client.create_vm(&request).await.unwrap();
        }
    });
    // Concurrent requests for a list share one, so the figure varies by a few.
    let beside = count(&living);
    assert!(
        beside < alone + 10,
        "VMs without k8sha's tag are read: {beside}, {alone} without them"
    );
    assert!(alone <= 70, "{alone} requests of a run that changes nothing");
    living.settled();
}

#[test]
fn a_run_that_writes_a_setting_for_the_next_restart_reports_it() {
    let mut living = Living::stacked();
    living.edit(&[("ip: 192.168.10.51, ram: 8G, vcpu: 4", "ip: 192.168.10.51, ram: 6G, vcpu: 3")]);
    let told = |ran: &Ran| {
        let text = said(ran);
        for words in [
            "k8s-worker1: vcpu in use is 4, should be 3",
            "k8s-worker1: ram in use is 8192 MiB, should be 6144 MiB",
            "qm shutdown 3051 && qm start 3051",
        ] {
            assert!(text.contains(words), "no `{words}` in {text}");
        }
    };
    told(&living.world.run(&["plan"]).ok());
    told(&living.world.run(&["up"]).ok());
    told(&living.world.run(&["plan"]).ok());
    living.administer("pve1", async |client| client.stop_vm(VmId(3051)).await.unwrap());
    living.world.run(&["up", "--quiet"]).ok();
    living.settled();
}
