//! The history of irreversible acts on clusters, in order of time: tests use it to detect a second CA,
//! or the reset of a node in use.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::Guests;
use super::etcd::Base;
use super::kube::Kube;
use super::node::Ready;
use super::pki::{Authority, Pair};

/// One act on one machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Act {
    /// Seconds since the world was created.
    pub at: f64,
    /// The VM's name at that time.
    pub guest: String,
    /// The VM: `VMID@DATACENTER`.
    pub machine: String,
    /// The kind of act.
    pub what: What,
}

/// The kind of act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// `kubeadm init` was started.
    Init,
    /// An init started to use a cluster CA that no init had used before; its pin (`sha256:...`).
    Authority {
        /// The pin.
        pin: String,
    },
    /// An init created a cluster with new data.
    Cluster {
        /// `metadata.uid` of its namespace `kube-system`.
        uid: String,
    },
    /// An init took over data that an earlier cluster had left in an external etcd.
    Overwritten {
        /// `metadata.uid` of the namespace `kube-system`, which does not change.
        uid: String,
    },
    /// `kubeadm join` created a node.
    Joined {
        /// The Node's name.
        node: String,
    },
    /// `kubeadm reset` was run.
    Reset {
        /// The Node that the machine was in a cluster, if it was one.
        node: Option<String>,
        /// Whether that Node was Ready.
        ready: bool,
    },
    /// A Node object was deleted.
    NodeDeleted {
        /// Its name.
        node: String,
        /// Whether it was Ready with a running kubelet.
        ready: bool,
    },
    /// A member was removed from an etcd.
    MemberRemoved {
        /// Its peer address.
        peer: String,
        /// Whether it was running.
        up: bool,
    },
}

/// A summary of a Kubernetes cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterLine {
    /// `metadata.uid` of the namespace `kube-system`.
    pub uid: String,
    /// The pin of the CA that the ConfigMap `cluster-info` names.
    pub ca: String,
    /// The pins of the CAs that signed the certificates of the API servers serving this data, by VM
    /// name. More than one pin means a split cluster.
    pub servers: BTreeMap<String, String>,
    /// Its Nodes, and whether they are Ready.
    pub nodes: BTreeMap<String, bool>,
    /// The Nodes that are cordoned.
    pub cordoned: BTreeSet<String>,
    /// The members of the etcd on its masters by peer address, and whether they run. Empty if etcd is
    /// not on the masters.
    pub members: BTreeMap<String, bool>,
}

impl Guests {
    /// The clusters that still have data.
    pub fn clusters(&self) -> Vec<ClusterLine> {
        let pin = |cert: &str, key: &str| {
            let pair = Pair { cert: cert.to_owned(), key: key.to_owned() };
            Authority { pair, ..Authority::default() }.pin().unwrap_or_default()
        };
        let line = |(id, kube): (&String, &Kube)| {
            let base = Base::Stacked(id.clone());
            let serving = self
                .all
                .iter()
                .filter(|(key, guest)| guest.disk.kube.as_ref() == Some(id) && self.api_up(key));
            let members = kube.etcd.iter().flat_map(|etcd| &etcd.members);
            ClusterLine {
                uid: kube.uid.clone(),
                ca: kube.ca.pin().unwrap_or_default(),
                servers: serving
                    .map(|(key, guest)| {
                        let ca = self.api_ca(key).unwrap_or_default();
                        let private = guest.text("/etc/kubernetes/pki/ca.key").unwrap_or_default();
                        (guest.machine.name.clone(), pin(ca, private))
                    })
                    .collect(),
                nodes: kube
                    .nodes
                    .iter()
                    .map(|(name, node)| (name.clone(), self.ready(kube, node) == Ready::Yes))
                    .collect(),
                cordoned: kube
                    .nodes
                    .iter()
                    .filter(|(_, node)| node.cordoned)
                    .map(|(name, _)| name.clone())
                    .collect(),
                members: members
                    .filter_map(|member| {
                        Some((member.peer?.to_string(), self.member_up(&base, member)))
                    })
                    .collect(),
            }
        };
        self.kubes.iter().map(line).collect()
    }

    /// Records an act.
    pub(super) fn note(&mut self, key: &str, what: What) {
        let guest = self.all.get(key).map(|guest| guest.machine.name.clone());
        self.history.push(Act {
            at: self.now.seconds(),
            guest: guest.unwrap_or_default(),
            machine: key.to_owned(),
            what,
        });
    }

    /// Deletes a Node object of any cluster that has one of that name, as a user with `kubectl` does:
    /// no machine is notified, and no act is recorded.
    pub fn delete_node(&mut self, name: &str) -> bool {
        self.kubes.values_mut().any(|kube| kube.nodes.remove(name).is_some())
    }

    /// Removes a member from the etcd on masters, by its address, as a user with `etcdctl` does: no act
    /// is recorded.
    pub fn remove_member_at(&mut self, address: Ipv4Addr) -> bool {
        let stacked = self.kubes.values_mut().filter_map(|kube| kube.etcd.as_mut());
        let mut removed = false;
        for etcd in stacked {
            let before = etcd.members.len();
            etcd.members.retain(|member| member.peer.is_none_or(|peer| *peer.ip() != address));
            removed |= etcd.members.len() < before;
        }
        removed
    }

    /// All recorded acts, oldest first.
    pub fn history(&self) -> &[Act] {
        &self.history
    }
}
