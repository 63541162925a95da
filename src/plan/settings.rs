//! Cluster-wide settings, by their names in the profile: those that `kubeadm init` fixed and that
//! can be compared with a running cluster. Pure.

use std::collections::BTreeMap;

use crate::cluster::{Cluster, Cni, Etcd, ProxyMode};

/// The setting of the pod network.
pub const CNI: &str = "kubernetes.cni";
/// The setting of the version.
pub const VERSION: &str = "kubernetes.version";

/// The settings in the profile. A running cluster's settings have the same names
/// ([`super::survey::Api::settings`]); one that is missing there could not be read.
pub fn wanted(cluster: &Cluster) -> BTreeMap<&'static str, String> {
    let kubernetes = &cluster.kubernetes;
    let proxy = match kubernetes.proxy {
        ProxyMode::None => "none",
        ProxyMode::Iptables => "iptables",
        ProxyMode::Nftables => "nftables",
        ProxyMode::Ipvs => "ipvs",
    };
    let etcd = match &cluster.etcd {
        Etcd::Stacked => "stacked".to_owned(),
        Etcd::External { .. } | Etcd::Machines { .. } => {
            cluster.etcd.endpoints().unwrap_or_default().join(", ")
        }
    };
    let repository = kubernetes.image_repository.as_deref().unwrap_or("registry.k8s.io");
    BTreeMap::from([
        ("cluster.name", cluster.name.clone()),
        ("cluster.api (name and network.domain)", cluster.api.fqdn.clone()),
        ("cluster.api.port", cluster.api.port.to_string()),
        ("cluster.api.vip", cluster.api.vip.to_string()),
        (VERSION, kubernetes.version.to_string()),
        ("kubernetes.pods.cidr", kubernetes.pods.to_string()),
        ("kubernetes.pods.node_mask", kubernetes.node_mask.to_string()),
        ("kubernetes.services", kubernetes.services.to_string()),
        ("kubernetes.dns_domain", kubernetes.dns_domain.clone()),
        ("kubernetes.proxy", proxy.to_owned()),
        ("kubernetes.image_repository", repository.to_owned()),
        (CNI, cni(&kubernetes.cni)),
        ("etcd", etcd),
    ])
}

/// The pod network as a phrase: its kind, and its version if k8sha chooses one.
pub fn cni(cni: &Cni) -> String {
    match cni {
        Cni::None => "none".to_owned(),
        Cni::Cilium { version, .. } => format!("cilium {version}"),
        Cni::Calico { version, .. } => format!("calico {version}"),
        Cni::Manifest(_) => "manifest".to_owned(),
    }
}
