//! What a step is called. The name follows from the action, so that what one step says it needs is what
//! another one is called.

use std::fmt;

use serde::{Serialize, Serializer};

use super::{Action, StoredSeed};
use crate::cluster::{HostName, NodeName, VmId};

/// Which step: the kind of act and what it is about. Its text, such as `clone/k8s1master1`, is the
/// step's name in plans, events and reports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is the step of the action of the same name")]
pub enum StepId {
    Dns,
    Image(HostName, String),
    Template(HostName, String),
    Seed(NodeName),
    Clone(NodeName),
    Configure(NodeName),
    Grow(NodeName),
    Start(NodeName),
    Boot(NodeName),
    Eject(NodeName),
    DeleteSeed(StoredSeed),
    NodeDns(NodeName),
    Balance(NodeName),
    Vip,
    EtcdMember(NodeName),
    EtcdForm,
    EtcdClient(NodeName),
    Etcd,
    Init,
    Mark,
    Forget(NodeName),
    Reset(NodeName),
    Keys,
    Join(NodeName),
    Label(NodeName),
    Kubeconfig,
    Cni,
    Verify,
    ForgetEtcd,
    Destroy(NodeName, VmId),
    RemoveVolume(HostName, String),
    RemoveTemplate(HostName, VmId),
}

impl Action {
    /// What the step of this action is called.
    pub fn id(&self) -> StepId {
        match self {
            Action::Dns => StepId::Dns,
            Action::Image { host, os, .. } => StepId::Image(host.clone(), os.clone()),
            Action::Template { host, os, .. } => StepId::Template(host.clone(), os.clone()),
            Action::Seed { node, .. } => StepId::Seed(node.clone()),
            Action::Clone { node, .. } => StepId::Clone(node.clone()),
            Action::Configure { node, .. } => StepId::Configure(node.clone()),
            Action::Grow { node, .. } => StepId::Grow(node.clone()),
            Action::Start { node } => StepId::Start(node.clone()),
            Action::Boot { node, .. } => StepId::Boot(node.clone()),
            Action::Eject { node, .. } => StepId::Eject(node.clone()),
            Action::DeleteSeed { seed } => StepId::DeleteSeed(seed.clone()),
            Action::NodeDns { node } => StepId::NodeDns(node.clone()),
            Action::Balance { node, .. } => StepId::Balance(node.clone()),
            Action::Vip => StepId::Vip,
            Action::EtcdMember { node } => StepId::EtcdMember(node.clone()),
            Action::EtcdForm => StepId::EtcdForm,
            Action::EtcdClient { node } => StepId::EtcdClient(node.clone()),
            Action::Etcd { .. } => StepId::Etcd,
            Action::Init { .. } => StepId::Init,
            Action::Mark { .. } => StepId::Mark,
            Action::Forget { node, .. } => StepId::Forget(node.clone()),
            Action::Reset { node, .. } => StepId::Reset(node.clone()),
            Action::Keys { .. } => StepId::Keys,
            Action::Join { node, .. } => StepId::Join(node.clone()),
            Action::Label { node, .. } => StepId::Label(node.clone()),
            Action::Kubeconfig { .. } => StepId::Kubeconfig,
            Action::Cni { .. } => StepId::Cni,
            Action::Verify { .. } => StepId::Verify,
            Action::ForgetEtcd { .. } => StepId::ForgetEtcd,
            Action::Destroy { node, vmid, .. } => StepId::Destroy(node.clone(), *vmid),
            Action::RemoveVolume { host, volume } => {
                StepId::RemoveVolume(host.clone(), volume.clone())
            }
            Action::RemoveTemplate { host, vmid } => StepId::RemoveTemplate(host.clone(), *vmid),
        }
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StepId::Dns => f.write_str("dns"),
            StepId::Image(host, os) => write!(f, "image/{host}/{os}"),
            StepId::Template(host, os) => write!(f, "template/{host}/{os}"),
            StepId::Seed(node) => write!(f, "seed/{node}"),
            StepId::Clone(node) => write!(f, "clone/{node}"),
            StepId::Configure(node) => write!(f, "configure/{node}"),
            StepId::Grow(node) => write!(f, "grow/{node}"),
            StepId::Start(node) => write!(f, "start/{node}"),
            StepId::Boot(node) => write!(f, "boot/{node}"),
            StepId::Eject(node) => write!(f, "eject/{node}"),
            StepId::DeleteSeed(seed) => write!(f, "delete-seed/{}/{}", seed.host, seed.volume),
            StepId::NodeDns(node) => write!(f, "node-dns/{node}"),
            StepId::Balance(node) => write!(f, "balance/{node}"),
            StepId::Vip => f.write_str("vip"),
            StepId::EtcdMember(node) => write!(f, "etcd-member/{node}"),
            StepId::EtcdForm => f.write_str("etcd-form"),
            StepId::EtcdClient(node) => write!(f, "etcd-client/{node}"),
            StepId::Etcd => f.write_str("etcd"),
            StepId::Init => f.write_str("init"),
            StepId::Mark => f.write_str("mark"),
            StepId::Forget(node) => write!(f, "forget/{node}"),
            StepId::Reset(node) => write!(f, "reset/{node}"),
            StepId::Keys => f.write_str("keys"),
            StepId::Join(node) => write!(f, "join/{node}"),
            StepId::Label(node) => write!(f, "label/{node}"),
            StepId::Kubeconfig => f.write_str("kubeconfig"),
            StepId::Cni => f.write_str("cni"),
            StepId::Verify => f.write_str("verify"),
            StepId::ForgetEtcd => f.write_str("forget-etcd"),
            StepId::Destroy(node, vmid) => write!(f, "destroy/{node}/{vmid}"),
            StepId::RemoveVolume(host, volume) => write!(f, "remove/{host}/{volume}"),
            StepId::RemoveTemplate(host, vmid) => write!(f, "remove-template/{host}/{vmid}"),
        }
    }
}

impl Serialize for StepId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}
