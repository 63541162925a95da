//! Profiles as users see them: the built-in ones, and the error messages for bad ones.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that panics is a test that fails"
)]

mod kit;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use k8sha::cluster::{Cluster, Kernel, Role};
use k8sha::profile::{self, Colour, EMBEDDED, LoadError, Loaded, Rejected, Source};
use kit::golden::{assert_golden, tests_dir};
use proptest::prelude::*;

fn source(name: &str, text: &str) -> Source {
    Source { name: name.into(), text: text.into(), base: PathBuf::new() }
}

fn read(text: &str) -> Result<Loaded, Rejected> {
    profile::read(source("test.yaml", text))
}

fn k8s1() -> Cluster {
    profile::load("k8s1").unwrap().cluster
}

fn embedded(name: &str) -> &'static str {
    EMBEDDED.iter().find(|(known, _)| *known == name).unwrap().1
}

/// The errors about k8s1 after a replacement of its text.
fn after(from: &str, to: &str) -> String {
    let text = embedded("k8s1");
    assert!(text.contains(from), "k8s1 has no {from:?}");
    match read(&text.replacen(from, to, 1)) {
        Ok(loaded) => loaded.render_warnings(Colour::Off).to_string(),
        Err(rejected) => rejected.render(Colour::Off).to_string(),
    }
}

#[test]
fn k8s1_is_the_table_of_the_source_document() {
    let cluster = k8s1();
    assert_golden("profile/k8s1.cluster.json", &serde_json::to_string_pretty(&cluster).unwrap());
    assert_eq!(cluster.with_role(Role::LoadBalancer).count(), 2);
    assert_eq!(cluster.with_role(Role::Master).count(), 6);
    assert_eq!(cluster.nodes.iter().filter(|node| node.host.as_str() == "pve1").count(), 4);
    assert!(cluster.nodes.iter().all(|node| matches!(node.kernel, Kernel::Mainline(_))));
    assert_eq!(cluster.first_master().fqdn, "k8s1master1.kloud.lan");
    assert_eq!(cluster.api.fqdn, "k8s1api.kloud.lan");
}

#[test]
fn k8s1_warns_about_the_risks_of_its_layout() {
    let loaded = profile::load("k8s1").unwrap();
    assert_golden("profile/k8s1.warnings.txt", &loaded.render_warnings(Colour::Off));
}

#[test]
fn k8s1_etcd_is_k8s1_with_its_own_etcd_and_warns_about_the_loss_of_each_host() {
    let loaded = profile::load("k8s1-etcd").unwrap();
    let (own, k8s1) = (&loaded.cluster, k8s1());
    let warnings = loaded.render_warnings(Colour::Off);
    assert_golden("profile/k8s1-etcd.warnings.txt", &warnings);
    assert_eq!(own.with_role(Role::Etcd).count(), 6);
    assert!(own.etcd.is_ours());
    assert_eq!(own.etcd.endpoints(), k8s1.etcd.endpoints());
    let others: Vec<_> = own.nodes.iter().filter(|node| node.role != Role::Etcd).collect();
    assert_eq!(others, k8s1.nodes.iter().collect::<Vec<_>>());
}

#[test]
fn etcd_machines_have_their_own_rules() {
    let text = embedded("k8s1-etcd");
    let machines = text.find("etcd:\n").unwrap()..text.find("balancer:").unwrap();
    let machines = &text[machines];
    for (from, to, part) in [
        ("version: 3.5.33", "version: 3.4.23", "etcd 3.4.23 is too old for Kubernetes 1.28.4"),
        ("sha256: 5025b", "# 5025b", "`sha256` is missing"),
        (machines, "etcd: stacked\n", "but `etcd` in the profile is `stacked`"),
        ("role: etcd, ", "role: worker, ", "no row has the role `etcd`"),
        ("ip: 10.103.1.203,", "ip: 10.104.1.203,", "for `k8s1etcd6` lies outside the subnet"),
        ("ip: 10.103.1.203,", "ip: 10.103.1.202,", "the address `10.103.1.202` is used twice"),
        ("ip: 10.101.1.12, ", "ip: 10.103.1.12, ", "for `k8s1vrrp2` lies outside the subnet"),
        ("gateway: 10.103.1.1 ", "gateway: 10.103.2.1 ", "for another gateway lies outside"),
        ("subnet: 10.103.1.0/24", "subnet: 10.101.1.0/25", "the nodes' subnet overlap"),
        ("{ subnet: 10.103.1.0/24, ", "{ ", "`subnet` is missing"),
        ("cidr: 100.64.0.0/16", "cidr: 10.103.0.0/16", "the pod network overlap"),
        ("proxmox:\n", "proxmox:\n  blackholes: [10.103.1.0/28]\n", "covers addresses in use"),
        (
            "10.103.1.203, os: ubuntu-22.04, kernel: stock,          ram: 2G",
            "10.103.1.203, os: \
          ubuntu-22.04, kernel: stock, ram: 512M",
            "512 MiB of memory, but an etcd needs at least 1024",
        ),
    ] {
        assert!(text.contains(from), "k8s1-etcd has no {from:?}");
        let shown = match read(&text.replace(from, to)) {
            Ok(loaded) => loaded.render_warnings(Colour::Off),
            Err(rejected) => rejected.render(Colour::Off),
        };
        assert!(shown.contains(part), "{from:?} -> {to:?}: no {part:?} in\n{shown}");
    }
    let version = "1.36.4";
    let young = read(&text.replace("version: 1.28.4", &format!("version: {version}"))).unwrap();
    assert!(young.cluster.etcd.is_ours(), "3.5.33 is enough for {version}");
}

#[test]
fn machines_with_a_preinstalled_etcd_need_no_release() {
    let text = embedded("k8s1-etcd");
    let machines = text.find("etcd:\n").unwrap()..text.find("balancer:").unwrap();
    let text = text.replace(&text[machines], "etcd: { machines: {} }\n\n");
    let text = text.replace("role: etcd, ", "preinstalled: true, role: etcd, ");
    let loaded = read(&text).map_err(|rejected| rejected.render(Colour::Off)).unwrap();
    let k8sha::cluster::Etcd::Machines { release: None, .. } = loaded.cluster.etcd else {
        panic!("a release that is not needed")
    };
}

#[test]
fn homelab_has_only_the_warnings_of_a_site_with_two_hosts() {
    let loaded = profile::load("homelab").unwrap();
    let messages: Vec<&str> = loaded.warnings.iter().map(|w| w.message.as_str()).collect();
    assert_eq!(
        messages,
        ["the loss of `pve1` costs etcd its quorum: 1 of 3 members stays, 2 are needed, and the \
             cluster takes no more changes"]
    );
    let count = |role| loaded.cluster.with_role(role).count();
    assert_eq!((count(Role::LoadBalancer), count(Role::Master), count(Role::Worker)), (2, 3, 2));
}

#[test]
fn the_embedded_profiles_do_not_collide() {
    let (k8s1, homelab) = (k8s1(), profile::load("homelab").unwrap().cluster);
    let vmids = |cluster: &Cluster| -> BTreeSet<u32> {
        let hosts = cluster.proxmox.hosts.values();
        let templates = hosts.flat_map(|host| host.templates.values().map(|t| t.vmid().0));
        cluster.nodes.iter().map(|node| node.vmid.0).chain(templates).collect()
    };
    assert!(vmids(&k8s1).is_disjoint(&vmids(&homelab)));
    assert!(!k8s1.network.subnet.contains(&homelab.network.subnet));
    assert_ne!(k8s1.balancer.vrid, homelab.balancer.vrid);
    assert_ne!(k8s1.name, homelab.name);
}

#[test]
fn the_embedded_profiles_are_those_in_the_folder() {
    let folder = fs::read_dir(tests_dir().join("../profiles")).unwrap();
    let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let files: BTreeSet<String> =
        names.filter_map(|name| name.strip_suffix(".yaml").map(str::to_owned)).collect();
    assert_eq!(files, profile::embedded_names().map(str::to_owned).collect());
}

#[test]
fn embedded_profiles_point_editors_at_the_schema() {
    for (name, text) in EMBEDDED {
        let first = text.lines().next();
        assert_eq!(first, Some("# yaml-language-server: $schema=schema.json"), "{name}");
    }
}

#[test]
fn an_unknown_profile_name_lists_the_known_ones() {
    let error = profile::load("prod").unwrap_err();
    assert_golden("profile/unknown-name.txt", &error.to_string());
}

#[test]
fn a_missing_file_is_named() {
    let error = profile::load("./nowhere.yaml").unwrap_err();
    assert!(matches!(&error, LoadError::Unreadable { .. }), "{error}");
    assert!(error.to_string().contains("`./nowhere.yaml`"), "{error}");
}

#[test]
fn paths_in_a_profile_are_relative_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.yml");
    fs::write(&path, embedded("k8s1")).unwrap();
    let loaded = profile::load(path.to_str().unwrap()).unwrap();
    let k8sha::cluster::Etcd::External { ca_file, .. } = loaded.cluster.etcd else {
        panic!("k8s1 has an external etcd")
    };
    assert_eq!(ca_file, folder.path().join("etcd-ca.crt"));
}

#[test]
fn all_errors_of_a_bad_profile_are_reported_at_once() {
    let mut found = 0;
    let mut inputs: Vec<_> = fs::read_dir(tests_dir().join("input"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    inputs.sort();
    for path in inputs {
        let name = path.file_name().unwrap().to_str().unwrap();
        let Some(case) = name.strip_prefix("bad-").and_then(|name| name.strip_suffix(".yaml"))
        else {
            continue;
        };
        let rejected = profile::read(source(name, &fs::read_to_string(&path).unwrap()))
            .expect_err("a bad profile is rejected");
        assert_golden(&format!("profile/{case}.txt"), &rejected.render(Colour::Off));
        found += 1;
    }
    assert!(found >= 5, "the inputs of this test are gone");
}

#[test]
fn each_rule_has_its_own_message() {
    for (from, to, part) in [
        ("vip: 10.101.1.10,", "vip: 10.101.1.11,", "the address `10.101.1.11` is used twice"),
        ("vip: 10.101.1.10,", "vip: 10.102.1.10,", "for the VIP lies outside the subnet"),
        ("vip: 10.101.1.10,", "vip: 10.101.1.255,", "the subnet's broadcast address"),
        ("ip: 10.101.1.203,", "ip: 10.101.1.0,  ", "the address of the subnet itself"),
        ("ip: 10.101.1.203,", "ip: 10.101.1.2,  ", "the address `10.101.1.2` is used twice"),
        ("gateway: 10.101.1.1", "gateway: 10.101.2.1", "`10.101.2.1` for the gateway lies outside"),
        ("vmid: 1103", "vmid: 1102", "the VMID `1102` is used twice"),
        ("vmid: 1103", "vmid: 9001", "the VMID `9001` is used twice"),
        ("vmid: 1103", "vmid: 99", "`99` is not a VMID"),
        ("k8s1master2,", "k8s1master1,", "the name `k8s1master1` is used twice"),
        ("k8s1master2,", "k8s1api,", "the API and a node are both named `k8s1api`"),
        ("k8s1master2,", "k8s1_master2,", "no underscores"),
        ("pve: pve2, vmid: 1203", "pve: pve9, vmid: 1203", "known here: `pve1` and `pve2`"),
        (
            "{ ubuntu-22.04: 9001 }",
            "{ debian-13: 9001 }",
            "`pve1` has no template for `ubuntu-22.04`",
        ),
        ("  ubuntu-22.04:\n    url", "  other:\n    url", "there is no image `ubuntu-22.04`"),
        (
            "cidr: 100.64.0.0/16",
            "cidr: 10.96.0.0/12",
            "the pod network and the nodes' subnet overlap",
        ),
        (
            "cidr: 100.64.0.0/16",
            "cidr: 10.103.0.0/16",
            "`10.103.1.101` (and 5 more) lies inside the pod network",
        ),
        ("198.19.0.0/23", "198.18.0.0/24", "the external network and the service network overlap"),
        ("node_mask: 24", "node_mask: 15", "does not fit into `100.64.0.0/16`"),
        ("node_mask: 24", "node_mask: 18", "4 slices of /18 for 6 nodes"),
        ("version: 1.28.4", "version: 1.23.4", "are no longer available"),
        ("version: 1.28.4", "version: 1.38.0", "newer than this version of k8sha supports"),
        ("proxy: ipvs", "proxy: nftables", "since Kubernetes 1.31"),
        ("proxy: ipvs", "proxy: none", "Services will not work"),
        ("version: 1.28.4", "version: 1.37.1", "`ipvs` is deprecated since Kubernetes 1.35"),
        ("dns_domain: k8s1-prod.lan", "dns_domain: kloud.lan", "share `kloud.lan`"),
        ("control_plane_timeout: 2m", "control_plane_timeout: 2s", "between 30s and 30m"),
        ("vrid: 101", "vrid: 0", "`0` is not a VRRP virtual router id"),
        ("vrid: 101", "vrid: 256", "`256` is too large: the most is 255"),
        ("vrid: 101", "vrid: 51", "default in most guides"),
        ("https://pve1.kloud.lan:8006", "http://pve1.kloud.lan:8006", "not an https URL"),
        ("https://pve2.kloud", "https://pve1.kloud", "`pve2` and `pve1` have the same endpoint"),
        ("https://10.103.1.102:2379", "https://10.103.1.101:2379", "is listed twice"),
        ("https://10.103.1.102:2379", "http://10.103.1.102:2379", "not an https URL"),
        ("10.103.1.203: pve2", "10.103.1.204: pve2", "`10.103.1.204` is not an etcd endpoint"),
        ("kernel: mainline-6.6.1, ram: 4G", "kernel: 6.6.1, ram: 4G", "`6.6.1` is not a kernel"),
        ("ram: 4G, vcpu: 2", "ram: 4G, vcpu: 1", "has 1 vCPU, but a master needs at least 2"),
        (
            "ram: 4G, vcpu: 2",
            "ram: 1G, vcpu: 2",
            "has 1024 MiB of memory, but a master needs at least 1700",
        ),
        ("name: k8s1-cluster", "name: K8s", "lower case only"),
        ("balancer: { vrid: 101, failover: normal }", "", "`balancer` is missing"),
        (
            "https://pve1.kloud.lan:8006",
            "https://10.101.1.101:8006",
            "for the Proxmox VE host `pve1`",
        ),
        ("name: k8s1-cluster", "name: &n k8s1-cluster", "anchors"),
        (
            "cni: none",
            "cni: { calico: { version: 3.32.2, dataplane: ebpf } }",
            "would both implement Services",
        ),
        (
            "cni: none",
            "cni: { calico: { version: 3.32.2, dataplane: nftables } }",
            "write their rules with the same tool",
        ),
        (
            "proxy: ipvs                       # or none, with a CNI that does kube-proxy's work\n  cni: none",
            "proxy: none\n  cni: { calico: { version: 3.32.2, dataplane: iptables } }",
            "no kube-proxy, and Calico does not replace it",
        ),
        (
            "proxy: ipvs                       # or none, with a CNI that does kube-proxy's work\n  cni: none",
            "proxy: none\n  cni: { manifest: cni.yaml }",
            "the manifest must include a replacement",
        ),
        ("cni: none", "cni: { calico: { version: 3.20.0 } }", "3.30.0 or newer"),
        ("cni: none", "cni: { calico: {} }", "`version` is missing"),
        ("blackholes: [198.19.0.0/16", "blackholes: [10.0.0.0/8", "covers addresses in use"),
        (
            "blackholes: [198.19.0.0/16",
            "blackholes: [0.0.0.0/0",
            "too large for a blackhole network",
        ),
        ("198.18.0.0/16, 100.64.0.0/10]", "100.64.0.0/10, 100.64.0.0/16]", "overlap"),
        (
            "control_plane_timeout: 2m",
            "image_archives: [k8s.tar]",
            "`k8s.tar` is not a path on a node",
        ),
        (
            "control_plane_timeout: 2m",
            "image_archives: [{ url: https://a.lan/k8s.tar }]",
            "an image archive without `sha256`",
        ),
        ("control_plane_timeout: 2m", "parallel_joins: 0", "number of parallel joins"),
        (
            "balancer:",
            "mirrors: { registries: { registry.k8s.io/a: [https://m.lan] } }\nbalancer:",
            "`registry.k8s.io/a` is not a container registry",
        ),
        ("balancer:", "mirrors: { registries: { docker.io: [] } }\nbalancer:", "no mirror for"),
        ("balancer:", "mirrors: { kubernetes: http://m.lan }\nbalancer:", "not an https URL"),
        (
            "storage: local-lvm\n",
            "storage: local-lvm\n      ca_file: a.pem\n      fingerprint: \"abcd\"\n",
            "`abcd` is not a SHA-256",
        ),
    ] {
        let shown = after(from, to);
        assert!(shown.contains(part), "{from:?} -> {to:?}: no {part:?} in\n{shown}");
    }
}

#[test]
fn calico_uses_kube_proxys_mode_by_default() {
    use k8sha::cluster::{CalicoDataplane, Cni};
    let homelab = embedded("homelab");
    let cilium = "cni: { cilium: { version: 1.19.8, cli_version: 0.19.7 } }";
    assert!(homelab.contains(cilium));
    for (proxy, want) in [
        ("none", CalicoDataplane::Ebpf),
        ("nftables", CalicoDataplane::Nftables),
        ("iptables", CalicoDataplane::Iptables),
    ] {
        let text = homelab
            .replace(cilium, "cni: { calico: { version: 3.32.2 } }")
            .replace("proxy: none", &format!("proxy: {proxy}"));
        let cluster = read(&text).map_err(|r| r.render(Colour::Off)).unwrap().cluster;
        let version = "3.32.2".to_owned();
        assert_eq!(cluster.kubernetes.cni, Cni::Calico { version, dataplane: want });
    }
    let long = homelab.replace("name: homelab", "name: a-cluster-with-a-name-of-forty-letters");
    let rejected = read(&long).unwrap_err().render(Colour::Off);
    assert!(rejected.contains("Cilium limits the length"), "{rejected}");
}

#[test]
fn blackholes_default_to_the_clusters_own_networks() {
    let nets = |text: &str| -> Vec<String> {
        let cluster = read(text).map_err(|r| r.render(Colour::Off)).unwrap().cluster;
        cluster.proxmox.blackholes.iter().map(ToString::to_string).collect()
    };
    assert_eq!(nets(embedded("k8s1")), ["198.19.0.0/16", "198.18.0.0/16", "100.64.0.0/10"]);
    assert_eq!(nets(embedded("homelab")), ["10.96.0.0/16", "10.244.0.0/16"]);
}

#[test]
fn a_fingerprint_and_a_ca_file_exclude_each_other() {
    let both = format!(
        "storage: local-lvm\n      ca_file: a.pem\n      fingerprint: {}\n",
        "ab".repeat(32)
    );
    assert!(after("storage: local-lvm\n", &both).contains("both a fingerprint and a CA file"));
}

#[test]
fn layouts_with_everything_on_one_host_cause_a_warning() {
    let text = embedded("homelab").replace("pve: pve2", "pve: pve1");
    let shown = read(&text).unwrap().render_warnings(Colour::Off);
    for part in [
        "all load balancers are on `pve1`",
        "the loss of `pve1` costs etcd its quorum: 0 of 3 members stay, 2 are needed",
    ] {
        assert!(shown.contains(part), "no {part:?} in\n{shown}");
    }
}

#[test]
fn the_operators_own_template_needs_no_image() {
    let text = embedded("homelab");
    let images = text.find("images:").unwrap()..text.find("defaults:").unwrap();
    let mut text = text.replace("ubuntu-22.04: 309", "ubuntu-22.04: {mine: true, vmid: 309");
    text = text.replace(" } }\n    pve", "} } }\n    pve").replace("3092 } }", "3092 } } }");
    let removed = &embedded("homelab")[images];
    let loaded = read(&text.replace(removed, "")).map_err(|r| r.render(Colour::Off)).unwrap();
    let templates = loaded.cluster.proxmox.hosts.values().flat_map(|host| host.templates.values());
    let theirs =
        |t: &k8sha::cluster::TemplateSource| matches!(t, k8sha::cluster::TemplateSource::Theirs(_));
    assert!(templates.clone().count() == 2 && templates.clone().all(theirs));
}

/// A profile with this many masters and workers, on this many hosts.
fn generated(masters: u32, workers: u32, hosts: u32) -> String {
    let base = embedded("homelab");
    let start = base.find("nodes:").unwrap();
    let mut text = format!("{}nodes:\n", &base[..start]);
    let roles = [("load-balancer", 2), ("master", masters), ("worker", workers)];
    let all = roles.iter().flat_map(|(role, count)| (0..*count).map(move |nth| (role, nth)));
    for (at, (role, nth)) in all.enumerate() {
        let (ip, vmid, host) = (100 + at, 5000 + at, at % hosts as usize + 1);
        text.push_str(&format!(
            "  - {{ role: {role}, name: {role}-{nth}, ip: 192.168.10.{ip}, ram: 4G, vcpu: 2, \
             pve: pve{host}, vmid: {vmid} }}\n"
        ));
    }
    text
}

proptest! {
    #[test]
    fn a_cluster_has_each_vmid_address_and_name_once(m in 1u32..9, w in 0u32..60, h in 1u32..3) {
        let loaded = read(&generated(m, w, h)).map_err(|r| r.render(Colour::Off)).unwrap();
        let nodes = &loaded.cluster.nodes;
        prop_assert_eq!(nodes.len(), (2 + m + w) as usize);
        prop_assert_eq!(nodes.iter().map(|n| n.vmid).collect::<BTreeSet<_>>().len(), nodes.len());
        prop_assert_eq!(nodes.iter().map(|n| n.ip).collect::<BTreeSet<_>>().len(), nodes.len());
        prop_assert_eq!(nodes.iter().map(|n| &n.name).collect::<BTreeSet<_>>().len(), nodes.len());
    }

    #[test]
    fn a_repeated_vmid_is_always_found(m in 2u32..9, w in 0u32..20, pick in 0usize..1000) {
        let text = generated(m, w, 2);
        let count = (2 + m + w) as usize;
        let (one, other) = (5000 + pick % count, 5000 + (pick + 1) % count);
        let text = text.replace(&format!("vmid: {one} "), &format!("vmid: {other} "));
        let rejected = read(&text).unwrap_err().render(Colour::Off);
        let words = format!("the VMID `{other}` is used twice");
        prop_assert!(rejected.contains(&words), "{}", rejected);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,200}") {
        if let Err(rejected) = read(&text) {
            prop_assert!(!rejected.render(Colour::On).is_empty());
        }
    }

    #[test]
    fn no_damaged_profile_makes_the_parser_panic(
        at in 0usize..6000, length in 0usize..80, with in "[-a-z0-9:{}\\[\\], \n\t#&*!|>'\"%@é]{0,12}",
    ) {
        for (_, text) in EMBEDDED {
            let start = text.floor_char_boundary(at % text.len());
            let end = text.ceil_char_boundary((start + length).min(text.len()));
            let damaged = format!("{}{with}{}", &text[..start], &text[end..]);
            if let Err(rejected) = read(&damaged) {
                prop_assert!(!rejected.complaints.is_empty());
                prop_assert!(!rejected.render(Colour::Off).is_empty());
            }
        }
    }
}

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIILBcUQyQrlUQYOzDaFuzYlNTJbmRyiyuFnKKDwEsmZX";

#[test]
fn a_jump_host_and_the_users_own_keys_are_parsed() {
    let access = format!(
        "user: ubuntu\n  agent: true\n  identity: keys/id\n  \
         jump: {{ host: Bastion.example.org, port: 2222, user: root, host_key: {KEY} }}"
    );
    let text = embedded("k8s1").replacen("user: ubuntu", &access, 1);
    let access = read(&text).unwrap_or_else(|rejected| panic!("{rejected}")).cluster.access;
    let jump = access.jump.unwrap();
    assert_eq!(jump.to_string(), "root@bastion.example.org:2222");
    assert_eq!(jump.host_key.as_deref(), Some(KEY));
    assert_eq!((access.agent, access.identity), (Some(true), Some(PathBuf::from("keys/id"))));
}

#[test]
fn a_wrong_jump_host_is_reported_at_its_line() {
    let line = embedded("k8s1").lines().position(|line| line == "  user: ubuntu").unwrap() + 2;
    for (jump, said) in [
        ("{ host: bastion }".to_owned(), "`user` is missing"),
        ("{ user: ops }".to_owned(), "`host` is missing"),
        ("{ host: 10.0.0.300, user: ops }".to_owned(), "neither a host name nor an address"),
        ("{ host: bastion, user: ops, key: x }".to_owned(), "unknown key `key`"),
        (
            "{ host: bastion, user: ops, host_key: 'SHA256:x' }".to_owned(),
            "a fingerprint, not a key",
        ),
        ("{ host: bastion, user: ops, port: 0 }".to_owned(), "`0` is not a port"),
        (
            format!("{{ host: bastion, user: ops, host_key: {KEY}, known_hosts: k }}"),
            "given in two places",
        ),
    ] {
        let text = after("user: ubuntu", &format!("user: ubuntu\n  jump: {jump}"));
        assert!(text.contains(said), "{jump}: {text}");
        assert!(text.contains(&format!("test.yaml:{line}:")), "{jump}: {text}");
    }
}
