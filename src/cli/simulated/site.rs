//! From a profile to the site that a simulator needs to hold it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;

use super::args::Topology;
use crate::cluster::{Cluster, Etcd, Host};
use k8sha_simulator::site::{self, Site, SiteHost, SiteStorage};

/// The world in which this cluster could be made: its hosts, with room enough, the storages and
/// bridges that it names, name servers that know its names, and its external etcd.
pub fn site(cluster: &Cluster, topology: Topology) -> Site {
    let mut records: Vec<_> = vec![(cluster.api.fqdn.clone(), cluster.api.vip)];
    records.extend(cluster.nodes.iter().map(|node| (node.fqdn.clone(), node.ip)));
    let hosts = cluster.proxmox.hosts.iter().map(|(name, host)| SiteHost {
        name: name.to_string(),
        storages: storages(host, topology == Topology::Cluster && is_shared(cluster, host)),
        bridges: bridges(cluster),
        ports: Vec::new(),
        memory_mib: 64 * 1024,
        cpus: 16,
    });
    Site {
        topology: match topology {
            Topology::Cluster => site::Topology::Cluster,
            Topology::Standalone => site::Topology::Standalone,
        },
        cluster: site::usual_name(),
        hosts: hosts.collect(),
        domain: cluster.network.domain.clone(),
        nameservers: cluster.network.nameservers.clone(),
        records,
        api: cluster.api.fqdn.clone(),
        pools: cluster.proxmox.pool.iter().cloned().collect(),
        gateway: cluster.network.gateway,
        etcd: etcd(cluster),
        packages: packages(cluster),
    }
}

fn bridges(cluster: &Cluster) -> Vec<String> {
    let others = cluster.network.others.iter().map(|other| other.bridge.clone());
    let all: BTreeSet<String> = others.chain([cluster.network.bridge.clone()]).collect();
    all.into_iter().collect()
}

/// The packages in the images, if rows declare them preinstalled: those of every role, so that one
/// image serves all rows.
fn packages(cluster: &Cluster) -> BTreeMap<String, String> {
    const ROLES: [&str; 11] = [
        "bind9-dnsutils",
        "chrony",
        "conntrack",
        "containerd.io",
        "curl",
        "haproxy",
        "ipset",
        "ipvsadm",
        "keepalived",
        "qemu-guest-agent",
        "socat",
    ];
    if !cluster.nodes.iter().any(|node| node.preinstalled) {
        return BTreeMap::new();
    }
    let kubernetes = ["kubeadm", "kubectl", "kubelet"]
        .map(|name| (name.to_owned(), format!("{}-1.1", cluster.kubernetes.version)));
    ROLES.map(|name| (name.to_owned(), String::new())).into_iter().chain(kubernetes).collect()
}

/// Whether a host's disks are on a storage that another host sees too: both name one template on
/// it.
fn is_shared(cluster: &Cluster, host: &Host) -> bool {
    let same = |other: &&Host| {
        other.storage == host.storage
            && host.templates.iter().any(|(os, source)| other.templates.get(os) == Some(source))
    };
    cluster.proxmox.hosts.values().filter(same).count() > 1
}

/// One storage for each name, with all the content that the profile expects there.
fn storages(host: &Host, shared: bool) -> Vec<SiteStorage> {
    let mut content: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    content.entry(&host.storage).or_default().extend(["images", "rootdir"]);
    content.entry(&host.iso_storage).or_default().push("iso");
    content.entry(&host.import_storage).or_default().push("import");
    // Every Proxmox VE has these two.
    content.entry("local").or_default().extend(["vztmpl", "backup"]);
    let kind = |name: &str, content: &[&str]| match name {
        "local" => "dir",
        "local-zfs" => "zfspool",
        name if shared && name == host.storage => "nfs",
        _ if content.iter().any(|kind| ["iso", "import"].contains(kind)) => "dir",
        _ => "lvmthin",
    };
    content
        .into_iter()
        .map(|(name, content)| SiteStorage {
            name: name.to_owned(),
            kind: kind(name, &content).to_owned(),
            content: content.into_iter().map(str::to_owned).collect(),
            shared: shared && name == host.storage,
            size_gib: 800,
        })
        .collect()
}

fn etcd(cluster: &Cluster) -> Vec<SocketAddrV4> {
    let Etcd::External { endpoints, .. } = &cluster.etcd else { return Vec::new() };
    let address = |url: &String| url.strip_prefix("https://")?.trim_end_matches('/').parse().ok();
    endpoints.iter().filter_map(address).collect()
}
