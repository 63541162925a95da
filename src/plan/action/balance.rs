//! The load balancers: their files, and the check that one of them holds the VIP.

use std::fmt;

use serde::Serialize;

use super::Act;
use crate::cluster::NodeName;

/// Update a load balancer's configuration files and reload the services that use them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Balance {
    /// The node.
    pub node: NodeName,
    /// The files that differ, or all if it could not be queried.
    pub files: Vec<String>,
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.files.iter().map(|path| path.rsplit('/').next().unwrap_or(path));
        write!(f, "update {}", names.collect::<Vec<_>>().join(" and "))
    }
}

impl Act for Balance {}

/// Check that exactly one load balancer holds the VIP.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Vip;

impl fmt::Display for Vip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("check that one load balancer holds the VIP")
    }
}

impl Act for Vip {
    fn writes(&self) -> bool {
        false
    }
}
