//! The profile as written in the file, before validation.
//!
//! Every field is optional here, so that a fault in one never hides another; the fields that a
//! profile must have are marked `required` for the JSON Schema and asked for by [`super::check`].
//! The doc comments are what an editor shows.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};

mod offline;

use super::at::EITHER;
pub use super::at::{At, Section, Table};
pub use super::written::{
    AccountName, AtOnce, Bridge, CertificateDigest, ClusterName, CpuType, DnsLabel, DnsName,
    EtcdUrl, FilePath, Gib, HostAddress, HostKeyLine, HostPort, HttpsUrl, ImageRepository, Mib,
    MirrorUrl, NodePath, PoolName, Port, PublicKey, PveNode, PveUrl, SecureUrl, Sha256,
    StorageName, UserName, Vlan,
};
use crate::cluster::{CalicoDataplane, CloneMode, Failover, Kernel, ProxyMode, Role, Version};
pub use offline::{ImageArchive, Mirrors};

/// A Kubernetes cluster and the Proxmox VE hosts that it runs on.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "k8sha profile")]
pub struct Profile {
    /// The cluster's name and its API endpoint.
    #[schemars(required)]
    pub cluster: Option<Section<Cluster>>,
    /// The network that the nodes share.
    #[schemars(required)]
    pub network: Option<Section<Network>>,
    /// The Kubernetes version and its settings.
    #[schemars(required)]
    pub kubernetes: Option<Section<Kubernetes>>,
    /// Where etcd runs: `stacked`, `external`, or `machines` (rows of role `etcd`).
    #[schemars(required)]
    pub etcd: Option<Etcd>,
    /// Settings of keepalived on the load balancers.
    #[schemars(required)]
    pub balancer: Option<Section<Balancer>>,
    /// SSH access to the nodes.
    pub access: Option<Section<Access>>,
    /// The Proxmox VE hosts and their resources.
    #[schemars(required)]
    pub proxmox: Option<Section<Proxmox>>,
    /// Where packages and images come from, for a site without the Internet.
    pub mirrors: Option<Section<Mirrors>>,
    /// Cloud images by the name that the node table uses, such as `ubuntu-22.04`.
    pub images: Option<Table<Section<Image>>>,
    /// Columns that rows of the node table share; a row's own value wins.
    pub defaults: Option<Section<Defaults>>,
    /// The node table: one row per VM.
    #[schemars(required)]
    pub nodes: Option<Vec<Section<Row>>>,
}

/// The cluster's name and its API endpoint.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Cluster")]
pub struct Cluster {
    /// The cluster's name: kubeadm's `clusterName`, and part of the mark on every VM.
    #[schemars(required)]
    pub name: Option<At<ClusterName>>,
    /// How clients reach the API servers.
    #[schemars(required)]
    pub api: Option<Section<Api>>,
}

/// How clients reach the API servers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// The short name, such as `k8s1api`; it must resolve to the VIP on every name server.
    #[schemars(required)]
    pub name: Option<At<DnsLabel>>,
    /// The virtual address that keepalived holds on one load balancer at a time.
    #[schemars(required)]
    pub vip: Option<At<Ipv4Addr>>,
    /// The port on the VIP and on every API server. Default: 6443.
    pub port: Option<At<Port>>,
}

/// The network that the nodes share.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// The subnet of every node and of the VIP, such as `10.101.1.0/24`.
    #[schemars(required)]
    pub subnet: Option<At<Ipv4Net>>,
    /// The default gateway, inside the subnet.
    #[schemars(required)]
    pub gateway: Option<At<Ipv4Addr>>,
    /// The domain of the hosts, such as `kloud.lan`; not the cluster's DNS domain.
    #[schemars(required)]
    pub domain: Option<At<DnsName>>,
    /// DNS servers; each of them must give the right answers.
    #[schemars(required)]
    pub nameservers: Option<Vec<At<Ipv4Addr>>>,
    /// NTP servers. Default: the distribution's own.
    pub ntp: Option<Vec<At<DnsName>>>,
    /// The Proxmox bridge of every NIC, such as `vmbr0`.
    #[schemars(required)]
    pub bridge: Option<At<Bridge>>,
    /// The VLAN tag of every NIC.
    pub vlan: Option<At<Vlan>>,
    /// Further subnets; a row belongs to the subnet that its `ip` lies in. The load balancers stay
    /// in the first one, beside the VIP.
    pub others: Option<Vec<Section<Subnet>>>,
}

/// A further subnet of nodes, with a route to the first one.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Subnet {
    /// The subnet, such as `10.103.1.0/24`.
    #[schemars(required)]
    pub subnet: Option<At<Ipv4Net>>,
    /// Its default gateway, inside it.
    #[schemars(required)]
    pub gateway: Option<At<Ipv4Addr>>,
    /// Its Proxmox bridge. Default: the bridge of the first subnet, with its VLAN tag.
    pub bridge: Option<At<Bridge>>,
    /// Its VLAN tag.
    pub vlan: Option<At<Vlan>>,
}

/// The Kubernetes version and its settings.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kubernetes {
    /// The exact version, such as `1.28.4`.
    #[schemars(required)]
    pub version: Option<At<Version>>,
    /// The pod network.
    #[schemars(required)]
    pub pods: Option<Section<Pods>>,
    /// The service network.
    #[schemars(required)]
    pub services: Option<At<Ipv4Net>>,
    /// Addresses for Services of type LoadBalancer; only checked for overlaps.
    pub external: Option<At<Ipv4Net>>,
    /// The cluster's DNS domain. Default: `cluster.local`.
    pub dns_domain: Option<At<DnsName>>,
    /// The kube-proxy mode, or `none`. Default: `iptables`.
    pub proxy: Option<At<ProxyMode>>,
    /// The pod network (CNI) to install. Default: `none`.
    pub cni: Option<Cni>,
    /// How long kubeadm waits for the control plane. Default: `4m`.
    pub control_plane_timeout: Option<At<Duration>>,
    /// How many masters join in parallel with an external etcd: a number, or `all`, the default.
    /// With a stacked etcd they join one by one.
    pub parallel_joins: Option<At<AtOnce>>,
    /// The repository of the control plane's images. Default: `registry.k8s.io`.
    pub image_repository: Option<At<ImageRepository>>,
    /// Archives of container images that every Kubernetes node imports before kubeadm: a path on
    /// the node, or `{url: …, sha256: …}`.
    pub image_archives: Option<Vec<ImageArchive>>,
}

/// The pod network.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pods {
    /// The network, such as `10.244.0.0/16`.
    #[schemars(required)]
    pub cidr: Option<At<Ipv4Net>>,
    /// The prefix length of each node's share of it. Default: 24.
    pub node_mask: Option<At<u8>>,
}

/// The pod network implementation to install.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Cni {
    /// None: the nodes stay NotReady until you install a CNI.
    None,
    /// Cilium, installed by its own command-line tool.
    Cilium(Section<Cilium>),
    /// Calico, installed by its operator.
    Calico(Section<Calico>),
    /// A manifest of your own, relative to the profile. `${K8SHA_POD_CIDR}`,
    /// `${K8SHA_SERVICE_CIDR}`, `${K8SHA_API_HOST}` and `${K8SHA_API_PORT}` in it are replaced.
    Manifest(At<FilePath>),
}

/// Which Calico.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Calico {
    /// Calico's version, such as `3.32.2`.
    #[schemars(required)]
    pub version: Option<At<Version>>,
    /// The data plane: `ebpf` (without kube-proxy), `iptables` or `nftables`. Default: the one that
    /// matches `proxy`.
    pub dataplane: Option<At<CalicoDataplane>>,
}

/// Which Cilium.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cilium {
    /// Cilium's version, such as `1.19.8`.
    #[schemars(required)]
    pub version: Option<At<Version>>,
    /// The version of `cilium-cli`, such as `0.19.7`.
    #[schemars(required)]
    pub cli_version: Option<At<Version>>,
}

/// Where etcd runs.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Etcd {
    /// One etcd member on every master, created by kubeadm.
    Stacked,
    /// An existing etcd.
    External(Box<Section<ExternalEtcd>>),
    /// An etcd that k8sha creates: its members are the rows of role `etcd`.
    Machines(Section<EtcdMachines>),
}

/// What is installed on the rows of role `etcd`. Rows with `preinstalled: true` need none of it:
/// their image holds an etcd.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EtcdMachines {
    /// The version of etcd, such as `3.5.33`. Ubuntu 22.04's own is too old for Kubernetes.
    pub version: Option<At<Version>>,
    /// The SHA-256 of the release's archive, as 64 hex digits; etcd publishes it in `SHA256SUMS`
    /// beside the archive.
    pub sha256: Option<At<Sha256>>,
    /// The URL of the archive. Default: the release on GitHub.
    pub url: Option<At<HttpsUrl>>,
}

/// An existing etcd.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExternalEtcd {
    /// `https://ADDRESS:PORT` of every member.
    #[schemars(required)]
    pub endpoints: Option<Vec<At<EtcdUrl>>>,
    /// The operator's files, relative to the profile.
    #[schemars(required)]
    pub files: Option<Section<EtcdFiles>>,
    /// The Proxmox host of each member, by endpoint or address; used to warn about what the loss of
    /// a host would take down.
    pub hosts: Option<Table<At<PveNode>>>,
}

/// The certificate files with which API servers connect to etcd.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EtcdFiles {
    /// The CA of the members' certificates, such as `etcd-ca.crt`.
    #[schemars(required)]
    pub ca: Option<At<FilePath>>,
    /// The client certificate, such as `apiserver-etcd-client.crt`.
    #[schemars(required)]
    pub cert: Option<At<FilePath>>,
    /// The client certificate's key, such as `apiserver-etcd-client.key`.
    #[schemars(required)]
    pub key: Option<At<FilePath>>,
}

/// Settings of keepalived on the load balancers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Balancer {
    /// The VRRP virtual router id, 1 to 255, unique on the network segment.
    #[schemars(required)]
    pub vrid: Option<At<u8>>,
    /// How fast the VIP leaves a failed load balancer: `normal` (within 3.5 s, the default), or
    /// `fast` (under 1 s) if network and hosts never stall for half a second.
    pub failover: Option<At<Failover>>,
    /// The interval between VRRP advertisements. Default: `900ms`, or `200ms` with `failover: fast`.
    pub advert: Option<At<Duration>>,
}

/// SSH access to the nodes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// The login user, with passwordless sudo. Default: `ubuntu`.
    pub user: Option<At<UserName>>,
    /// Public keys of your own, as in `~/.ssh/id_ed25519.pub`, besides the generated one.
    pub authorized_keys: Option<Vec<At<PublicKey>>>,
    /// Whether to offer the keys of your ssh-agent too. Default: to the jump host if an agent runs,
    /// and to no node.
    pub agent: Option<At<bool>>,
    /// A private key of your own that is offered too, relative to the profile.
    pub identity: Option<At<FilePath>>,
    /// The jump host for the nodes, as with `ssh -J`.
    pub jump: Option<Section<Jump>>,
}

/// The jump host for the nodes. Its host key must be known beforehand.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jump {
    /// Its name or address.
    #[schemars(required)]
    pub host: Option<At<HostAddress>>,
    /// The port of its SSH server. Default: 22.
    pub port: Option<At<Port>>,
    /// The login user there.
    #[schemars(required)]
    pub user: Option<At<AccountName>>,
    /// Its host key, such as `ssh-ed25519 AAAA…`.
    pub host_key: Option<At<HostKeyLine>>,
    /// A `known_hosts` file with its key, relative to the profile. Default: `~/.ssh/known_hosts` and
    /// `/etc/ssh/ssh_known_hosts`.
    pub known_hosts: Option<At<FilePath>>,
}

/// The Proxmox VE hosts and their resources.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Proxmox {
    /// The hosts by their Proxmox node name, such as `pve1`, spelled as Proxmox spells it.
    #[schemars(required)]
    pub hosts: Option<Table<Section<Host>>>,
    /// The pool that the VMs join; it must exist.
    pub pool: Option<At<PoolName>>,
    /// How a VM's disk is cloned from the template's. Default: `linked`.
    pub clone: Option<At<CloneMode>>,
    /// The QEMU CPU type. Default: `x86-64-v2-AES`.
    pub cpu: Option<At<CpuType>>,
    /// How many clones may run in parallel per host and storage. Default: 4.
    pub parallel_clones: Option<At<usize>>,
    /// How the hosts themselves are reached by SSH; only `k8sha routes` does that.
    pub ssh: Option<Section<HostLogin>>,
    /// The networks for which `k8sha routes` sets blackhole routes on the hosts. Default: the
    /// external, service and pod networks.
    pub blackholes: Option<Vec<At<Ipv4Net>>>,
}

/// How the Proxmox VE hosts themselves are reached by SSH.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostLogin {
    /// The login user. Default: `root`. Any other user needs passwordless sudo.
    pub user: Option<At<AccountName>>,
    /// A private key without passphrase, relative to the profile.
    pub identity: Option<At<FilePath>>,
    /// A file in the form of OpenSSH's `known_hosts`, relative to the profile.
    pub known_hosts: Option<At<FilePath>>,
}

/// One Proxmox VE host.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// The API's base address, such as `https://pve1.kloud.lan:8006`.
    #[schemars(required)]
    pub endpoint: Option<At<PveUrl>>,
    /// The SHA-256 fingerprint of its certificate, as `pvenode cert info` prints it.
    pub fingerprint: Option<At<CertificateDigest>>,
    /// A PEM file with the CA that signed its certificate, relative to the profile.
    pub ca_file: Option<At<FilePath>>,
    /// The address of its SSH server, `HOST` or `HOST:PORT`. Default: the endpoint's host, port 22.
    pub ssh_address: Option<At<HostPort>>,
    /// The host key of its SSH server: `/etc/ssh/ssh_host_ed25519_key.pub` on it.
    pub ssh_host_key: Option<At<HostKeyLine>>,
    /// The storage of VM disks, such as `local-lvm`.
    #[schemars(required)]
    pub storage: Option<At<StorageName>>,
    /// The storage of ISO images. Default: `local`.
    pub iso_storage: Option<At<StorageName>>,
    /// The storage for downloaded cloud images. Default: `local`.
    pub import_storage: Option<At<StorageName>>,
    /// The template of each operating system: a VMID on which k8sha creates it, or your own template.
    #[schemars(required)]
    pub templates: Option<Table<Template>>,
}

/// The template of an operating system on a host.
#[derive(Clone, Debug, JsonSchema)]
#[serde(untagged)]
pub enum Template {
    /// The VMID on which k8sha creates the template.
    Ours(At<u32>),
    /// A VMID, and whose template it is.
    Said(OwnTemplate),
}

/// A VMID, and whose template it is.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnTemplate {
    /// The template's VMID.
    #[schemars(required)]
    pub vmid: Option<At<u32>>,
    /// Whether it is your own template; k8sha then only clones it.
    pub mine: Option<At<bool>>,
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Template;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a VMID, or `{vmid: 9000, mine: true}`")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(
                self,
                word: D,
            ) -> Result<Template, D::Error> {
                At::deserialize(word).map(Template::Ours)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Template, A::Error> {
                OwnTemplate::deserialize(MapAccessDeserializer::new(map)).map(Template::Said)
            }
        }

        deserializer.deserialize_newtype_struct(EITHER, Either)
    }
}

/// A cloud image.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Where the Proxmox host downloads it from.
    #[schemars(required)]
    pub url: Option<At<HttpsUrl>>,
    /// Its SHA-256, as 64 hex digits; Ubuntu publishes it in `SHA256SUMS` beside the image.
    #[schemars(required)]
    pub sha256: Option<At<Sha256>>,
}

/// Columns that rows of the node table share.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// The operating system: a name under `images`.
    pub os: Option<At<String>>,
    /// The kernel: `stock`, `hwe` or `mainline-X.Y.Z`.
    pub kernel: Option<At<Kernel>>,
    /// Memory, such as `4G`.
    pub ram: Option<At<Mib>>,
    /// Virtual CPUs.
    pub vcpu: Option<At<u32>>,
    /// The root disk, such as `20G`.
    pub disk: Option<At<Gib>>,
    /// The Proxmox host: a name under `proxmox.hosts`.
    pub pve: Option<At<String>>,
    /// Whether the image already holds the packages of the node's role.
    pub preinstalled: Option<At<bool>>,
}

/// A row of the node table.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Node")]
pub struct Row {
    /// What it does: `load-balancer`, `etcd`, `master` or `worker`.
    #[schemars(required)]
    pub role: Option<At<Role>>,
    /// The short host name.
    #[schemars(required)]
    pub name: Option<At<DnsLabel>>,
    /// Its address.
    #[schemars(required)]
    pub ip: Option<At<Ipv4Addr>>,
    /// The operating system: a name under `images`.
    pub os: Option<At<String>>,
    /// The kernel: `stock`, `hwe` or `mainline-X.Y.Z`.
    pub kernel: Option<At<Kernel>>,
    /// Memory, such as `4G`.
    pub ram: Option<At<Mib>>,
    /// Virtual CPUs.
    pub vcpu: Option<At<u32>>,
    /// The root disk, such as `20G`.
    pub disk: Option<At<Gib>>,
    /// The Proxmox host: a name under `proxmox.hosts`.
    pub pve: Option<At<String>>,
    /// Its VMID, 100 to 999999999, unique in the table.
    #[schemars(required)]
    pub vmid: Option<At<u32>>,
    /// Whether the image already holds the packages of the node's role.
    pub preinstalled: Option<At<bool>>,
}
