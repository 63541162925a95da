//! Where etcd runs: stacked on the masters, on machines that k8sha creates, or external.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::{HostName, Version};

/// The client port of k8sha's etcd.
pub(crate) const ETCD_CLIENT_PORT: u16 = 2379;
/// The peer port of its members.
pub(crate) const ETCD_PEER_PORT: u16 = 2380;

/// Where the cluster's state is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Etcd {
    /// One etcd member on every master, created by kubeadm.
    Stacked,
    /// An external etcd, reached with the operator's files.
    External {
        /// `https://ADDRESS:PORT` of every member.
        endpoints: Vec<String>,
        /// The CA that signed the members' certificates (`etcd-ca.crt`), on the operator's machine.
        ca_file: PathBuf,
        /// The API servers' client certificate (`apiserver-etcd-client.crt`).
        cert_file: PathBuf,
        /// Its key (`apiserver-etcd-client.key`).
        key_file: PathBuf,
        /// The Proxmox VE host of each endpoint, if known; for the failure-domain warning.
        hosts: BTreeMap<String, HostName>,
    },
    /// k8sha's own, on separate machines: the rows of role `etcd`.
    Machines {
        /// What is installed on them; `None` if their images contain etcd.
        release: Option<EtcdRelease>,
        /// `https://ADDRESS:PORT` of every member, in table order.
        endpoints: Vec<String>,
    },
}

impl Etcd {
    /// The members' addresses, unless etcd runs on the masters.
    pub fn endpoints(&self) -> Option<&[String]> {
        match self {
            Etcd::Stacked => None,
            Etcd::External { endpoints, .. } | Etcd::Machines { endpoints, .. } => Some(endpoints),
        }
    }

    /// Whether the rows of role `etcd` are its members.
    pub fn is_ours(&self) -> bool {
        matches!(self, Etcd::Machines { .. })
    }
}

/// A release of etcd: an archive with `etcd` and `etcdctl` in one folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EtcdRelease {
    /// Its version, such as 3.5.33.
    pub version: Version,
    /// The URL from which each machine downloads it.
    pub url: String,
    /// The archive's SHA-256, as 64 hex digits.
    pub sha256: String,
}
