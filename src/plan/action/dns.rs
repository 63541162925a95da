//! Asking the name servers, from here and from a node.

use std::fmt;

use serde::Serialize;

use super::Act;
use crate::cluster::NodeName;

/// Ask every name server for every name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Dns;

impl fmt::Display for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ask every name server for every name")
    }
}

impl Act for Dns {
    fn writes(&self) -> bool {
        false
    }
}

/// Ask every name server from inside a node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeDns {
    /// The node.
    pub node: NodeName,
}

impl fmt::Display for NodeDns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ask the name servers from the node")
    }
}

impl Act for NodeDns {
    fn writes(&self) -> bool {
        false
    }
}
