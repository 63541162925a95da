//! Waiting for a node's first boot.

use std::fmt;

use serde::Serialize;

use super::Act;
use crate::cluster::NodeName;

/// Wait until a node is reached with its planted host key, has finished cloud-init and runs
/// the kernel that was asked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Boot {
    /// The node.
    pub node: NodeName,
    /// Whether an earlier first boot has failed, so that cloud-init is run again.
    pub again: bool,
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.again {
            false => "wait for SSH, cloud-init and kernel",
            true => "run cloud-init again, which has failed",
        })
    }
}

impl Act for Boot {
    fn writes(&self) -> bool {
        self.again
    }
}
