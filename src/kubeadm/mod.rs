//! The Kubernetes stage, phase by phase, over SSH.
//!
//! Every phase looks, acts, waits and looks again. It says `true` where it changed something, and
//! `false` where everything was as wanted: so a phase may be run again after any interruption.
//! The order: [`facts`], [`etcd`], [`vip`], [`init`], [`join`], [`label`], [`kubeconfig`], [`cni`],
//! [`ready`]. What takes minutes runs on the node as a systemd unit ([`unit`]) that a lost
//! connection does not end.

pub mod cni;
pub mod config;
mod error;
pub mod etcd;
pub mod facts;
#[cfg(test)]
pub(crate) mod fake;
mod files;
pub mod init;
pub mod join;
pub mod keys;
pub mod kubeconfig;
mod kubectl;
pub mod label;
pub mod preflight;
pub mod ready;
pub mod unit;
pub mod vip;

pub use error::Error;

/// Paths on a Kubernetes node.
pub mod path {
    /// The configuration of `kubeadm init`; holds the bootstrap token and the certificate key.
    pub const INIT: &str = "/etc/kubernetes/k8sha/init.yaml";
    /// The configuration of `kubeadm join`; holds the same.
    pub const JOIN: &str = "/etc/kubernetes/k8sha/join.yaml";
    /// The administrator's kubeconfig that kubeadm writes.
    pub const ADMIN: &str = "/etc/kubernetes/admin.conf";
    /// The kubelet's kubeconfig: there from the middle of `init` or `join` on.
    pub const KUBELET: &str = "/etc/kubernetes/kubelet.conf";
    /// The API server's static pod: there on a control plane.
    pub const APISERVER: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";
    /// The cluster's CA certificate.
    pub const CA: &str = "/etc/kubernetes/pki/ca.crt";
    /// The CA of an external etcd.
    pub const ETCD_CA: &str = "/etc/kubernetes/pki/etcd/etcd-ca.crt";
    /// The API servers' client certificate for an external etcd.
    pub const ETCD_CERT: &str = "/etc/kubernetes/pki/etcd/apiserver-etcd-client.crt";
    /// Its key.
    pub const ETCD_KEY: &str = "/etc/kubernetes/pki/etcd/apiserver-etcd-client.key";
    /// What cloud-init wrote down about the node.
    pub const NODE: &str = "/etc/k8sha/node.json";
}
