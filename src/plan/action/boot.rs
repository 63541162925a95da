//! Waiting for a node's first boot.

use std::fmt;

use serde::Serialize;

use super::Act;
use crate::cluster::NodeName;

/// Wait until a node is reachable with the host key from its seed, has finished cloud-init and runs
/// the requested kernel.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Boot {
    /// The node.
    pub node: NodeName,
    /// Whether an earlier first boot failed, so that cloud-init runs again.
    pub again: bool,
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.again {
            false => "wait for SSH, cloud-init and the kernel",
            true => "run cloud-init again, because it failed",
        })
    }
}

impl Act for Boot {
    fn writes(&self) -> bool {
        self.again
    }
}
