//! Which cluster this is, and machines that came and went.

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
    /// The pod network that is installed by now.
    pub cni: Option<String>,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("record which cluster this is")
    }
}

impl Act for Mark {}

/// Make the cluster forget a machine that is gone: its etcd member and its Node object.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Forget {
    /// The node whose machine it was.
    pub node: NodeName,
    /// The master through which.
    pub via: NodeName,
    /// The name of its Node object.
    pub name: String,
    /// Its machine id in that object; empty where it has none.
    pub machine_id: String,
    /// The addresses at which its member of a stacked etcd may be listed.
    pub members: Vec<Ipv4Addr>,
    /// Why it counts as gone, for the phrase.
    pub reason: String,
}

impl fmt::Display for Forget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "forget the lost machine {}: {}", self.name, self.reason)
    }
}

impl Act for Forget {}

/// `kubeadm reset` of what our own unfinished join has left.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reset {
    /// The node.
    pub node: NodeName,
    /// The master through which the cluster is asked whether it serves it.
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
