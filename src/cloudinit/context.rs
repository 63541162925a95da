//! The variables of the templates. `cloudinit/README.md` documents them.

use std::net::Ipv4Addr;

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::cluster::{
    Cluster, Cni, Etcd, Failover, ImageArchive, Kernel, Mirrors, Node, ProxyMode, Role, Version,
};

/// The replacement for a secret in output.
pub(super) const MASK: &str = "(masked)";

/// The default registry of the control plane's images.
const REPOSITORY: &str = "registry.k8s.io";
/// The default source of packages.
const KUBERNETES: &str = "https://pkgs.k8s.io";
const DOCKER: &str = "https://download.docker.com";
const KERNELS: &str = "https://kernel.ubuntu.com/mainline";

/// The keys of one node in its seed.
#[derive(Clone, Debug)]
pub struct NodeSecrets {
    /// The SSH host key, in OpenSSH's PEM form.
    pub host_key_private: SecretString,
    /// Its public half, one line such as `ssh-ed25519 AAAA… k8s1master1`.
    pub host_key_public: String,
    /// The public key with which k8sha itself logs in, one line.
    pub operator_public: String,
}

/// The root of the templates' variables.
#[derive(Serialize)]
pub(super) struct Variables<'a> {
    instance_id: &'a str,
    identity: String,
    distribution: &'static str,
    cluster: ClusterVars<'a>,
    node: NodeVars<'a>,
    network: NetworkVars<'a>,
    access: AccessVars<'a>,
    host_key: HostKeyVars<'a>,
    api: &'a crate::cluster::Api,
    kubernetes: KubernetesVars,
    cilium: Option<CiliumVars<'a>>,
    etcd: Option<EtcdVars<'a>>,
    mirrors: MirrorVars<'a>,
    images: Vec<ImageVars<'a>>,
    balancer: BalancerVars,
    masters: Vec<MasterVars<'a>>,
}

#[derive(Serialize)]
struct ClusterVars<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct NodeVars<'a> {
    name: &'a str,
    fqdn: &'a str,
    ip: Ipv4Addr,
    mac: String,
    role: Role,
    kernel: &'static str,
    kernel_version: Option<Version>,
    preinstalled: bool,
}

#[derive(Serialize)]
struct NetworkVars<'a> {
    prefix: u8,
    gateway: Ipv4Addr,
    domain: &'a str,
    nameservers: &'a [Ipv4Addr],
    ntp: &'a [String],
}

#[derive(Serialize)]
struct AccessVars<'a> {
    user: &'a str,
    authorized_keys: Vec<&'a str>,
}

#[derive(Serialize)]
struct HostKeyVars<'a> {
    private: &'a str,
    public: &'a str,
}

#[derive(Serialize)]
struct KubernetesVars {
    version: Version,
    minor: String,
    proxy: ProxyMode,
    pause: String,
}

#[derive(Serialize)]
struct CiliumVars<'a> {
    version: &'a str,
    cli_version: &'a str,
}

#[derive(Serialize)]
struct EtcdVars<'a> {
    version: Version,
    url: &'a str,
    sha256: &'a str,
}

#[derive(Serialize)]
struct MirrorVars<'a> {
    /// `None` means the image's own choice.
    apt: Option<&'a str>,
    kubernetes: &'a str,
    docker: &'a str,
    kernels: &'a str,
    registries: Vec<RegistryVars<'a>>,
}

#[derive(Serialize)]
struct RegistryVars<'a> {
    name: &'a str,
    /// The upstream, used if no mirror answers.
    server: String,
    mirrors: Vec<RegistryMirror<'a>>,
}

#[derive(Serialize)]
struct RegistryMirror<'a> {
    url: &'a str,
    /// Whether the address already is the API's complete root.
    whole: bool,
}

impl<'a> MirrorVars<'a> {
    fn new(mirrors: &'a Mirrors) -> Self {
        let or = |mirror: &'a Option<String>, usual| mirror.as_deref().unwrap_or(usual);
        let registry = |(name, mirrors): (&'a String, &'a Vec<String>)| RegistryVars {
            name,
            // Docker Hub's API has a different address than its name.
            server: match name.as_str() {
                "docker.io" => "https://registry-1.docker.io".to_owned(),
                name => format!("https://{name}"),
            },
            mirrors: mirrors
                .iter()
                .map(|url| RegistryMirror {
                    url,
                    whole: url.contains("/v2/") || url.ends_with("/v2"),
                })
                .collect(),
        };
        Self {
            apt: mirrors.apt.as_deref(),
            kubernetes: or(&mirrors.kubernetes, KUBERNETES),
            docker: or(&mirrors.docker, DOCKER),
            kernels: or(&mirrors.kernels, KERNELS),
            registries: mirrors.registries.iter().map(registry).collect(),
        }
    }
}

/// An archive of images, as the arguments of the script that imports it.
#[derive(Serialize)]
struct ImageVars<'a> {
    /// A path on the node, or an address.
    from: String,
    sha256: Option<&'a str>,
}

impl<'a> ImageVars<'a> {
    fn new(archive: &'a ImageArchive) -> Self {
        match archive {
            ImageArchive::Node(path) => Self { from: path.display().to_string(), sha256: None },
            ImageArchive::Download { url, sha256 } => {
                Self { from: url.clone(), sha256: Some(sha256) }
            }
        }
    }
}

#[derive(Serialize)]
struct BalancerVars {
    vrid: u8,
    priority: usize,
    failover: Failover,
    advert: String,
    peers: Vec<Ipv4Addr>,
}

#[derive(Serialize)]
struct MasterVars<'a> {
    name: &'a str,
    fqdn: &'a str,
    ip: Ipv4Addr,
}

/// The node's own facts, which the seed writes to `/etc/k8sha/node.json`.
#[derive(Serialize)]
struct Identity<'a> {
    cluster: &'a str,
    node: &'a str,
    role: Role,
    seed: &'a str,
}

impl<'a> Variables<'a> {
    /// Collects the variables of one node; `masked` leaves the secrets out.
    pub(super) fn new(
        cluster: &'a Cluster,
        node: &'a Node,
        secrets: &'a NodeSecrets,
        instance_id: &'a str,
        masked: bool,
    ) -> Self {
        let identity = Identity {
            cluster: &cluster.name,
            node: node.name.as_str(),
            role: node.role,
            seed: instance_id,
        };
        let (kernel, kernel_version) = match &node.kernel {
            Kernel::Stock => ("stock", None),
            Kernel::Hwe => ("hwe", None),
            Kernel::Mainline(version) => ("mainline", Some(*version)),
        };
        let home = cluster.network.home(node.ip);
        let mut authorized_keys = vec![secrets.operator_public.trim()];
        let repository = cluster.kubernetes.image_repository.as_deref().unwrap_or(REPOSITORY);
        authorized_keys.extend(cluster.access.authorized_keys.iter().map(|key| key.trim()));
        Variables {
            instance_id,
            identity: serde_json::json!(identity).to_string(),
            distribution: distribution(&node.os),
            cluster: ClusterVars { name: &cluster.name },
            node: NodeVars {
                name: node.name.as_str(),
                fqdn: &node.fqdn,
                ip: node.ip,
                mac: card_address(instance_id),
                role: node.role,
                kernel,
                kernel_version,
                preinstalled: node.preinstalled,
            },
            network: NetworkVars {
                prefix: home.subnet.prefix_len(),
                gateway: home.gateway,
                domain: &cluster.network.domain,
                nameservers: &cluster.network.nameservers,
                ntp: &cluster.network.ntp,
            },
            access: AccessVars { user: &cluster.access.user, authorized_keys },
            host_key: HostKeyVars {
                private: if masked { MASK } else { secrets.host_key_private.expose_secret() },
                public: secrets.host_key_public.trim(),
            },
            api: &cluster.api,
            kubernetes: KubernetesVars {
                version: cluster.kubernetes.version,
                minor: cluster.kubernetes.version.minor_text(),
                proxy: cluster.kubernetes.proxy,
                pause: format!("{repository}/pause:{}", pause(cluster.kubernetes.version)),
            },
            cilium: match &cluster.kubernetes.cni {
                Cni::Cilium { version, cli_version } => Some(CiliumVars { version, cli_version }),
                Cni::None | Cni::Calico { .. } | Cni::Manifest(_) => None,
            },
            etcd: match &cluster.etcd {
                Etcd::Machines { release: Some(release), .. } => Some(EtcdVars {
                    version: release.version,
                    url: &release.url,
                    sha256: &release.sha256,
                }),
                _ => None,
            },
            mirrors: MirrorVars::new(&cluster.mirrors),
            images: cluster.kubernetes.image_archives.iter().map(ImageVars::new).collect(),
            balancer: balancer(cluster, node),
            masters: cluster
                .with_role(Role::Master)
                .map(|master| MasterVars {
                    name: master.name.as_str(),
                    fqdn: &master.fqdn,
                    ip: master.ip,
                })
                .collect(),
        }
    }
}

/// The MAC address of a machine's card, derived from its instance id: known before the machine
/// exists, constant for its lifetime, and locally administered, so that it never equals one that
/// Proxmox VE assigns.
///
/// Source: IEEE Std 802, the U/L and I/G bits of the first octet.
pub(super) fn card_address(instance_id: &str) -> String {
    let hash = Sha256::digest(format!("card {instance_id}"));
    let first = hash.iter().take(1).map(|octet| octet & 0xfc | 0x02);
    let octets: Vec<String> = first
        .chain(hash.iter().skip(1).take(5).copied())
        .map(|octet| format!("{octet:02x}"))
        .collect();
    octets.join(":")
}

fn balancer(cluster: &Cluster, node: &Node) -> BalancerVars {
    let others = cluster.with_role(Role::LoadBalancer).filter(|other| other.name != node.name);
    let place = cluster
        .with_role(Role::LoadBalancer)
        .position(|other| other.name == node.name)
        .unwrap_or_default();
    BalancerVars {
        vrid: cluster.balancer.vrid,
        // VRRP allows 1 to 254; the first of the table has the highest priority.
        priority: 200usize.saturating_sub(10 * place).max(1),
        failover: cluster.balancer.failover,
        // Seconds; VRRP version 3 uses hundredths.
        advert: cluster.balancer.advert.as_secs_f64().to_string(),
        peers: others.map(|other| other.ip).collect(),
    }
}

/// The name of the distribution in the paths of Docker's package repository.
fn distribution(os: &str) -> &'static str {
    if os.to_ascii_lowercase().starts_with("debian") { "debian" } else { "ubuntu" }
}

/// The tag of the pause image released with a Kubernetes version.
///
/// Source: kubernetes `cmd/kubeadm/app/constants/constants.go`, `PauseVersion`, by release branch.
fn pause(version: Version) -> &'static str {
    match (version.major, version.minor) {
        (..=1, ..=25) => "3.8",
        (..=1, ..=30) => "3.9",
        (..=1, ..=33) => "3.10",
        (..=1, ..=35) => "3.10.1",
        _ => "3.10.2",
    }
}

/// The output of `uname -r` on a mainline kernel, such as `6.6.1-060601-generic` for 6.6.1.
///
/// Source: the package names of <https://kernel.ubuntu.com/mainline/>.
pub(crate) fn mainline_release(version: Version) -> String {
    let Version { major, minor, patch } = version;
    format!("{version}-{major:02}{minor:02}{patch:02}-generic")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn a_card_has_an_address_of_its_own_that_no_other_maker_gives() {
        let address = card_address("k8s1-cluster-k8s1master1-1");
        assert_eq!(address, card_address("k8s1-cluster-k8s1master1-1"));
        let mut all = std::collections::BTreeSet::new();
        for number in 0..2000 {
            let address = card_address(&format!("c-n-{number}"));
            let octets: Vec<u8> =
                address.split(':').map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect();
            assert_eq!(octets.len(), 6, "{address}");
            // Unicast, and locally administered.
            assert_eq!(octets[0] & 3, 2, "{address}");
            all.insert(address);
        }
        assert_eq!(all.len(), 2000);
    }

    #[test]
    fn a_mainline_release_is_named_as_ubuntu_names_it() {
        assert_eq!(mainline_release(version("6.6.1")), "6.6.1-060601-generic");
        assert_eq!(mainline_release(version("6.12.30")), "6.12.30-061230-generic");
    }

    #[test]
    fn the_pause_image_follows_the_kubernetes_version() {
        for (kubernetes, want) in
            [("1.28.4", "3.9"), ("1.31.0", "3.10"), ("1.34.2", "3.10.1"), ("1.37.1", "3.10.2")]
        {
            assert_eq!(pause(version(kubernetes)), want, "{kubernetes}");
        }
    }

    #[test]
    fn dockers_repository_is_chosen_by_the_operating_systems_name() {
        assert_eq!(distribution("Ubuntu 22.04"), "ubuntu");
        assert_eq!(distribution("debian-13"), "debian");
    }
}
