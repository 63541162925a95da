//! The identity of a Kubernetes cluster, independent of its name, and the keys for it that the
//! operator's machine lacks.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::NodeName;

/// The identity of a cluster that was initialised. It is stored in the state folder, and compared
/// with the running cluster each time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The creation id, which distinguishes creations of a cluster with the same name.
    pub creation: String,
    /// `sha256:` and the hash of the CA's public key, in the form of
    /// `--discovery-token-ca-cert-hash`.
    pub ca: String,
    /// The UID of the namespace `kube-system`: it stays the same as long as the cluster's data.
    pub uid: String,
}

/// The keys that did not exist when they were requested. An existing machine whose key is among
/// them was created with another key, which is lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NewKeys {
    /// The creation id: this state folder has created nothing yet.
    pub creation: bool,
    /// The key with which k8sha logs in to every node.
    pub operator: bool,
    /// The CA of k8sha's etcd.
    pub etcd: bool,
    /// SSH host keys.
    pub hosts: BTreeSet<NodeName>,
}
