//! The profile as typed: what may stand in the file, before anything is known to make sense.
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
pub use super::at::{At, Section, Table, Written};
pub use super::written::{
    AccountName, AtOnce, Bridge, CertificateDigest, ClusterName, CpuType, DnsLabel, DnsName,
    EtcdUrl, FilePath, Gib, HostAddress, HostKeyLine, HostPort, HttpsUrl, ImageRepository, Mib,
    MirrorUrl, NodePath, PoolName, Port, PublicKey, PveNode, PveUrl, SecureUrl, Sha256,
    StorageName, UserName, Vlan,
};
use crate::cluster::{CalicoDataplane, CloneMode, Failover, Kernel, ProxyMode, Role, Version};
pub use offline::{Download, ImageArchive, Mirrors};

/// A Kubernetes cluster and the Proxmox VE machines that it lives on.
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
    /// What kubeadm is asked for.
    #[schemars(required)]
    pub kubernetes: Option<Section<Kubernetes>>,
    /// Where the cluster's state lives: `stacked`, `external`, or `machines` (rows of role `etcd`).
    #[schemars(required)]
    pub etcd: Option<Etcd>,
    /// Settings of keepalived on the load balancers.
    #[schemars(required)]
    pub balancer: Option<Section<Balancer>>,
    /// Who may log in to the nodes, and how they are reached.
    pub access: Option<Section<Access>>,
    /// The Proxmox VE hosts and what is used of them.
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
    /// The cluster's name: kubeadm's `clusterName`, and part of our mark on every VM.
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
    /// The port on the VIP and on every API server; 6443 unless said otherwise.
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
    /// NTP servers; the distribution's own unless said otherwise.
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
    /// Its Proxmox bridge; that of the first subnet, with its VLAN tag, unless said otherwise.
    pub bridge: Option<At<Bridge>>,
    /// Its VLAN tag.
    pub vlan: Option<At<Vlan>>,
}

/// What kubeadm is asked for.
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
    /// Addresses for services of type LoadBalancer; only kept free of overlaps.
    pub external: Option<At<Ipv4Net>>,
    /// The cluster's DNS domain; `cluster.local` unless said otherwise.
    pub dns_domain: Option<At<DnsName>>,
    /// Who implements services: `iptables` unless said otherwise.
    pub proxy: Option<At<ProxyMode>>,
    /// The pod network implementation to install; `none` unless said otherwise.
    pub cni: Option<Cni>,
    /// How long kubeadm waits for the control plane; `4m` unless said otherwise.
    pub control_plane_timeout: Option<At<Duration>>,
    /// How many masters join at once over an external etcd: a number, or `all` (unless said
    /// otherwise). Over a stacked etcd they join one by one.
    pub parallel_joins: Option<At<AtOnce>>,
    /// Where the control plane's images come from; `registry.k8s.io` unless said otherwise.
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
    /// The prefix length of each node's slice of it; 24 unless said otherwise.
    pub node_mask: Option<At<u8>>,
}

/// The pod network implementation to install.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Cni {
    /// None: the nodes stay NotReady until one is installed.
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
    /// How its agents move packets: `ebpf` (without kube-proxy), `iptables` or `nftables`; what
    /// `proxy` asks for unless said otherwise.
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

/// Where the cluster's state lives.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Etcd {
    /// One etcd member on every master, made by kubeadm.
    Stacked,
    /// An etcd that is there already.
    External(Box<Section<ExternalEtcd>>),
    /// An etcd of our own making: its members are the rows of role `etcd`.
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
    /// Where the archive is downloaded from; the release on GitHub unless said otherwise.
    pub url: Option<At<HttpsUrl>>,
}

/// An etcd that is there already.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExternalEtcd {
    /// `https://ADDRESS:PORT` of every member.
    #[schemars(required)]
    pub endpoints: Option<Vec<At<EtcdUrl>>>,
    /// The operator's files, relative to the profile.
    #[schemars(required)]
    pub files: Option<Section<EtcdFiles>>,
    /// Which Proxmox host a member lives on, by endpoint or address; for the warning about what
    /// the loss of a host costs.
    pub hosts: Option<Table<At<PveNode>>>,
}

/// What an API server needs to talk to etcd.
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
    /// How soon the VIP leaves a balancer that fails: `normal` (within 3.5 s) unless said otherwise,
    /// or `fast` (under 1 s) for a network and hosts that are never silent for half a second.
    pub failover: Option<At<Failover>>,
    /// The time between two VRRP advertisements; `900ms`, or `200ms` with `failover: fast`, unless
    /// said otherwise.
    pub advert: Option<At<Duration>>,
}

/// Who may log in to the nodes, and how they are reached.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// The login user, with sudo and no password; `ubuntu` unless said otherwise.
    pub user: Option<At<UserName>>,
    /// Public keys of your own, as in `~/.ssh/id_ed25519.pub`, besides the generated one.
    pub authorized_keys: Option<Vec<At<PublicKey>>>,
    /// Whether the keys of your ssh-agent are offered too; unless said otherwise, to the jump host
    /// if an agent runs, and to no node.
    pub agent: Option<At<bool>>,
    /// A private key of your own that is offered too, relative to the profile.
    pub identity: Option<At<FilePath>>,
    /// The machine through which the nodes are reached, as with `ssh -J`.
    pub jump: Option<Section<Jump>>,
}

/// The machine through which the nodes are reached. Its host key must be known beforehand.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jump {
    /// Its name or address.
    #[schemars(required)]
    pub host: Option<At<HostAddress>>,
    /// The port of its SSH server; 22 unless said otherwise.
    pub port: Option<At<Port>>,
    /// The login user there.
    #[schemars(required)]
    pub user: Option<At<AccountName>>,
    /// Its host key, such as `ssh-ed25519 AAAA…`.
    pub host_key: Option<At<HostKeyLine>>,
    /// A `known_hosts` file that has its key, relative to the profile; `~/.ssh/known_hosts` and
    /// `/etc/ssh/ssh_known_hosts` unless said otherwise.
    pub known_hosts: Option<At<FilePath>>,
}

/// The Proxmox VE hosts and what is used of them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Proxmox {
    /// The hosts by their Proxmox node name, such as `pve1`, spelled as Proxmox spells it.
    #[schemars(required)]
    pub hosts: Option<Table<Section<Host>>>,
    /// The pool that the VMs join; it must be there already.
    pub pool: Option<At<PoolName>>,
    /// How a VM's disk is made from the template's; `linked` unless said otherwise.
    pub clone: Option<At<CloneMode>>,
    /// The QEMU CPU type; `x86-64-v2-AES` unless said otherwise.
    pub cpu: Option<At<CpuType>>,
    /// How many clones may run at once per host and storage; 4 unless said otherwise.
    pub parallel_clones: Option<At<usize>>,
    /// How the hosts themselves are reached by SSH; only `k8sha routes` does that.
    pub ssh: Option<Section<HostLogin>>,
    /// The networks that `k8sha routes` makes the hosts drop packets to; the external, service and
    /// pod networks unless said otherwise.
    pub blackholes: Option<Vec<At<Ipv4Net>>>,
}

/// How the Proxmox VE hosts themselves are reached by SSH.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostLogin {
    /// The login user; `root` unless said otherwise. Another one needs sudo without a password.
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
    /// Where its SSH server is, `HOST` or `HOST:PORT`; the endpoint's host and port 22 unless said
    /// otherwise.
    pub ssh_address: Option<At<HostPort>>,
    /// The host key of its SSH server: `/etc/ssh/ssh_host_ed25519_key.pub` on it.
    pub ssh_host_key: Option<At<HostKeyLine>>,
    /// The storage of VM disks, such as `local-lvm`.
    #[schemars(required)]
    pub storage: Option<At<StorageName>>,
    /// The storage of ISO images; `local` unless said otherwise.
    pub iso_storage: Option<At<StorageName>>,
    /// The storage that cloud images are downloaded to; `local` unless said otherwise.
    pub import_storage: Option<At<StorageName>>,
    /// The template of each operating system: a VMID for us to make it on, or one of your own.
    #[schemars(required)]
    pub templates: Option<Table<Template>>,
}

/// The template of an operating system on a host.
#[derive(Clone, Debug, JsonSchema)]
#[serde(untagged)]
pub enum Template {
    /// The VMID on which k8sha makes the template.
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
    /// Whether you made it; k8sha then only clones it.
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
