//! The Kubernetes stage, phase by phase, over SSH.
//!
//! Every phase looks, acts, waits and looks again. It says `true` where it changed something, and
//! `false` where everything was as wanted: so a phase may be run again after any interruption.
//! The order: [`facts`], [`etcd`], [`vip`], [`init`], [`join`], [`label`], [`kubeconfig`], [`cni`],
//! [`ready`]; before them [`balance`], and [`etcd::form`] where etcd is ours. What takes minutes runs
//! on the node as a systemd unit ([`mod@unit`]) that a lost connection does not end.

pub mod balance;
pub(crate) mod cluster_mark;
pub mod cni;
pub mod config;
mod error;
pub mod etcd;
pub(crate) mod facts;
#[cfg(test)]
pub(crate) mod fake;
mod files;
pub(crate) mod forget;
pub(crate) mod init;
pub(crate) mod join;
pub(crate) mod keys;
pub(crate) mod kubeconfig;
pub(crate) mod kubectl;
pub(crate) mod label;
pub(crate) mod preflight;
pub(crate) mod probe;
pub(crate) mod ready;
pub(crate) mod reset;
pub(crate) mod running;
pub(crate) mod silence;
pub(crate) mod unit;
pub(crate) mod vip;

pub use error::Error;

/// Paths on a Kubernetes node.
pub mod path {
    pub use super::config::{
        ETCD_CA_FILE as ETCD_CA, ETCD_CERT_FILE as ETCD_CERT, ETCD_KEY_FILE as ETCD_KEY,
        INIT_FILE as INIT, JOIN_FILE as JOIN,
    };

    /// Where the token and the certificate key are kept on a master that made new ones.
    pub const KEYS: &str = "/etc/kubernetes/k8sha/keys.yaml";
    /// The record that our `kubeadm init` ended well.
    pub(crate) const INIT_OVER: &str = "/etc/kubernetes/k8sha/initialised";

    /// The administrator's kubeconfig that kubeadm writes.
    pub const ADMIN: &str = "/etc/kubernetes/admin.conf";
    /// The kubelet's kubeconfig: there from the middle of `init` or `join` on.
    pub(crate) const KUBELET: &str = "/etc/kubernetes/kubelet.conf";
    /// The API server's static pod: there on a control plane.
    pub(crate) const APISERVER: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";
    /// The cluster's CA certificate.
    pub const CA: &str = "/etc/kubernetes/pki/ca.crt";
    /// What cloud-init wrote down about the node.
    pub const NODE: &str = "/etc/k8sha/node.json";
}
