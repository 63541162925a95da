//! DNS checks, from this machine and from a node.

use std::fmt;

use serde::Serialize;

use super::Act;
use crate::cluster::NodeName;

/// Check every name on every name server.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Dns;

impl fmt::Display for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("check every name on every name server")
    }
}

impl Act for Dns {
    fn writes(&self) -> bool {
        false
    }
}

/// Check every name server from a node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeDns {
    /// The node.
    pub node: NodeName,
}

impl fmt::Display for NodeDns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("check the name servers from the node")
    }
}

impl Act for NodeDns {
    fn writes(&self) -> bool {
        false
    }
}
