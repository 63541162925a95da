//! DaemonSets and Deployments as the API server prints them: kubeadm's add-ons, and the pod network
//! with the version of its images.

use serde_json::{Value, json};

use super::super::Guests;
use super::super::kube::Kube;
use super::super::node::Ready;
use super::objects::{list, metadata};

/// A DaemonSet of a cluster: namespace, name, image.
fn daemons(kube: &Kube, now: crate::world::SimTime) -> Vec<(String, String, String)> {
    let own =
        |namespace: &str, name: &str, image: String| (namespace.to_owned(), name.to_owned(), image);
    let mut found = Vec::new();
    if kube.proxy.is_some() {
        let image = format!("registry.k8s.io/kube-proxy:{}", kube.version);
        found.push(own("kube-system", "kube-proxy", image));
    }
    match &kube.cni {
        Some((by, at)) if *at <= now => match by.as_str() {
            "calico" => {
                let version = operator(kube).unwrap_or_default();
                let image = format!("quay.io/calico/node:{version}");
                found.push(own("calico-system", "calico-node", image));
            }
            by if by.starts_with(|c: char| c.is_ascii_digit()) => {
                found.push(own("kube-system", "cilium", format!("quay.io/cilium/cilium:v{by}")));
            }
            _ => {}
        },
        _ => {}
    }
    for (key, object) in &kube.applied {
        if let Some(name) = key.strip_prefix("daemonset/") {
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
            let containers = &object["spec"]["template"]["spec"]["containers"];
            let image = containers[0]["image"].as_str().unwrap_or_default();
            found.push(own(namespace, name, image.to_owned()));
        }
    }
    found
}

/// Calico's version, from its applied operator.
fn operator(kube: &Kube) -> Option<&str> {
    kube.applied.get("deployment/tigera-operator")?["version"].as_str()
}

/// All DaemonSets.
pub fn daemonsets(guests: &Guests, kube: &Kube) -> Value {
    let count = kube.nodes.len();
    let ready = kube.nodes.values().filter(|node| guests.ready(kube, node) == Ready::Yes).count();
    let items = daemons(kube, guests.now).into_iter().map(|(namespace, name, image)| {
        json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet",
            "metadata": metadata(&name, &namespace, &kube.uid),
            "spec": template(&name, &image),
            "status": {"currentNumberScheduled": count, "desiredNumberScheduled": count,
                "numberReady": ready, "updatedNumberScheduled": count, "numberAvailable": ready},
        })
    });
    list(items.collect())
}

/// All Deployments.
pub fn deployments(guests: &Guests, kube: &Kube) -> Value {
    let mut found = vec![("kube-system", "coredns", coredns(&kube.version).to_owned(), 2)];
    if kube.applied.contains_key("deployment/tigera-operator") {
        // The operator's version follows Calico's by its own rule.
        let version = operator(kube).unwrap_or_default();
        found.push((
            "tigera-operator",
            "tigera-operator",
            format!("quay.io/tigera/operator:{version}"),
            1,
        ));
    }
    match &kube.cni {
        Some((by, _)) if by.starts_with(|c: char| c.is_ascii_digit()) => {
            let image = format!("quay.io/cilium/operator-generic:v{by}");
            found.push(("kube-system", "cilium-operator", image, 1));
        }
        _ => {}
    }
    let any = kube.nodes.values().any(|node| guests.ready(kube, node) == Ready::Yes);
    let items = found.into_iter().map(|(namespace, name, image, replicas)| {
        let mut spec = template(name, &image);
        spec["replicas"] = replicas.into();
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": metadata(name, namespace, &kube.uid),
            "spec": spec,
            "status": {"replicas": replicas, "readyReplicas": if any { replicas } else { 0 },
                "updatedReplicas": replicas},
        })
    });
    list(items.collect())
}

fn template(name: &str, image: &str) -> Value {
    json!({
        "selector": {"matchLabels": {"k8s-app": name}},
        "template": {
            "metadata": {"labels": {"k8s-app": name}},
            "spec": {"containers": [{"image": image, "name": name}]},
        },
    })
}

/// CoreDNS's image, by kubeadm's minor (cmd/kubeadm/app/constants/constants.go).
fn coredns(version: &str) -> &'static str {
    match version.trim_start_matches("v1.").split('.').next().and_then(|minor| minor.parse().ok()) {
        Some(..=28u32) => "registry.k8s.io/coredns/coredns:v1.10.1",
        Some(29) => "registry.k8s.io/coredns/coredns:v1.11.1",
        Some(30..=32) => "registry.k8s.io/coredns/coredns:v1.11.3",
        Some(33) => "registry.k8s.io/coredns/coredns:v1.12.0",
        Some(34) => "registry.k8s.io/coredns/coredns:v1.12.1",
        Some(35) => "registry.k8s.io/coredns/coredns:v1.13.1",
        Some(36) => "registry.k8s.io/coredns/coredns:v1.14.2",
        _ => "registry.k8s.io/coredns/coredns:v1.14.6",
    }
}
