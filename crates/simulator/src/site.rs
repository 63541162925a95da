//! What a simulated site looks like before anybody acts on it, as data.
//!
//! The caller that starts the simulator describes the site; the simulator knows nothing of profiles.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// The physical world: Proxmox hosts, a network with name servers, perhaps an etcd.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// Whether the hosts form one Proxmox VE cluster.
    pub topology: Topology,
    /// The name of that cluster.
    #[serde(default = "usual_name")]
    pub cluster: String,
    /// The Proxmox VE hosts.
    pub hosts: Vec<SiteHost>,
    /// The domain that the name servers serve, such as `kloud.lan`.
    pub domain: String,
    /// The name servers' addresses.
    pub nameservers: Vec<Ipv4Addr>,
    /// Names (fully qualified, no trailing dot) and their addresses; PTR records follow from them.
    pub records: Vec<(String, Ipv4Addr)>,
    /// The name in `records` that is the Kubernetes API's: what the fault `dns-stale` is about.
    pub api: String,
    /// The pools that are there.
    #[serde(default)]
    pub pools: Vec<String>,
    /// The router of the nodes' subnet.
    pub gateway: Ipv4Addr,
    /// `ADDRESS:PORT` of each member of an etcd that is there already.
    pub etcd: Vec<std::net::SocketAddrV4>,
    /// The packages that the site's cloud images hold beside Ubuntu's own, and their versions; an
    /// empty version is the one that apt would install.
    #[serde(default)]
    pub packages: BTreeMap<String, String>,
}

/// What a cluster is called unless its site says otherwise.
pub fn usual_name() -> String {
    "site".to_owned()
}

impl Site {
    /// Whether another site has hosts of the same names.
    pub fn has_hosts_of(&self, other: &Site) -> bool {
        let names = |site: &Site| -> BTreeSet<String> {
            site.hosts.iter().map(|host| host.name.clone()).collect()
        };
        names(self) == names(other)
    }
}

/// How the Proxmox VE hosts belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Topology {
    /// One Proxmox VE cluster: one VMID space, one set of users, calls are proxied between nodes.
    Cluster,
    /// Standalone hosts, each with VMIDs, users, tokens and certificates of its own.
    Standalone,
}

/// One Proxmox VE host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SiteHost {
    /// The node name, such as `pve1`.
    pub name: String,
    /// Its storages.
    pub storages: Vec<SiteStorage>,
    /// Its bridges, such as `vmbr0`.
    pub bridges: Vec<String>,
    /// The network cards that the bridges are on, such as `eno1`; `eth0` and so on where none are
    /// named.
    #[serde(default)]
    pub ports: Vec<String>,
    /// Physical memory in MiB.
    pub memory_mib: u64,
    /// Logical CPUs.
    pub cpus: u32,
}

/// One storage of a host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SiteStorage {
    /// The storage id, such as `local-lvm`.
    pub name: String,
    /// Proxmox's storage type: `dir`, `lvmthin`, `lvm`, `zfspool`, `nfs`, `rbd`.
    pub kind: String,
    /// Content types, such as `images`, `iso`, `import`.
    pub content: Vec<String>,
    /// Whether every host of the cluster sees the same contents.
    pub shared: bool,
    /// Size in GiB.
    pub size_gib: u64,
}
