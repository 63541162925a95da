//! Kubernetes objects as the API server prints them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::Guests;
use super::super::kube::{Certs, Kube, Token};
use super::super::node::Ready;

pub(super) fn moment(unix: i64) -> String {
    OffsetDateTime::from_unix_timestamp(unix)
        .ok()
        .and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_default()
}

pub(super) fn packed(text: &str) -> String {
    STANDARD.encode(text)
}

pub(super) fn list(items: Vec<Value>) -> Value {
    json!({"apiVersion": "v1", "items": items, "kind": "List", "metadata": {"resourceVersion": ""}})
}

pub(super) fn metadata(name: &str, namespace: &str, uid: &str) -> Value {
    json!({"name": name, "namespace": namespace, "resourceVersion": "311", "uid": uid})
}

/// The Secret of a bootstrap token.
pub fn token(id: &str, token: &Token) -> Value {
    let mut data = Map::new();
    let mut put = |key: &str, text: &str| data.insert(key.to_owned(), packed(text).into());
    put("token-id", id);
    put("token-secret", &token.secret);
    if let Some(at) = token.expires {
        put("expiration", &moment(at));
    }
    if !token.description.is_empty() {
        put("description", &token.description);
    }
    if token.usable {
        put("auth-extra-groups", "system:bootstrappers:kubeadm:default-node-token");
        put("usage-bootstrap-authentication", "true");
        put("usage-bootstrap-signing", "true");
    }
    json!({
        "apiVersion": "v1",
        "data": data,
        "kind": "Secret",
        "metadata": metadata(&format!("bootstrap-token-{id}"), "kube-system", &token.uid),
        "type": "bootstrap.kubernetes.io/token",
    })
}

/// All bootstrap tokens.
pub fn tokens(kube: &Kube, unix: i64) -> Value {
    let live = kube.tokens.iter().filter(|(_, token)| token.expires.is_none_or(|at| at > unix));
    list(live.map(|(id, known)| token(id, known)).collect())
}

/// The Secret `kubeadm-certs`.
pub fn certs(kube: &Kube, certs: &Certs) -> Value {
    let mut data = Map::new();
    let mut names =
        vec!["ca.crt", "ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "sa.key", "sa.pub"];
    if certs.etcd.is_some() {
        names.extend(["external-etcd-ca.crt", "external-etcd.crt", "external-etcd.key"]);
    } else if !kube.external {
        names.extend(["etcd-ca.crt", "etcd-ca.key"]);
    }
    for name in names {
        // Encrypted: opaque without the key.
        data.insert(name.to_owned(), packed(&format!("\u{1}sealed {name}")).into());
    }
    let owner = kube.tokens.get(&certs.owner).map(|token| token.uid.as_str()).unwrap_or_default();
    let mut meta = metadata("kubeadm-certs", "kube-system", "0b0a54a6-5cf5-4d53-8f3e-1d5d5e9a4f00");
    meta["creationTimestamp"] = moment(certs.created).into();
    meta["ownerReferences"] = json!([{
        "apiVersion": "v1", "blockOwnerDeletion": true, "controller": true, "kind": "Secret",
        "name": format!("bootstrap-token-{}", certs.owner), "uid": owner,
    }]);
    json!({"apiVersion": "v1", "data": data, "kind": "Secret", "metadata": meta, "type": "Opaque"})
}

/// The pods of `kube-system`.
pub fn pods(guests: &Guests, kube: &Kube) -> Value {
    let mut items = Vec::new();
    let mut add = |name: String, node: Option<&str>, running: bool| {
        let app = name.rsplit_once('-').map_or("", |(app, _)| app).to_owned();
        let phase = if running { "Running" } else { "Pending" };
        let status = json!({
            "conditions": [{"status": if running { "True" } else { "False" }, "type": "Ready"}],
            "phase": phase,
        });
        items.push(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"labels": {"k8s-app": app}, "name": name, "namespace": "kube-system"},
            "spec": {"nodeName": node}, "status": status,
        }));
    };
    let any_ready = kube.nodes.values().any(|node| guests.ready(kube, node) == Ready::Yes);
    for suffix in ["7m4xq", "zk2p9"] {
        add(format!("coredns-5dd5756b68-{suffix}"), None, any_ready);
    }
    for (number, (name, node)) in kube.nodes.iter().enumerate() {
        if node.labels.contains_key("node-role.kubernetes.io/control-plane") {
            let there = guests.all.get(&node.guest).is_some_and(|guest| guest.is_node(node));
            let up = there && guests.api_up(&node.guest);
            for pod in ["kube-apiserver", "kube-controller-manager", "kube-scheduler"] {
                add(format!("{pod}-{name}"), Some(name), up);
            }
            if !kube.external {
                add(format!("etcd-{name}"), Some(name), up);
            }
        }
        if kube.proxy.is_some() {
            add(format!("kube-proxy-{number:05}"), Some(name), true);
        }
        if let Some((by, _)) = &kube.cni {
            // Cilium is identified by its version, the others by name.
            let agent = if by.starts_with(|c: char| c.is_ascii_digit()) { "cilium" } else { by };
            add(format!("{agent}-{number:05}"), Some(name), guests.ready(kube, node) == Ready::Yes);
        }
    }
    list(items)
}
