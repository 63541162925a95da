//! A Kubernetes cluster as its API server knows it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Guests;
use super::etcd::Etcd;
use super::node::Node;
use super::pki::Authority;
use crate::world::SimTime;

/// The id of the cluster in the site's etcd.
pub const EXTERNAL: &str = "external";

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
    /// `KubeletConfiguration` as the ConfigMap `kubelet-config` holds it.
    #[serde(default)]
    pub kubelet: String,
    /// Whether `etcd.external` is configured.
    pub external: bool,
    /// `metadata.uid` of the namespace `kube-system`: as old as the data.
    #[serde(default)]
    pub uid: String,
    /// The etcd on the masters, unless it is external. It exists as long as one machine has its data.
    #[serde(default)]
    pub etcd: Option<Etcd>,
    /// Node objects by name.
    pub nodes: BTreeMap<String, Node>,
    /// Bootstrap tokens by id.
    pub tokens: BTreeMap<String, Token>,
    /// The Secret `kubeadm-certs`.
    pub certs: Option<Certs>,
    /// kube-proxy's mode; `None` if it was skipped.
    pub proxy: Option<String>,
    /// The version of an installed CNI and, per node, the time from which it works.
    pub cni: Option<(String, SimTime)>,
    /// The objects stored by `kubectl apply`, by `kind/name` in lower case.
    #[serde(default)]
    pub applied: BTreeMap<String, Value>,
    /// Its creation time, in seconds since the Unix epoch.
    pub created: i64,
}

/// A bootstrap token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Token {
    /// The part after the dot.
    pub secret: String,
    /// Its expiry, in seconds since the Unix epoch; `None` for never.
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
    /// The key that encrypts it.
    pub key: String,
    /// The id of the token that owns it.
    pub owner: String,
    /// External etcd's CA, certificate and key, if they were uploaded with it.
    pub etcd: Option<[String; 3]>,
    /// The cluster CA of the machine that uploaded them.
    #[serde(default)]
    pub ca: Authority,
    /// Its creation time, in seconds since the Unix epoch.
    pub created: i64,
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
    /// Removes expired tokens, and with them what they own.
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

    /// The Secret `kubeadm-certs`, if it has not expired.
    pub fn live_certs(&self, unix: i64) -> Option<&Certs> {
        self.certs.as_ref().filter(|certs| {
            let owner = self.tokens.get(&certs.owner);
            owner.is_some_and(|token| token.expires.is_none_or(|at| at > unix))
        })
    }

    /// Stores the certificates under a key, owned by a token with the same lifetime.
    pub fn store_certs(
        &mut self,
        key: String,
        ca: Authority,
        etcd: Option<[String; 3]>,
        unix: i64,
        life: i64,
    ) {
        let owner = random_text(6);
        let token = Token {
            secret: random_text(16),
            expires: Some(unix + life),
            description: "Proxy for managing TTL for the kubeadm-certs secret".to_owned(),
            usable: false,
            uid: uuid(),
        };
        self.tokens.insert(owner.clone(), token);
        self.certs = Some(Certs { key, owner, etcd, ca, created: unix });
    }
}

impl Guests {
    /// The objects stored by `kubectl apply` in all clusters.
    pub fn applied(&self) -> BTreeMap<String, Value> {
        self.kubes.values().flat_map(|kube| kube.applied.clone()).collect()
    }

    /// The clock of the guests, in seconds since the Unix epoch.
    pub(crate) fn unix(&self) -> i64 {
        self.epoch + (self.now.0 / 1000) as i64
    }
}
