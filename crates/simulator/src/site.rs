//! The initial state of a simulated site, as data.
//!
//! The caller that starts the simulator describes the site; the simulator knows nothing of profiles.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// The hardware: Proxmox hosts, a network with name servers, optionally an etcd.
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
    /// The name of the Kubernetes API in `records`: the target of the fault `dns-stale`.
    pub api: String,
    /// The existing pools.
    #[serde(default)]
    pub pools: Vec<String>,
    /// The router of the nodes' subnet.
    pub gateway: Ipv4Addr,
    /// `ADDRESS:PORT` of each member of an existing etcd.
    pub etcd: Vec<std::net::SocketAddrV4>,
    /// The packages in the site's cloud images besides Ubuntu's own, and their versions; an empty
    /// version is the one that apt would install.
    #[serde(default)]
    pub packages: BTreeMap<String, String>,
}

/// The default name of a cluster.
pub fn usual_name() -> String {
    "site".to_owned()
}

impl Site {
    /// Whether another site has hosts with the same names.
    pub fn has_hosts_of(&self, other: &Site) -> bool {
        let names = |site: &Site| -> BTreeSet<String> {
            site.hosts.iter().map(|host| host.name.clone()).collect()
        };
        names(self) == names(other)
    }
}

/// Whether the Proxmox VE hosts form one cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Topology {
    /// One Proxmox VE cluster: one VMID space, one set of users, calls are proxied between nodes.
    Cluster,
    /// Standalone hosts, each with its own VMIDs, users, tokens and certificates.
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
    /// The network cards of the bridges, such as `eno1`; `eth0` and so on by default.
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
