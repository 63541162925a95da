//! What was done to clusters and cannot be undone, in the order of time: the record by which a test
//! tells that a second CA was made, or a node reset that served.

use std::collections::BTreeMap;
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
    /// Seconds since the world was made.
    pub at: f64,
    /// The VM's name at that time.
    pub guest: String,
    /// Which VM it was: `VMID@DATACENTER`.
    pub machine: String,
    /// What was done.
    pub what: What,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// `kubeadm init` was started.
    Init,
    /// An init began to use a cluster CA that no init had used before; its pin (`sha256:...`).
    Authority {
        /// The pin.
        pin: String,
    },
    /// An init made a cluster with data of its own.
    Cluster {
        /// `metadata.uid` of its namespace `kube-system`.
        uid: String,
    },
    /// An init took over data that an earlier cluster had left in an external etcd.
    Overwritten {
        /// `metadata.uid` of the namespace `kube-system`, which stays.
        uid: String,
    },
    /// `kubeadm join` has made a node.
    Joined {
        /// The Node's name.
        node: String,
    },
    /// `kubeadm reset` was run.
    Reset {
        /// The Node as which the machine served a cluster, if it did.
        node: Option<String>,
        /// Whether that Node was Ready.
        ready: bool,
    },
    /// A Node object was deleted.
    NodeDeleted {
        /// Its name.
        node: String,
        /// Whether it was Ready.
        ready: bool,
    },
    /// A member was removed from an etcd.
    MemberRemoved {
        /// Where its peers reached it.
        peer: String,
        /// Whether it ran.
        up: bool,
    },
}

/// A Kubernetes cluster in a nutshell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterLine {
    /// `metadata.uid` of the namespace `kube-system`.
    pub uid: String,
    /// The pin of the CA that the ConfigMap `cluster-info` names.
    pub ca: String,
    /// The pins of the CAs by which API servers that serve this data have their certificates, by the
    /// VM's name. More than one pin is a cluster torn apart.
    pub servers: BTreeMap<String, String>,
    /// Its Nodes, and whether they are Ready.
    pub nodes: BTreeMap<String, bool>,
    /// The members of the etcd on its masters by their peer addresses, and whether they run. Empty
    /// where etcd is not on the masters.
    pub members: BTreeMap<String, bool>,
}

impl Guests {
    /// The clusters of which data is left.
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
                members: members
                    .filter_map(|member| {
                        Some((member.peer?.to_string(), self.member_up(&base, member)))
                    })
                    .collect(),
            }
        };
        self.kubes.iter().map(line).collect()
    }

    /// Writes an act down.
    pub(super) fn note(&mut self, key: &str, what: What) {
        let guest = self.all.get(key).map(|guest| guest.machine.name.clone());
        self.history.push(Act {
            at: self.now.seconds(),
            guest: guest.unwrap_or_default(),
            machine: key.to_owned(),
            what,
        });
    }

    /// Deletes a Node object of whatever cluster has one of that name, as a person with `kubectl` does:
    /// no machine is told, and nothing is written down.
    pub fn delete_node(&mut self, name: &str) -> bool {
        self.kubes.values_mut().any(|kube| kube.nodes.remove(name).is_some())
    }

    /// Removes a member from the etcd on masters, by its address, as a person with `etcdctl` does: nothing
    /// is written down.
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

    /// Everything that was written down, oldest first.
    pub fn history(&self) -> &[Act] {
        &self.history
    }
}
