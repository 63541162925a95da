//! Removes a cluster: only objects with k8sha's mark.

use std::fmt;

use serde::Serialize;

use super::Act;
use crate::cluster::{HostName, NodeName, VmId};

/// Stop and remove one of the cluster's VMs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Destroy {
    /// The node that its mark names.
    pub node: NodeName,
    /// The host.
    pub host: HostName,
    /// The VMID.
    pub vmid: VmId,
    /// The creation id in its mark.
    pub creation: String,
    /// The Node object that must not exist; `None` if the whole cluster is removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub without: Option<Without>,
}

/// A Node object that must not exist when its machine is removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Without {
    /// The master through which the cluster is asked.
    pub via: NodeName,
    /// The name of the Node object.
    pub name: String,
}

impl fmt::Display for Destroy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stop and remove VM {} on {}", self.vmid, self.host)
    }
}

impl Act for Destroy {
    fn copies(&self) -> bool {
        true
    }
}

/// Remove one of k8sha's files from a storage.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RemoveVolume {
    /// The host.
    pub host: HostName,
    /// The volume id.
    pub volume: String,
}

impl fmt::Display for RemoveVolume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "remove {}", self.volume)
    }
}

impl Act for RemoveVolume {
    fn copies(&self) -> bool {
        true
    }
}

/// Remove one of k8sha's templates.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RemoveTemplate {
    /// The host.
    pub host: HostName,
    /// The template's VMID.
    pub vmid: VmId,
}

impl fmt::Display for RemoveTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "remove template {}", self.vmid)
    }
}

impl Act for RemoveTemplate {
    fn copies(&self) -> bool {
        true
    }
}
