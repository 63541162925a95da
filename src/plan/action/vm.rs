//! What makes a VM: seed, clone, configuration, disk, start.

use std::fmt;

use serde::Serialize;

use super::Act;
use crate::cluster::{HostName, NodeName, VmId};
use crate::plan::Change;
use crate::plan::queue::Queue;

/// Upload a node's seed ISO.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Seed {
    /// The node.
    pub node: NodeName,
    /// The host.
    pub host: HostName,
    /// The storage that takes it.
    pub storage: String,
    /// The file's name there.
    pub file: String,
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "upload {} to {}", self.file, self.storage)
    }
}

impl Act for Seed {}

/// Clone a template.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Clone {
    /// The node.
    pub node: NodeName,
    /// The host that the clone is for.
    pub host: HostName,
    /// The host that the template lives on; another one only with shared storage.
    pub home: HostName,
    /// The template.
    pub source: VmId,
    /// The clone.
    pub vmid: VmId,
    /// Whether the disk is copied whole.
    pub full: bool,
    /// The storage of the disk.
    pub storage: String,
}

impl fmt::Display for Clone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, vmid, full, storage, home, host, .. } = self;
        let kind = if *full { "full" } else { "linked" };
        write!(f, "clone {source} to {vmid} ({kind}, {storage})")?;
        if home != host { write!(f, " from {home}") } else { Ok(()) }
    }
}

impl Act for Clone {
    fn queue(&self) -> Option<Queue> {
        Some(Queue::allocates(&self.host, &self.storage))
    }

    fn copies(&self) -> bool {
        true
    }
}

/// Set a VM's configuration.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Configure {
    /// The node.
    pub node: NodeName,
    /// The settings that differ; empty when the VM does not exist yet.
    pub changes: Vec<Change>,
}

impl fmt::Display for Configure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.changes.is_empty() {
            return f.write_str("configure CPU, memory, network, seed, tags");
        }
        let keys: Vec<&str> = self.changes.iter().map(|change| change.key.as_str()).collect();
        write!(f, "configure {}", keys.join(", "))
    }
}

impl Act for Configure {}

/// Grow a VM's disk.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Grow {
    /// The node.
    pub node: NodeName,
    /// The size to reach, in GiB.
    pub to_gib: u32,
}

impl fmt::Display for Grow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "grow the disk to {} GiB", self.to_gib)
    }
}

impl Act for Grow {}

/// Switch a VM on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Start {
    /// The node.
    pub node: NodeName,
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("start")
    }
}

impl Act for Start {}
