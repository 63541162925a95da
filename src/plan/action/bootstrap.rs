//! The Kubernetes stage: init, joins, and what every cluster gets.

use std::fmt;

use serde::Serialize;

use super::Act;
use crate::cluster::NodeName;
use crate::plan::queue::Queue;

/// `kubeadm init`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Init {
    /// The master: no cluster exists, and everything that could show otherwise was queried.
    pub node: NodeName,
    /// Whether it resumes an earlier run there; only used in the phrase, because kubeadm's own
    /// files show what is left to do.
    pub resumed: bool,
}

impl fmt::Display for Init {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.resumed {
            false => "kubeadm init",
            true => "resume the unfinished kubeadm init",
        })
    }
}

impl Act for Init {}

/// Check that token and certificate key are valid, and renew them if not.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Keys {
    /// The master through which.
    pub via: NodeName,
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("check that token and certificate key are valid")
    }
}

impl Act for Keys {
    fn writes(&self) -> bool {
        false
    }
}

/// `kubeadm join`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Join {
    /// The node.
    pub node: NodeName,
    /// The master through which.
    pub via: NodeName,
    /// How many of these joins may run at once, if there is a limit: the length of their queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_once: Option<usize>,
}

impl fmt::Display for Join {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("kubeadm join")
    }
}

impl Act for Join {
    fn queue(&self) -> Option<Queue> {
        self.at_once.map(|length| Queue { name: "joins".to_owned(), length: Some(length) })
    }
}

/// Label a worker.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Label {
    /// The node.
    pub node: NodeName,
    /// The master through which.
    pub via: NodeName,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("label as worker")
    }
}

impl Act for Label {}

/// Fetch the admin kubeconfig.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Kubeconfig {
    /// The master from which.
    pub via: NodeName,
}

impl fmt::Display for Kubeconfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("fetch the kubeconfig")
    }
}

impl Act for Kubeconfig {}

/// Install the pod network.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cni {
    /// The master through which.
    pub via: NodeName,
}

impl fmt::Display for Cni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("install the pod network")
    }
}

impl Act for Cni {}

/// Check the cluster against the profile.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verify {
    /// The master through which.
    pub via: NodeName,
}

impl fmt::Display for Verify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("check the cluster against the profile")
    }
}

impl Act for Verify {
    fn writes(&self) -> bool {
        false
    }
}
