//! A Kubernetes cluster as its API server knows it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Lab;
use super::guest::Guest;
use super::pki::Authority;
use crate::sim::world::SimTime;

/// The id of the cluster that the site's etcd holds.
pub const EXTERNAL: &str = "external";
/// A kubelet whose lease is older than this is taken for dead
/// (kube-controller-manager `--node-monitor-grace-period`).
const GRACE: f64 = 40.0;

/// A cluster.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Kube {
    /// The cluster CA.
    pub ca: Authority,
    /// The control plane's version, such as `v1.28.4`.
    pub version: String,
    /// `controlPlaneEndpoint`.
    pub endpoint: String,
    /// `ClusterConfiguration` as the ConfigMap `kubeadm-config` holds it.
    pub configuration: String,
    /// Whether `etcd.external` is configured.
    pub external: bool,
    /// Guests with a member of the stacked etcd.
    pub members: BTreeSet<String>,
    /// A member that is a learner still: its guest, and until when.
    pub learner: Option<(String, SimTime)>,
    /// Node objects by name.
    pub nodes: BTreeMap<String, Node>,
    /// Bootstrap tokens by id.
    pub tokens: BTreeMap<String, Token>,
    /// The Secret `kubeadm-certs`.
    pub certs: Option<Certs>,
    /// kube-proxy's mode; `None` where it was skipped.
    pub proxy: Option<String>,
    /// From when on each node's CNI works, once one is installed: version and instant.
    pub cni: Option<(String, SimTime)>,
    /// What `kubectl apply` has left, by `kind/name` in lower case.
    #[serde(default)]
    pub applied: BTreeMap<String, Value>,
    /// When it was made, in seconds since the Unix epoch.
    pub created: i64,
}

/// A node object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// The guest whose kubelet reports it.
    pub guest: String,
    /// Its InternalIP.
    pub address: Ipv4Addr,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it has the control-plane taint.
    pub tainted: bool,
    /// The kubelet's version.
    pub kubelet: String,
    /// The kernel that it reported.
    pub kernel: String,
    /// The runtime that it reported, such as `containerd://1.7.28`.
    pub runtime: String,
    /// When it registered.
    pub since: SimTime,
    /// When its kubelet was last seen.
    pub seen: SimTime,
    /// `metadata.uid`.
    pub uid: String,
    /// Its number, from which its pod network follows.
    pub number: u32,
}

/// A bootstrap token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Token {
    /// The part after the dot.
    pub secret: String,
    /// When it ends, in seconds since the Unix epoch; `None` for never.
    pub expires: Option<i64>,
    /// `description`.
    pub description: String,
    /// Whether it may authenticate and sign.
    pub usable: bool,
    /// `metadata.uid` of its Secret.
    pub uid: String,
}

/// The Secret `kubeadm-certs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Certs {
    /// The key with which it is encrypted.
    pub key: String,
    /// The id of the token that owns it.
    pub owner: String,
    /// External etcd's CA, certificate and key, where it was uploaded with them.
    pub etcd: Option<[String; 3]>,
    /// When it was made, in seconds since the Unix epoch.
    pub created: i64,
}

/// Whether a node is ready, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// `True`.
    Yes,
    /// `False`: no CNI yet.
    NoNetwork,
    /// `Unknown`: nothing is heard from its kubelet.
    Unknown,
}

/// A random id in the form of a UUID, version 4.
pub fn uuid() -> String {
    let bits: u128 = rand::random();
    let bits = bits & !(0xf << 76) & !(0b11 << 62) | (4 << 76) | (0b10 << 62);
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// A random text of lower-case letters and digits.
pub fn random_text(length: usize) -> String {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    (0..length).map(|_| char::from(LETTERS[rand::random_range(0..LETTERS.len())])).collect()
}

impl Kube {
    /// Lets expired tokens go, and with them what they own.
    pub fn expire(&mut self, unix: i64) {
        self.tokens.retain(|_, token| token.expires.is_none_or(|at| at > unix));
        let tokens = &self.tokens;
        if self.certs.as_ref().is_some_and(|certs| !tokens.contains_key(&certs.owner)) {
            self.certs = None;
        }
    }

    /// Whether there is a usable token with this id.
    pub fn token(&self, id: &str, unix: i64) -> Option<&Token> {
        self.tokens.get(id).filter(|token| token.usable && token.expires.is_none_or(|at| at > unix))
    }

    /// The Secret `kubeadm-certs`, if it still lives.
    pub fn live_certs(&self, unix: i64) -> Option<&Certs> {
        self.certs.as_ref().filter(|certs| {
            let owner = self.tokens.get(&certs.owner);
            owner.is_some_and(|token| token.expires.is_none_or(|at| at > unix))
        })
    }

    /// Stores the certificates under a key, owned by a token that lives as long as they may.
    pub fn store_certs(&mut self, key: String, etcd: Option<[String; 3]>, unix: i64, life: i64) {
        let owner = random_text(6);
        let token = Token {
            secret: random_text(16),
            expires: Some(unix + life),
            description: "Proxy for managing TTL for the kubeadm-certs secret".to_owned(),
            usable: false,
            uid: uuid(),
        };
        self.tokens.insert(owner.clone(), token);
        self.certs = Some(Certs { key, owner, etcd, created: unix });
    }
}

impl Lab {
    /// What `kubectl apply` has left in all clusters.
    pub fn applied(&self) -> BTreeMap<String, Value> {
        self.kubes.values().flat_map(|kube| kube.applied.clone()).collect()
    }

    /// Whether this guest's API server serves.
    pub(crate) fn api_up(&self, key: &str) -> bool {
        let Some(guest) = self.guests.get(key) else { return false };
        let Some(run) = &guest.run else { return false };
        run.api_at.is_some_and(|at| at <= self.now)
            && guest.active("kubelet")
            && guest.active("containerd")
            && guest.exists("/etc/kubernetes/manifests/kube-apiserver.yaml")
            && self.store_up(guest)
    }

    fn store_up(&self, guest: &Guest) -> bool {
        let Some(kube) = guest.disk.kube.as_ref().and_then(|id| self.kubes.get(id)) else {
            return false;
        };
        if kube.external {
            return self.etcd_quorum();
        }
        let up = kube.members.iter().filter(|member| {
            self.guests.get(*member).is_some_and(|guest| {
                guest.run.as_ref().is_some_and(|run| run.network && run.api_at.is_some())
            })
        });
        up.count() * 2 > kube.members.len()
    }

    /// Whether a node is ready.
    pub(crate) fn ready(&self, kube: &Kube, node: &Node) -> Ready {
        let alive = self.guests.get(&node.guest).is_some_and(|guest| {
            guest.active("kubelet") && guest.disk.files.contains_key("/etc/kubernetes/kubelet.conf")
        });
        if !alive && self.now > node.seen.after(GRACE) {
            return Ready::Unknown;
        }
        match &kube.cni {
            Some((_, at)) if *at <= self.now && *at >= node.since => Ready::Yes,
            // The agent of a node that came later starts with the node.
            Some((_, at)) if *at <= self.now && node.since.after(super::pace::CNI) <= self.now => {
                Ready::Yes
            }
            _ => Ready::NoNetwork,
        }
    }

    /// Notes which kubelets report, and lets time end what it ends.
    pub(crate) fn heartbeat(&mut self) {
        let unix = self.unix();
        let now = self.now;
        for kube in self.kubes.values_mut() {
            kube.expire(unix);
            kube.learner.take_if(|(_, until)| *until <= now);
            for node in kube.nodes.values_mut() {
                let guest = self.guests.get(&node.guest);
                if guest.is_some_and(|guest| guest.active("kubelet")) {
                    node.seen = now;
                    let kernel = guest.and_then(|guest| guest.run.as_ref()).map(|run| &run.kernel);
                    if let Some(kernel) = kernel.filter(|kernel| **kernel != node.kernel) {
                        node.kernel.clone_from(kernel);
                    }
                }
            }
        }
    }

    /// Registers a guest as a node and writes what etcd would hold.
    pub(crate) fn register(&mut self, id: &str, name: &str, key: &str, control_plane: bool) {
        let Some(guest) = self.guests.get(key) else { return };
        let (Some(address), Some(run)) = (guest.address(), &guest.run) else { return };
        let runtime = format!("containerd://{}", guest.containerd().unwrap_or_default());
        let kubelet = guest.kube_version("kubelet").unwrap_or_default();
        let kernel = run.kernel.clone();
        let now = self.now;
        let Some(kube) = self.kubes.get_mut(id) else { return };
        let mut labels = BTreeMap::from([
            ("beta.kubernetes.io/arch".to_owned(), "amd64".to_owned()),
            ("beta.kubernetes.io/os".to_owned(), "linux".to_owned()),
            ("kubernetes.io/arch".to_owned(), "amd64".to_owned()),
            ("kubernetes.io/hostname".to_owned(), name.to_owned()),
            ("kubernetes.io/os".to_owned(), "linux".to_owned()),
        ]);
        if control_plane {
            labels.insert("node-role.kubernetes.io/control-plane".to_owned(), String::new());
            let balancers = "node.kubernetes.io/exclude-from-external-load-balancers";
            labels.insert(balancers.to_owned(), String::new());
        }
        let number = kube.nodes.get(name).map_or(kube.nodes.len() as u32, |node| node.number);
        let node = Node {
            guest: key.to_owned(),
            address,
            labels,
            tainted: control_plane,
            kubelet,
            kernel,
            runtime,
            since: now,
            seen: now,
            uid: uuid(),
            number,
        };
        kube.nodes.insert(name.to_owned(), node);
        if kube.external {
            self.note_in_etcd(&format!("/registry/minions/{name}"));
        }
    }

    /// Writes a key of the API server's into the external etcd.
    pub(crate) fn note_in_etcd(&mut self, key: &str) {
        if let Some(etcd) = &mut self.etcd {
            // What the API server writes is protobuf behind this magic number.
            etcd.put(key, STANDARD.encode(b"k8s\0"));
        }
    }

    /// The lab's clock as its machines show it, in seconds since the Unix epoch.
    pub(crate) fn unix(&self) -> i64 {
        self.epoch + (self.now.0 / 1000) as i64
    }
}
