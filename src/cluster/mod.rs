//! The validated cluster model: the content of a profile without errors.
//!
//! This module does no I/O and imports no other part of the crate. Every [`Cluster`] value is
//! valid: names are DNS labels, addresses are unique and inside the subnet, every node's Proxmox VE
//! host is known. [`crate::profile`] creates it from the user's profile.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

mod etcd;
#[cfg(test)]
pub(crate) mod fixture;
mod identity;
pub(crate) mod jump;
mod network;
mod version;

pub(crate) use etcd::{ETCD_CLIENT_PORT, ETCD_PEER_PORT};
pub use etcd::{Etcd, EtcdRelease};
pub use identity::{Identity, NewKeys};
pub use jump::Jump;
pub use k8sha_proxmox::{CloneMode, HostName, VmId};
pub use network::{Network, Subnet};
pub use version::{KubeadmApi, Version};

/// The short name of a node of the table, such as `k8s1master1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeName(pub String);

impl NodeName {
    /// The name without its domain.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A Kubernetes cluster and its machines.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cluster {
    /// The cluster's name: kubeadm's `clusterName` and the name in k8sha's mark on every VM.
    pub name: String,
    /// How clients reach the API servers.
    pub api: Api,
    /// The network that the nodes share.
    pub network: Network,
    /// The settings for kubeadm.
    pub kubernetes: Kubernetes,
    /// Where the cluster's state is stored.
    pub etcd: Etcd,
    /// Settings of the two load balancers.
    pub balancer: Balancer,
    /// Who may log in to the nodes.
    pub access: Access,
    /// The Proxmox VE hosts and what the cluster uses of them.
    pub proxmox: Proxmox,
    /// Where packages and images come from instead of the Internet.
    pub mirrors: Mirrors,
    /// Operating systems by the name that the node table uses.
    pub images: BTreeMap<String, Image>,
    /// The node table, in the order of the profile.
    pub nodes: Vec<Node>,
}

/// The API endpoint: a name, a virtual address and a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Api {
    /// The short name, such as `k8s1api`.
    pub name: String,
    /// The name with the host domain, such as `k8s1api.kloud.lan`; kubeadm's `controlPlaneEndpoint`.
    pub fqdn: String,
    /// The virtual address that keepalived holds on exactly one load balancer.
    pub vip: Ipv4Addr,
    /// The port on the VIP and on every API server.
    pub port: u16,
}

/// The settings for kubeadm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kubernetes {
    /// The exact version, such as 1.28.4.
    pub version: Version,
    /// The pod network.
    pub pods: Ipv4Net,
    /// The prefix length of each node's slice of the pod network.
    pub node_mask: u8,
    /// The service network.
    pub services: Ipv4Net,
    /// Addresses for services of type LoadBalancer; kept free of overlap, used by nothing else.
    pub external: Option<Ipv4Net>,
    /// The cluster's DNS domain, such as `k8s1-prod.lan`.
    pub dns_domain: String,
    /// The implementation of services.
    pub proxy: ProxyMode,
    /// The pod network implementation to install.
    pub cni: Cni,
    /// How long kubeadm waits for the control plane.
    pub control_plane_timeout: Duration,
    /// How many masters join at once over an external etcd; `None` means all of them. Over a
    /// stacked etcd they always join one by one.
    pub parallel_joins: Option<usize>,
    /// Where the control plane's images come from instead of `registry.k8s.io`.
    pub image_repository: Option<String>,
    /// Image archives that every Kubernetes node imports before kubeadm needs them.
    pub image_archives: Vec<ImageArchive>,
}

/// An archive of container images, as `ctr images export` and `docker save` write them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageArchive {
    /// A file that the node already has: it came with its operating system's image.
    Node(PathBuf),
    /// A file that the node downloads.
    Download {
        /// Its URL.
        url: String,
        /// Its SHA-256, as 64 hex digits.
        sha256: String,
    },
}

/// The implementation of Kubernetes services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyMode {
    /// No kube-proxy: the CNI replaces it.
    None,
    /// kube-proxy with iptables.
    Iptables,
    /// kube-proxy with nftables (1.31 and later).
    Nftables,
    /// kube-proxy with IPVS (deprecated since 1.35).
    Ipvs,
}

/// The pod network implementation to install after the bootstrap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cni {
    /// None: the nodes stay NotReady until one is installed.
    None,
    /// Cilium, installed by its own command-line tool on the first master.
    Cilium {
        /// Cilium's version, such as 1.18.4.
        version: String,
        /// The version of `cilium-cli`, such as 0.18.9.
        cli_version: String,
    },
    /// Calico, installed by its operator.
    Calico {
        /// Calico's version, such as 3.32.2.
        version: String,
        /// How its agents forward packets.
        dataplane: CalicoDataplane,
    },
    /// A custom manifest, on the operator's machine.
    Manifest(PathBuf),
}

/// How Calico's agents forward packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CalicoDataplane {
    /// eBPF programs, which also replace kube-proxy.
    Ebpf,
    /// iptables, with a kube-proxy that uses iptables or IPVS.
    Iptables,
    /// nftables, with a kube-proxy that uses nftables.
    Nftables,
}

/// Settings of keepalived on the load balancers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Balancer {
    /// The VRRP virtual router id, unique on the segment: 1 to 255.
    pub vrid: u8,
    /// How soon the VIP leaves a load balancer that fails.
    pub failover: Failover,
    /// The time between two VRRP advertisements.
    pub advert: Duration,
}

/// How soon the VIP leaves a load balancer that fails: how often HAProxy is checked, and how many
/// failures count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Failover {
    /// A check of HAProxy every second, two failures: about three seconds in the worst case.
    Normal,
    /// Ten checks of HAProxy a second, one failure: under one second.
    Fast,
}

impl Failover {
    /// The matching time between two VRRP advertisements. The other load balancer waits for
    /// slightly more than three of them (RFC 9568, 6.1: `Active_Down_Interval`).
    pub fn advert(self) -> Duration {
        Duration::from_millis(match self {
            Failover::Normal => 900,
            Failover::Fast => 200,
        })
    }
}

/// Who may log in to the nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Access {
    /// The login user that cloud-init creates, with passwordless sudo.
    pub user: String,
    /// The operator's own public keys, in addition to the generated one.
    pub authorized_keys: Vec<String>,
    /// Whether the keys of the operator's ssh-agent are offered; by default, to the jump
    /// host only.
    pub agent: Option<bool>,
    /// The operator's own private key, offered too.
    pub identity: Option<PathBuf>,
    /// The machine through which the nodes are reached.
    pub jump: Option<Jump>,
}

/// The Proxmox VE settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proxmox {
    /// The hosts by name.
    pub hosts: BTreeMap<HostName, Host>,
    /// The pool of k8sha's VMs.
    pub pool: Option<String>,
    /// How a VM's disk is created from the template's.
    pub clone: CloneMode,
    /// The QEMU CPU type of every VM, such as `x86-64-v2-AES`.
    pub cpu: String,
    /// How many clones may run at once per (host, storage).
    pub parallel_clones: usize,
    /// How the hosts themselves are reached by SSH; only `k8sha routes` does that.
    pub ssh: HostLogin,
    /// The networks for which the hosts drop packets, so that nothing meant for the cluster leaves
    /// by the default route.
    pub blackholes: Vec<Ipv4Net>,
}

/// How the Proxmox VE hosts themselves are reached by SSH.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostLogin {
    /// The login user: `root`, or a user with passwordless sudo.
    pub user: String,
    /// The private key, on the operator's machine.
    pub identity: Option<PathBuf>,
    /// A file in OpenSSH's `known_hosts` form with the hosts' keys.
    pub known_hosts: Option<PathBuf>,
}

/// Where packages and images come from instead of the Internet. `None` means the default source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Mirrors {
    /// The distribution's packages, such as `http://archive.ubuntu.com/ubuntu`.
    pub apt: Option<String>,
    /// Replaces `https://pkgs.k8s.io`.
    pub kubernetes: Option<String>,
    /// Replaces `https://download.docker.com`.
    pub docker: Option<String>,
    /// Replaces `https://kernel.ubuntu.com/mainline`.
    pub kernels: Option<String>,
    /// Mirrors of container registries by the registry's name, tried in this order.
    pub registries: BTreeMap<String, Vec<String>>,
}

/// One Proxmox VE host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Host {
    /// The API's base address, such as `https://pve1.kloud.lan:8006`.
    pub endpoint: String,
    /// How its certificate is verified.
    pub trust: Option<Trust>,
    /// The address of its SSH server, `ADDRESS` or `ADDRESS:PORT`; by default the API's host and
    /// port 22.
    pub ssh_address: Option<String>,
    /// The host key of its SSH server, as one line; by default from a `known_hosts` file.
    pub ssh_host_key: Option<String>,
    /// The storage of VM disks, such as `local-lvm`.
    pub storage: String,
    /// The storage of ISO images (content type `iso`), such as `local`.
    pub iso_storage: String,
    /// The storage to which cloud images are downloaded (content type `import`), such as `local`.
    pub import_storage: String,
    /// The VMID of this host's template, per operating system.
    pub templates: BTreeMap<String, TemplateSource>,
}

/// How a Proxmox VE certificate is verified. There is no third way: k8sha does not trust unverified
/// certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// The SHA-256 of the leaf certificate.
    Fingerprint([u8; 32]),
    /// A PEM file with the signing CA, such as a copy of `/etc/pve/pve-root-ca.pem`.
    CaFile(PathBuf),
}

/// The source of the template of an operating system on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateSource {
    /// k8sha creates it from the image, on this VMID.
    Ours(VmId),
    /// The operator created it; k8sha only clones it.
    Theirs(VmId),
}

impl TemplateSource {
    /// The template's VMID, no matter who created it.
    pub fn vmid(self) -> VmId {
        match self {
            TemplateSource::Ours(id) | TemplateSource::Theirs(id) => id,
        }
    }
}

/// A cloud image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Image {
    /// The URL from which the host downloads it.
    pub url: String,
    /// Its SHA-256, as 64 hex digits.
    pub sha256: String,
}

/// The role of a node in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// HAProxy and keepalived.
    LoadBalancer,
    /// A member of k8sha's etcd.
    Etcd,
    /// A control-plane node.
    Master,
    /// A worker node.
    Worker,
}

impl Role {
    /// Parses a role as [`fmt::Display`] prints it.
    pub fn parse(text: &str) -> Option<Self> {
        let all = [Role::LoadBalancer, Role::Etcd, Role::Master, Role::Worker];
        all.into_iter().find(|role| role.to_string() == text)
    }

    /// Whether kubelet runs on it.
    pub(crate) fn is_kubernetes(self) -> bool {
        matches!(self, Role::Master | Role::Worker)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Role::LoadBalancer => "load-balancer",
            Role::Etcd => "etcd",
            Role::Master => "master",
            Role::Worker => "worker",
        })
    }
}

/// Which kernel a node runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kernel {
    /// The image's own.
    Stock,
    /// Ubuntu's hardware-enablement kernel.
    Hwe,
    /// A mainline build of kernel.ubuntu.com, such as 6.6.1.
    Mainline(Version),
}

/// A row of the node table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Its role.
    pub role: Role,
    /// The short host name.
    pub name: NodeName,
    /// The name with the host domain.
    pub fqdn: String,
    /// Its address.
    pub ip: Ipv4Addr,
    /// The operating system: a key of [`Cluster::images`].
    pub os: String,
    /// Its kernel.
    pub kernel: Kernel,
    /// Memory in MiB.
    pub ram_mib: u32,
    /// Virtual CPUs.
    pub vcpu: u32,
    /// Root disk in GiB.
    pub disk_gib: u32,
    /// Its Proxmox VE host.
    pub host: HostName,
    /// Its VMID.
    pub vmid: VmId,
    /// Whether the image already contains the packages of its role.
    pub preinstalled: bool,
}

impl Cluster {
    /// The nodes of a role, in table order.
    pub fn with_role(&self, role: Role) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| node.role == role)
    }

    /// The master that runs `kubeadm init`: the first of the table.
    pub fn first_master(&self) -> &Node {
        self.with_role(Role::Master)
            .next()
            .unwrap_or_else(|| unreachable!("a validated cluster has a master"))
    }

    /// The bridges, each with its VLAN tag, that the rows of a host and its templates need.
    pub fn bridges(&self, host: &HostName) -> BTreeSet<(String, Option<u16>)> {
        let rows = self.nodes.iter().filter(|node| node.host == *host);
        let homes = rows.map(|node| self.network.home(node.ip));
        let all = homes.chain([self.network.first()]);
        all.map(|subnet| (subnet.bridge, subnet.vlan)).collect()
    }

    /// The node with that short name.
    pub fn node(&self, name: &NodeName) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == *name)
    }
}
