//! Creates a VM and starts it: seed, clone, disk, start.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::Act;
use crate::cluster::{HostName, NodeName, VmId};
use crate::plan::queue::Queue;
use crate::plan::spec::NodeSpec;

/// Upload a node's seed ISO.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Seed {
    /// The node.
    pub node: NodeName,
    /// The host.
    pub host: HostName,
    /// The storage for it.
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
    /// The host of the template; differs only with shared storage.
    pub home: HostName,
    /// The template.
    pub source: VmId,
    /// The clone.
    pub vmid: VmId,
    /// Whether it is a full clone.
    pub full: bool,
    /// The storage of the disk; a linked clone is there already, and only queues for it.
    pub storage: String,
    /// The pool for the clone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// The wanted state of the VM: the clone has its mark from the start.
    #[serde(skip)]
    pub wanted: Arc<NodeSpec>,
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

/// Grow a VM's disk.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Grow {
    /// The node.
    pub node: NodeName,
    /// The host.
    pub host: HostName,
    /// The VMID.
    pub vmid: VmId,
    /// The size to reach, in GiB.
    pub to_gib: u32,
}

impl fmt::Display for Grow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "grow the disk to {} GiB", self.to_gib)
    }
}

impl Act for Grow {}

/// Start a VM.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Start {
    /// The node.
    pub node: NodeName,
    /// The host.
    pub host: HostName,
    /// The VMID.
    pub vmid: VmId,
    /// The size that its disk must have now, in GiB.
    pub disk_gib: u32,
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("start")
    }
}

impl Act for Start {}
