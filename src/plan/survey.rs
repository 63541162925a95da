//! What is known of Kubernetes on our machines: evidence, as data. What it means is judged by
//! [`super::life`].

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::cluster::{Identity, NodeName};

/// What is known of the cluster that runs on our machines.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Survey {
    /// Every machine of ours with a Kubernetes role that exists, whether it has a row or not.
    pub machines: BTreeMap<NodeName, Machine>,
    /// What answers on the API's port at the VIP.
    pub vip: Answer,
    /// What the API says, where it answers.
    pub api: Option<Api>,
    /// Whether it answers by its name, as every node and person calls it; asked where it answers at all.
    pub by_name: Answer,
    /// The one load balancer that holds the VIP; asked where the API answers.
    pub holder: Answer,
    /// What the state folder remembers of the cluster that was made.
    pub known: Option<Identity>,
    /// Whether the state folder holds the kubeconfig of such a cluster, which tells that there was one
    /// even where the record of its identity is lost.
    pub kubeconfig: bool,
}

/// What a machine says of itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Machine {
    /// Its VM does not run.
    Off,
    /// Its VM runs, and the machine cannot be asked.
    Silent {
        /// What was met instead of an answer.
        said: String,
    },
    /// It was asked.
    Seen(Box<Seen>),
}

/// What a machine that was asked has of Kubernetes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Seen {
    /// What tells this machine from every other one, for its whole life.
    pub machine_id: String,
    /// Whether it is a master by its mark or its row.
    pub master: bool,
    /// The hash of the CA's public key that it trusts.
    pub ca: Option<String>,
    /// Whether the kubelet has its own kubeconfig.
    pub kubelet: bool,
    /// Whether an API server is set up.
    pub apiserver: bool,
    /// What is on record of our `kubeadm init` there.
    pub init: Work,
    /// What is on record of our `kubeadm join` there.
    pub join: Work,
    /// What its own API server answers.
    pub api: Answer,
}

/// How far a long command of ours has come on a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Nothing is on record.
    #[default]
    None,
    /// It runs.
    Running,
    /// It ended well.
    Done,
    /// It ended badly.
    Failed,
    /// It was begun, and nothing tells that it ended well.
    Unfinished,
}

impl Work {
    /// Whether it was begun and has not ended well.
    pub fn is_open(self) -> bool {
        matches!(self, Work::Running | Work::Failed | Work::Unfinished)
    }
}

/// Whether an API server answers at an address.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It was not asked, for there is nothing that could answer.
    #[default]
    NotAsked,
    /// Something speaks TLS there.
    Answers {
        /// What it said.
        said: String,
    },
    /// Nothing does.
    Silent {
        /// What was met instead.
        said: String,
    },
}

/// The cluster as its API shows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Api {
    /// The master through which it was asked.
    pub via: String,
    /// The UID of the namespace `kube-system`, which lives as long as the cluster's data.
    pub uid: String,
    /// The hash of the CA's public key.
    pub ca: String,
    /// Our mark inside the cluster.
    pub mark: Option<ClusterMark>,
    /// Registered nodes by their names in Kubernetes.
    pub nodes: BTreeMap<String, KubeNode>,
    /// The settings that it runs with, by the profile's names ([`super::settings`]).
    pub settings: BTreeMap<String, String>,
    /// The members of a stacked etcd.
    pub members: Vec<StackedMember>,
}

/// Our mark inside a cluster: the ConfigMap `k8sha` in `kube-system`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClusterMark {
    /// The cluster's name.
    pub cluster: String,
    /// The creation id.
    pub creation: String,
    /// The pod network that we have installed.
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
    /// What tells the machine that registered it from every other one.
    pub machine_id: String,
    /// Its internal address.
    pub address: Option<String>,
    /// The kubelet's version, such as `v1.28.4`.
    pub kubelet: String,
}

/// A member of a stacked etcd.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StackedMember {
    /// Its name; empty until it has started once.
    pub name: String,
    /// The address that other members call it by.
    pub address: String,
    /// Its id in hexadecimal digits, as `etcdctl` takes it.
    pub id: String,
    /// Whether it was asked, since no row has its address, and did not answer.
    pub silent: bool,
}

impl Survey {
    /// Whether `kubeadm init` of this creation was completed once, as far as the state folder tells.
    pub fn was_made(&self) -> bool {
        self.known.is_some() || self.kubeconfig
    }

    /// What a machine that was asked has said.
    pub fn seen(&self, node: &NodeName) -> Option<&Seen> {
        match self.machines.get(node) {
            Some(Machine::Seen(seen)) => Some(seen),
            _ => None,
        }
    }

    /// The Node objects, where the API answers.
    pub fn nodes(&self) -> Option<&BTreeMap<String, KubeNode>> {
        self.api.as_ref().map(|api| &api.nodes)
    }
}

impl Seen {
    /// Whether nothing of Kubernetes has been set up.
    pub fn is_fresh(&self) -> bool {
        !self.kubelet && !self.apiserver && self.ca.is_none()
    }

    /// Whether it has a control plane that nothing of ours is still at work on.
    pub fn has_control_plane(&self) -> bool {
        self.apiserver && self.kubelet && !self.init.is_open() && !self.join.is_open()
    }
}
