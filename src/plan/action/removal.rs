//! Machines that leave a running cluster because their rows were removed.

use std::fmt;

use serde::Serialize;

use super::Act;
use crate::cluster::NodeName;
use crate::plan::removal::Login;

/// Cordon a node and evict its pods, if it runs; in any case check that no data is on it alone.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Drain {
    /// The node.
    pub node: NodeName,
    /// The master through which.
    pub via: NodeName,
    /// The name of its Node object, whether it has one or not.
    pub name: String,
    /// The machine id in that object; `None` if there is nothing to evict, because the machine is off
    /// or the cluster has no such Node.
    pub machine_id: Option<String>,
}

impl fmt::Display for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.machine_id {
            Some(_) => "drain (evict its pods)",
            None => "check that no volume has its data on this machine alone",
        })
    }
}

impl Act for Drain {
    fn writes(&self) -> bool {
        self.machine_id.is_some()
    }
}

/// Stop a drained node's kubelet and delete its Node object.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeleteNode {
    /// The node.
    pub node: NodeName,
    /// The master through which.
    pub via: NodeName,
    /// The name of its Node object.
    pub name: String,
    /// The machine id in that object.
    pub machine_id: String,
    /// How to log in to the machine; `None` if it is off.
    pub login: Option<Login>,
}

impl fmt::Display for DeleteNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.login {
            Some(_) => write!(f, "stop its kubelet and delete the Node object {}", self.name),
            None => write!(f, "delete the Node object {}: its machine is off", self.name),
        }
    }
}

impl Act for DeleteNode {}

/// Return a node to service whose removal was started and whose row is back.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Uncordon {
    /// The node.
    pub node: NodeName,
    /// The master through which.
    pub via: NodeName,
    /// The name of its Node object.
    pub name: String,
    /// The machine id in that object.
    pub machine_id: String,
}

impl fmt::Display for Uncordon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("return the node to service: its removal was not finished")
    }
}

impl Act for Uncordon {}
