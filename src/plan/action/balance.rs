//! The load balancers: their files, and the VIP that one of them holds.

use std::fmt;

use serde::Serialize;

use super::Act;
use crate::cluster::NodeName;

/// Bring a load balancer's configuration files up to date, and let their programs read them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Balance {
    /// The node.
    pub node: NodeName,
    /// The files that differ, or all where it could not be asked.
    pub files: Vec<String>,
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.files.iter().map(|path| path.rsplit('/').next().unwrap_or(path));
        write!(f, "bring {} up to date", names.collect::<Vec<_>>().join(" and "))
    }
}

impl Act for Balance {}

/// See that exactly one load balancer holds the VIP.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Vip;

impl fmt::Display for Vip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("see that one load balancer holds the VIP")
    }
}

impl Act for Vip {
    fn writes(&self) -> bool {
        false
    }
}
