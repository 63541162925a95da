//! The Kubernetes stage, phase by phase, over SSH.
//!
//! Every phase checks, acts, waits and checks again. It returns `true` if it changed something, and
//! `false` if everything already matched: so a phase may be run again after any interruption. The
//! order: `facts`, `etcd`, `vip`, `init`, `join`, `label`, `kubeconfig`, `cni`,
//! `ready`; before them `balance`, and `etcd::form` if k8sha manages the etcd. Commands that
//! take minutes run on the node as a systemd unit (`unit`) that survives a lost connection.

pub mod balance;
pub(crate) mod cluster_mark;
pub mod cni;
pub mod config;
pub(crate) mod drain;
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

    /// The path of the token and the certificate key on a master that created new ones.
    pub const KEYS: &str = "/etc/kubernetes/k8sha/keys.yaml";
    /// The record that k8sha's `kubeadm init` succeeded.
    pub(crate) const INIT_OVER: &str = "/etc/kubernetes/k8sha/initialised";
    /// The record that k8sha stopped the kubelet because the node leaves the cluster.
    pub(crate) const LEAVING: &str = "/etc/kubernetes/k8sha/leaving";

    /// The administrator's kubeconfig that kubeadm writes.
    pub const ADMIN: &str = "/etc/kubernetes/admin.conf";
    /// The kubelet's kubeconfig: it exists from the middle of `init` or `join` on.
    pub(crate) const KUBELET: &str = "/etc/kubernetes/kubelet.conf";
    /// The API server's static pod: it exists on a control plane.
    pub(crate) const APISERVER: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";
    /// The cluster's CA certificate.
    pub const CA: &str = "/etc/kubernetes/pki/ca.crt";
    /// The facts that cloud-init wrote about the node.
    pub const NODE: &str = "/etc/k8sha/node.json";
}
