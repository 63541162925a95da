//! The cluster's identity, and machines that were lost or replaced.

use std::fmt;
use std::net::Ipv4Addr;

use serde::Serialize;

use super::Act;
use crate::cluster::NodeName;

/// Record which cluster this is, in the state folder and inside the cluster.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mark {
    /// The master through which.
    pub via: NodeName,
    /// The pod network that is installed now.
    pub cni: Option<String>,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("record which cluster this is")
    }
}

impl Act for Mark {}

/// Remove a lost machine from the cluster: its etcd member and its Node object.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Forget {
    /// The node of the lost machine.
    pub node: NodeName,
    /// The master through which.
    pub via: NodeName,
    /// The name of its Node object.
    pub name: String,
    /// Its machine id in that object; empty if it has none.
    pub machine_id: String,
    /// The addresses under which its member of a stacked etcd may be listed.
    pub members: Vec<Ipv4Addr>,
    /// Why it counts as lost, for the phrase.
    pub reason: String,
}

impl fmt::Display for Forget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "remove the lost machine {} from the cluster: {}", self.name, self.reason)
    }
}

impl Act for Forget {}

/// Run `kubeadm reset` to remove an unfinished join.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reset {
    /// The node.
    pub node: NodeName,
    /// The master through which k8sha checks whether the cluster uses the node.
    pub via: NodeName,
    /// Why, for the phrase.
    pub reason: String,
}

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kubeadm reset: {}", self.reason)
    }
}

impl Act for Reset {}
