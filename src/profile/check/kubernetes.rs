//! Checks the `kubernetes` section.

use std::path::Path;
use std::time::Duration;

use super::{Notes, cni, offline, rows, within};
use crate::cluster::{Kubernetes, ProxyMode, Role, Version};
use crate::profile::at::{At, Section};
use crate::profile::complaint::Complaint;
use crate::profile::raw::{self, Profile};

/// The first minor with packages on pkgs.k8s.io.
const OLDEST: u16 = 24;
/// The first minor whose packages are signed with a key that has not expired. The key of 1.24 to
/// 1.27 expired on 2 November 2024 and was not renewed (kubernetes/release#3818,
/// kubernetes/kubernetes#128609): apt refuses them with `EXPKEYSIG 234654DA9A296436`.
const SIGNED: u16 = 28;
/// The default DNS domain of the cluster, as in kubeadm.
const DNS_DOMAIN: &str = "cluster.local";
/// The newest minor whose kubeadm this k8sha supports.
const NEWEST: u16 = 37;
/// The oldest minor that was still maintained when this k8sha was released
/// (kubernetes.io/releases).
const MAINTAINED: u16 = 35;
/// The largest service network that kube-apiserver accepts, and the smallest that kubeadm accepts.
const SERVICES_PREFIX: std::ops::RangeInclusive<u8> = 12..=28;
/// The default prefix length of a node's slice, as in Kubernetes.
pub(super) const NODE_MASK: u8 = 24;
/// How many bits a node's slice may add to the pod network's prefix: the limit of the controller
/// that assigns the slices (kubernetes pkg/controller/nodeipam/ipam/cidrset).
const SLICE_BITS_MAX: u8 = 16;

pub(super) fn settle(
    section: &Section<raw::Kubernetes>,
    profile: &Profile,
    base: &Path,
    notes: &mut Notes,
) -> Option<Kubernetes> {
    let typed = &section.value;
    let version = notes.need(section, "version", &typed.version);
    if let Some(version) = version {
        known(version, profile, notes);
    }
    let pods =
        notes.need(section, "pods", &typed.pods).and_then(|pods| slices(pods, profile, notes));
    let services = notes.need(section, "services", &typed.services);
    if let Some(services) = services
        && !SERVICES_PREFIX.contains(&services.value.prefix_len())
    {
        let text = format!("`{}` has an unsupported size for a service network", services.value);
        let hint = "a prefix length of 12 to 28";
        notes.push(Complaint::error(text).at(services.span.clone(), "").help(hint));
    }
    domain(typed, profile, notes);
    let proxy = proxy(typed, notes);
    let cni = cni::settle(typed, profile, base, notes);
    let image_archives = offline::archives(typed, notes);
    let control_plane_timeout = within(
        typed.control_plane_timeout.as_ref(),
        Duration::from_secs(240),
        (Duration::from_secs(30), "30s"),
        (Duration::from_secs(1800), "30m"),
        notes,
    );
    let (pods, node_mask) = pods?;
    let dns_domain = typed.dns_domain.as_ref();
    Some(Kubernetes {
        version: version?.value,
        pods,
        node_mask,
        services: services?.value,
        external: typed.external.as_ref().map(|net| net.value),
        dns_domain: dns_domain.map_or(DNS_DOMAIN, |domain| &domain.value.0).to_owned(),
        proxy,
        cni: cni?,
        control_plane_timeout,
        parallel_joins: typed.parallel_joins.as_ref().and_then(|joins| joins.value.0),
        image_repository: typed.image_repository.as_ref().map(|from| from.value.0.clone()),
        image_archives: image_archives?,
    })
}

/// Whether any node gets its packages directly from pkgs.k8s.io.
fn from_the_source(profile: &Profile) -> bool {
    let mirrored = profile.mirrors.as_ref().is_some_and(|all| all.value.kubernetes.is_some());
    let bare = rows(profile).any(|row| !row.preinstalled().is_some_and(|there| there.value));
    bare && !mirrored
}

fn known(version: &At<Version>, profile: &Profile, notes: &mut Notes) {
    let Version { major, minor, .. } = version.value;
    let complaint = if major != 1 || minor > NEWEST {
        let text =
            format!("Kubernetes {} is newer than this version of k8sha supports", version.value);
        Complaint::error(text).help(format!("the newest supported minor version is 1.{NEWEST}"))
    } else if minor < OLDEST {
        let text = format!("packages of Kubernetes {} are no longer available", version.value);
        Complaint::error(text).help(format!("pkgs.k8s.io starts at 1.{OLDEST}"))
    } else if minor < SIGNED && from_the_source(profile) {
        let text = format!("the signing key of the Kubernetes 1.{minor} packages has expired");
        Complaint::error(text).help(format!(
            "1.{SIGNED} or newer; or images that hold the packages (`preinstalled: true`), or a \
             mirror that signs them again (`mirrors.kubernetes`)"
        ))
    } else if minor < MAINTAINED {
        let text = format!(
            "Kubernetes 1.{minor} is end of life: it gets no fixes, not even security fixes"
        );
        Complaint::warning(text).help(format!("1.{MAINTAINED} to 1.{NEWEST} are maintained"))
    } else {
        return;
    };
    notes.push(complaint.at(version.span.clone(), ""));
}

fn slices(
    pods: &Section<raw::Pods>,
    profile: &Profile,
    notes: &mut Notes,
) -> Option<(ipnet::Ipv4Net, u8)> {
    let cidr = notes.need(pods, "cidr", &pods.value.cidr)?;
    let mask = pods.value.node_mask.as_ref();
    let (node_mask, span) = mask.map_or((NODE_MASK, &cidr.span), |mask| (mask.value, &mask.span));
    let prefix = cidr.value.prefix_len();
    if node_mask < prefix || node_mask > 30 {
        let text = format!("a node's slice of /{node_mask} does not fit into `{}`", cidr.value);
        let complaint = Complaint::error(text).at(span.clone(), "");
        notes.push(complaint.help(format!("a `node_mask` of {prefix} to 30")));
        return None;
    }
    let bits = node_mask - prefix;
    if bits > SLICE_BITS_MAX {
        let text = format!("`{}` has too many slices of /{node_mask}", cidr.value);
        let most = prefix + SLICE_BITS_MAX;
        let complaint = Complaint::error(text).at(span.clone(), "");
        notes
            .push(complaint.help(format!("Kubernetes takes a `node_mask` of at most {most} here")));
        return None;
    }
    let nodes = rows(profile)
        .filter(|row| row.section.value.role.as_ref().is_some_and(|r| r.value.is_kubernetes()))
        .count();
    let slices = 1_usize << bits;
    if slices < nodes {
        let text = format!("the pod network has {slices} slices of /{node_mask} for {nodes} nodes");
        let complaint = Complaint::error(text).at(span.clone(), "");
        notes.push(complaint.help("a larger `cidr`, or a larger `node_mask` (smaller slices)"));
        return None;
    }
    Some((cidr.value, node_mask))
}

fn domain(typed: &raw::Kubernetes, profile: &Profile, notes: &mut Notes) {
    let hosts = profile.network.as_ref().and_then(|network| network.value.domain.as_ref());
    let Some(hosts) = hosts else { return };
    let cluster = typed.dns_domain.as_ref().map_or(DNS_DOMAIN, |domain| &domain.value.0);
    let text = if hosts.value.0 == cluster {
        format!("the cluster and its hosts share `{cluster}`")
    } else if hosts.value.0.strip_suffix(cluster).is_some_and(|rest| rest.ends_with('.')) {
        format!("the domain of the hosts, `{}`, lies in the cluster's `{cluster}`", hosts.value.0)
    } else {
        return;
    };
    let mut complaint = Complaint::warning(text);
    if let Some(domain) = &typed.dns_domain {
        complaint = complaint.at(domain.span.clone(), "the cluster's DNS domain");
    }
    notes.push(complaint.at(hosts.span.clone(), "the domain of the hosts").help(
        "pods ask CoreDNS for all names below the cluster's domain, and it knows none of the hosts: \
         give `dns_domain` another name (`cluster.local` unless said otherwise)",
    ));
}

fn proxy(typed: &raw::Kubernetes, notes: &mut Notes) -> ProxyMode {
    let Some(proxy) = &typed.proxy else { return ProxyMode::Iptables };
    let minor = typed.version.as_ref().map(|version| version.value.minor);
    let complaint = match proxy.value {
        ProxyMode::Nftables if minor.is_some_and(|minor| minor < 31) => {
            Complaint::error("kube-proxy supports `nftables` since Kubernetes 1.31")
                .help("use `iptables` or a newer Kubernetes version")
        }
        ProxyMode::Ipvs if minor.is_some_and(|minor| minor >= 35) => {
            Complaint::warning("`ipvs` is deprecated since Kubernetes 1.35 and will be removed")
                .help("`nftables` does the same, or `none` with Cilium or Calico")
        }
        _ => return proxy.value,
    };
    notes.push(complaint.at(proxy.span.clone(), ""));
    proxy.value
}

/// The minimum for a role: vCPUs, MiB of memory, GiB of disk, and the source.
pub(super) fn least(role: Role) -> (u32, u32, u32, &'static str) {
    match role {
        Role::LoadBalancer => (1, 512, 4, "Ubuntu with HAProxy and keepalived needs this much"),
        Role::Etcd => (1, 1024, 8, "etcd, its log and its snapshots need this much"),
        Role::Master => (2, 1700, 10, "kubeadm's preflight checks require this much"),
        Role::Worker => (1, 1024, 10, "kubelet and its images need this much"),
    }
}
