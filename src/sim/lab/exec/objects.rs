//! Kubernetes objects as the API server prints them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::Lab;
use super::super::kube::{Certs, Kube, Node, Ready, Token};

fn moment(unix: i64) -> String {
    OffsetDateTime::from_unix_timestamp(unix)
        .ok()
        .and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_default()
}

fn packed(text: &str) -> String {
    STANDARD.encode(text)
}

fn list(items: Vec<Value>) -> Value {
    json!({"apiVersion": "v1", "items": items, "kind": "List", "metadata": {"resourceVersion": ""}})
}

fn reported(lab: &Lab, kube: &Kube, node: &Node) -> (&'static str, &'static str, &'static str) {
    match lab.ready(kube, node) {
        Ready::Yes => ("True", "KubeletReady", "kubelet is posting ready status"),
        Ready::NoNetwork => (
            "False",
            "KubeletNotReady",
            "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady \
             message:Network plugin returns error: cni plugin not initialized",
        ),
        Ready::Unknown => ("Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status."),
    }
}

/// One node.
pub fn node(lab: &Lab, kube: &Kube, name: &str, node: &Node) -> Value {
    let (status, reason, message) = reported(lab, kube, node);
    let since = moment(lab.epoch + (node.since.0 / 1000) as i64);
    let seen = moment(lab.epoch + (node.seen.0 / 1000) as i64);
    let guest = lab.guests.get(&node.guest);
    let mut taints = Vec::new();
    if node.tainted {
        taints
            .push(json!({"effect": "NoSchedule", "key": "node-role.kubernetes.io/control-plane"}));
    }
    if status != "True" {
        taints.push(json!({"effect": "NoSchedule", "key": "node.kubernetes.io/not-ready"}));
    }
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({"lastHeartbeatTime": seen, "lastTransitionTime": since, "message": message,
            "reason": reason, "status": status, "type": kind})
    };
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "annotations": {"kubeadm.alpha.kubernetes.io/cri-socket": "unix:///run/containerd/containerd.sock"},
            "creationTimestamp": since,
            "labels": node.labels,
            "name": name,
            "resourceVersion": "1207",
            "uid": node.uid,
        },
        "spec": {"podCIDR": format!("100.64.{}.0/24", node.number), "taints": taints},
        "status": {
            "addresses": [
                {"address": node.address, "type": "InternalIP"},
                {"address": name, "type": "Hostname"},
            ],
            "conditions": [
                condition("MemoryPressure", "False", "KubeletHasSufficientMemory",
                    "kubelet has sufficient memory available"),
                condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
                condition("PIDPressure", "False", "KubeletHasSufficientPID",
                    "kubelet has sufficient PID available"),
                condition("Ready", status, reason, message),
            ],
            "nodeInfo": {
                "architecture": "amd64",
                "bootID": guest.and_then(|guest| guest.run.as_ref()).map(|run| run.boot_id.as_str()).unwrap_or_default(),
                "containerRuntimeVersion": node.runtime,
                "kernelVersion": node.kernel,
                "kubeProxyVersion": node.kubelet,
                "kubeletVersion": node.kubelet,
                "machineID": guest.map(|guest| guest.disk.machine_id.as_str()).unwrap_or_default(),
                "operatingSystem": "linux",
                "osImage": "Ubuntu 22.04.5 LTS",
            },
        },
    })
}

/// All nodes.
pub fn nodes(lab: &Lab, kube: &Kube) -> Value {
    list(kube.nodes.iter().map(|(name, known)| node(lab, kube, name, known)).collect())
}

/// `kubectl get nodes [-o wide]`.
pub fn node_table(lab: &Lab, kube: &Kube, wide: bool) -> String {
    let mut head = vec!["NAME", "STATUS", "ROLES", "AGE", "VERSION"];
    if wide {
        head.extend([
            "INTERNAL-IP",
            "EXTERNAL-IP",
            "OS-IMAGE",
            "KERNEL-VERSION",
            "CONTAINER-RUNTIME",
        ]);
    }
    let mut rows: Vec<Vec<String>> = vec![head.into_iter().map(str::to_owned).collect()];
    for (name, node) in &kube.nodes {
        let status = if reported(lab, kube, node).0 == "True" { "Ready" } else { "NotReady" };
        let roles: Vec<&str> = node
            .labels
            .keys()
            .filter_map(|label| label.strip_prefix("node-role.kubernetes.io/"))
            .collect();
        let roles = if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") };
        let age = age((lab.now.0.saturating_sub(node.since.0)) / 1000);
        let mut row = vec![name.clone(), status.to_owned(), roles, age, node.kubelet.clone()];
        if wide {
            row.extend([
                node.address.to_string(),
                "<none>".to_owned(),
                "Ubuntu 22.04.5 LTS".to_owned(),
                node.kernel.clone(),
                node.runtime.clone(),
            ]);
        }
        rows.push(row);
    }
    let columns = rows[0].len();
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("   ").trim_end());
        text.push('\n');
    }
    text
}

/// An age as kubectl's `HumanDuration` prints it.
fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 if !seconds.is_multiple_of(60) => format!("{}m{}s", seconds / 60, seconds % 60),
        120..10800 => format!("{}m", seconds / 60),
        10800..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

fn metadata(name: &str, namespace: &str, uid: &str) -> Value {
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
        // Encrypted: opaque to whoever has not the key.
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

fn config_map(name: &str, namespace: &str, kube: &Kube, data: Value) -> Value {
    let mut meta = metadata(name, namespace, "6f8f3d0b-6a55-4c39-9a2c-8f0d0c7f3e11");
    meta["creationTimestamp"] = moment(kube.created).into();
    json!({"apiVersion": "v1", "data": data, "kind": "ConfigMap", "metadata": meta})
}

/// The ConfigMap `kubeadm-config`.
pub fn kubeadm_config(kube: &Kube) -> Value {
    config_map(
        "kubeadm-config",
        "kube-system",
        kube,
        json!({"ClusterConfiguration": kube.configuration}),
    )
}

/// The ConfigMap `cluster-info`, signed for each usable token.
pub fn cluster_info(kube: &Kube, unix: i64) -> Value {
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
pub fn kube_proxy(kube: &Kube) -> Value {
    let mode = kube.proxy.as_deref().unwrap_or_default();
    let text = format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: {mode}\n"
    );
    config_map("kube-proxy", "kube-system", kube, json!({"config.conf": text}))
}

/// The pods of `kube-system`.
pub fn pods(lab: &Lab, kube: &Kube) -> Value {
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
    let any_ready = kube.nodes.values().any(|node| lab.ready(kube, node) == Ready::Yes);
    for suffix in ["7m4xq", "zk2p9"] {
        add(format!("coredns-5dd5756b68-{suffix}"), None, any_ready);
    }
    for (number, (name, node)) in kube.nodes.iter().enumerate() {
        if node.labels.contains_key("node-role.kubernetes.io/control-plane") {
            let up = lab.api_up(&node.guest);
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
            // Cilium is known by its version, everybody else by name.
            let agent = if by.starts_with(|c: char| c.is_ascii_digit()) { "cilium" } else { by };
            add(format!("{agent}-{number:05}"), Some(name), lab.ready(kube, node) == Ready::Yes);
        }
    }
    list(items)
}
