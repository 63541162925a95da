//! The state of Kubernetes on k8sha's machines: evidence, as data. [`super::life`] judges it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::cluster::{Identity, NodeName};

/// What is known of the cluster on k8sha's machines.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Survey {
    /// Every machine with a Kubernetes role that exists, with or without a row.
    pub machines: BTreeMap<NodeName, Machine>,
    /// What answers on the API's port at the VIP.
    pub vip: Answer,
    /// What the API reports, if it answers.
    pub api: Option<Api>,
    /// Whether it answers under its DNS name, which nodes and users use; queried only if it answers
    /// at all.
    pub by_name: Answer,
    /// The one load balancer that holds the VIP; queried only if the API answers.
    pub holder: Answer,
    /// The cluster's identity in the state folder.
    pub known: Option<Identity>,
    /// Whether the state folder holds the kubeconfig of such a cluster, which proves that there was
    /// one even if the record of its identity is lost.
    pub kubeconfig: bool,
}

/// The state that a machine reports.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Machine {
    /// Its VM does not run.
    Off,
    /// Its VM runs, but the machine cannot be queried.
    Silent {
        /// The error instead of an answer.
        said: String,
    },
    /// It was queried.
    Seen(Box<Seen>),
}

/// The Kubernetes state of a machine that was queried.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Seen {
    /// The machine id, which identifies this machine for its whole life.
    pub machine_id: String,
    /// Whether its mark or its row makes it a master.
    pub master: bool,
    /// The hash of the CA's public key that it trusts.
    pub ca: Option<String>,
    /// Whether the kubelet has its own kubeconfig.
    pub kubelet: bool,
    /// Whether an API server is set up.
    pub apiserver: bool,
    /// The record of k8sha's `kubeadm init` there.
    pub init: Work,
    /// The record of k8sha's `kubeadm join` there.
    pub join: Work,
    /// Whether k8sha stopped its kubelet to remove it from the cluster.
    pub leaving: bool,
    /// The answer of its own API server.
    pub api: Answer,
}

/// The state of a long-running k8sha command on a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Nothing is on record.
    #[default]
    None,
    /// It is running.
    Running,
    /// It succeeded.
    Done,
    /// It failed.
    Failed,
    /// It was started, and nothing shows that it succeeded.
    Unfinished,
}

impl Work {
    /// Whether it was started and has not succeeded.
    pub fn is_open(self) -> bool {
        matches!(self, Work::Running | Work::Failed | Work::Unfinished)
    }
}

/// Whether an API server answers at an address.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It was not queried, because nothing there could answer.
    #[default]
    NotAsked,
    /// Something there speaks TLS.
    Answers {
        /// The answer.
        said: String,
    },
    /// Nothing answers.
    Silent {
        /// The error instead of an answer.
        said: String,
    },
}

/// The cluster as its API reports it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Api {
    /// The master through which it was queried.
    pub via: String,
    /// The UID of the namespace `kube-system`, which stays the same as long as the cluster's data.
    pub uid: String,
    /// The hash of the CA's public key.
    pub ca: String,
    /// k8sha's mark inside the cluster.
    pub mark: Option<ClusterMark>,
    /// Registered nodes by their names in Kubernetes.
    pub nodes: BTreeMap<String, KubeNode>,
    /// The settings in use, by their names in the profile ([`super::settings`]).
    pub settings: BTreeMap<String, String>,
    /// The members of a stacked etcd.
    pub members: Vec<StackedMember>,
}

/// k8sha's mark inside a cluster: the ConfigMap `k8sha` in `kube-system`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClusterMark {
    /// The cluster's name.
    pub cluster: String,
    /// The creation id.
    pub creation: String,
    /// The pod network that k8sha has installed.
    pub cni: Option<String>,
}

/// A node as the API server lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KubeNode {
    /// Its roles, such as `control-plane`.
    pub roles: BTreeSet<String>,
    /// Whether it is Ready.
    pub ready: bool,
    /// Why it is not.
    pub message: Option<String>,
    /// The machine id of the machine that registered it.
    pub machine_id: String,
    /// Its internal address.
    pub address: Option<String>,
    /// The kubelet's version, such as `v1.28.4`.
    pub kubelet: String,
    /// Whether it is cordoned.
    pub cordoned: bool,
    /// Whether k8sha has started to remove it.
    pub leaving: bool,
}

/// A member of a stacked etcd.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StackedMember {
    /// Its name; empty until its first start.
    pub name: String,
    /// The address under which other members reach it.
    pub address: String,
    /// Its id in hexadecimal digits, as `etcdctl` accepts it.
    pub id: String,
    /// Whether it was queried, because no row has its address, and did not answer.
    pub silent: bool,
}

impl Survey {
    /// Whether `kubeadm init` of this creation was completed once, according to the state folder.
    pub fn was_made(&self) -> bool {
        self.known.is_some() || self.kubeconfig
    }

    /// The report of a machine that was queried.
    pub fn seen(&self, node: &NodeName) -> Option<&Seen> {
        match self.machines.get(node) {
            Some(Machine::Seen(seen)) => Some(seen),
            _ => None,
        }
    }

    /// The Node objects, if the API answers.
    pub fn nodes(&self) -> Option<&BTreeMap<String, KubeNode>> {
        self.api.as_ref().map(|api| &api.nodes)
    }
}

impl Seen {
    /// Whether nothing of Kubernetes is set up.
    pub fn is_fresh(&self) -> bool {
        !self.kubelet && !self.apiserver && self.ca.is_none()
    }

    /// Whether it has a control plane and no k8sha command is still working on it.
    pub fn has_control_plane(&self) -> bool {
        self.apiserver && self.kubelet && !self.init.is_open() && !self.join.is_open()
    }
}
