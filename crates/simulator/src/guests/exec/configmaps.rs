//! ConfigMaps and namespaces as the API server prints them.

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::super::kube::Kube;
use super::super::pki::hex;
use super::objects::{list, metadata, moment, packed};

/// A ConfigMap of kubeadm's, or an applied one.
pub fn get(kube: &Kube, namespace: &str, name: &str, unix: i64) -> Option<Value> {
    match (namespace, name) {
        ("kube-system", "kubeadm-config") => {
            (!kube.configuration.is_empty()).then(|| kubeadm_config(kube))
        }
        ("kube-public", "cluster-info") => {
            (!kube.configuration.is_empty()).then(|| cluster_info(kube, unix))
        }
        ("kube-system", "kubelet-config") => (!kube.configuration.is_empty())
            .then(|| config_map(name, namespace, kube, json!({"kubelet": kube.kubelet}))),
        ("kube-system", "kube-proxy") => kube.proxy.is_some().then(|| kube_proxy(kube)),
        ("kube-system", "coredns") => {
            let corefile =
                ".:53 {\n    errors\n    health\n    ready\n    kubernetes cluster.local\n}\n";
            Some(config_map(name, namespace, kube, json!({"Corefile": corefile})))
        }
        _ => {
            let applied = kube.applied.get(&format!("configmap/{name}"))?;
            let own = applied["metadata"]["namespace"].as_str().unwrap_or("default");
            (own == namespace).then(|| applied.clone())
        }
    }
}

/// A namespace; `kube-system` is as old as the data.
pub fn namespace(kube: &Kube, name: &str) -> Option<Value> {
    let builtin = ["default", "kube-node-lease", "kube-public", "kube-system"].contains(&name);
    if !builtin && !kube.applied.contains_key(&format!("namespace/{name}")) {
        return None;
    }
    let uid = match name {
        "kube-system" => kube.uid.clone(),
        _ => {
            let digest = hex(&Sha256::digest(format!("{} {name}", kube.uid)));
            [&digest[..8], &digest[8..12], &digest[12..16], &digest[16..20], &digest[20..32]]
                .join("-")
        }
    };
    Some(json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "creationTimestamp": moment(kube.created),
            "labels": {"kubernetes.io/metadata.name": name},
            "name": name,
            "uid": uid,
        },
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }))
}

/// All namespaces.
pub fn namespaces(kube: &Kube) -> Value {
    let applied = kube.applied.keys().filter_map(|key| key.strip_prefix("namespace/"));
    let names =
        ["default", "kube-node-lease", "kube-public", "kube-system"].into_iter().chain(applied);
    list(names.filter_map(|name| namespace(kube, name)).collect())
}

fn config_map(name: &str, namespace: &str, kube: &Kube, data: Value) -> Value {
    let mut meta = metadata(name, namespace, "6f8f3d0b-6a55-4c39-9a2c-8f0d0c7f3e11");
    meta["creationTimestamp"] = moment(kube.created).into();
    json!({"apiVersion": "v1", "data": data, "kind": "ConfigMap", "metadata": meta})
}

/// The ConfigMap `kubeadm-config`.
fn kubeadm_config(kube: &Kube) -> Value {
    config_map(
        "kubeadm-config",
        "kube-system",
        kube,
        json!({"ClusterConfiguration": kube.configuration}),
    )
}

/// The ConfigMap `cluster-info`, signed for each usable token.
fn cluster_info(kube: &Kube, unix: i64) -> Value {
    let kubeconfig = format!(
        "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {}\n    server: \
         https://{}\n  name: \"\"\ncontexts: null\ncurrent-context: \"\"\nkind: Config\npreferences: \
         {{}}\nusers: null\n",
        packed(&kube.ca.pair.cert),
        kube.endpoint
    );
    let mut data = Map::new();
    for id in kube.tokens.keys().filter(|id| kube.token(id, unix).is_some()) {
        let signature = "eyJhbGciOiJIUzI1NiIsImtpZCI6IiJ9..c2lnbmVk";
        data.insert(format!("jws-kubeconfig-{id}"), signature.into());
    }
    data.insert("kubeconfig".to_owned(), kubeconfig.into());
    config_map("cluster-info", "kube-public", kube, data.into())
}

/// The ConfigMap `kube-proxy`.
fn kube_proxy(kube: &Kube) -> Value {
    let mode = kube.proxy.as_deref().unwrap_or_default();
    let text = format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: {mode}\n"
    );
    config_map("kube-proxy", "kube-system", kube, json!({"config.conf": text}))
}
