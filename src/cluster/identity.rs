//! What tells one Kubernetes cluster from another, whatever it is called, and what the operator's
//! machine lacks of the keys that open it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::NodeName;

/// The identity of a cluster that was initialised. It is kept in the state folder, and compared with
/// what runs each time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The creation id: which making of a cluster of that name.
    pub creation: String,
    /// `sha256:` and the hash of the CA's public key, as `--discovery-token-ca-cert-hash` has it.
    pub ca: String,
    /// The UID of the namespace `kube-system`: it lives as long as the cluster's data.
    pub uid: String,
}

/// The keys that were not there when they were asked for. A machine that exists and whose key is
/// among them was made with another one, which is lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NewKeys {
    /// The creation id: this state folder has made nothing yet.
    pub creation: bool,
    /// The key with which we log in to every node.
    pub operator: bool,
    /// The authority of an etcd of ours.
    pub etcd: bool,
    /// SSH host keys.
    pub hosts: BTreeSet<NodeName>,
}
