//! Node objects as the API server and kubectl print them.

use serde_json::{Value, json};

use super::super::Guests;
use super::super::kube::Kube;
use super::super::node::{Node, Ready};
use super::objects::{list, moment};

fn reported(
    guests: &Guests,
    kube: &Kube,
    node: &Node,
) -> (&'static str, &'static str, &'static str) {
    match guests.ready(kube, node) {
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
pub fn node(guests: &Guests, kube: &Kube, name: &str, node: &Node) -> Value {
    let (status, reason, message) = reported(guests, kube, node);
    let since = moment(guests.epoch + (node.since.0 / 1000) as i64);
    let seen = moment(guests.epoch + (node.seen.0 / 1000) as i64);
    let mut taints = Vec::new();
    if node.tainted {
        taints
            .push(json!({"effect": "NoSchedule", "key": "node-role.kubernetes.io/control-plane"}));
    }
    match status {
        "True" => {}
        "Unknown" => {
            taints.push(json!({"effect": "NoExecute", "key": "node.kubernetes.io/unreachable"}))
        }
        _ => taints.push(json!({"effect": "NoSchedule", "key": "node.kubernetes.io/not-ready"})),
    }
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({"lastHeartbeatTime": seen, "lastTransitionTime": since, "message": message,
            "reason": reason, "status": status, "type": kind})
    };
    let mut spec = json!({"podCIDR": format!("100.64.{}.0/24", node.number), "taints": taints});
    if node.cordoned {
        spec["unschedulable"] = true.into();
    }
    let mut annotations = node.annotations.clone();
    annotations
        .entry("kubeadm.alpha.kubernetes.io/cri-socket".to_owned())
        .or_insert_with(|| "unix:///run/containerd/containerd.sock".to_owned());
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "annotations": annotations,
            "creationTimestamp": since,
            "labels": node.labels,
            "name": name,
            "resourceVersion": "1207",
            "uid": node.uid,
        },
        "spec": spec,
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
                "bootID": node.info.boot_id,
                "containerRuntimeVersion": node.info.runtime,
                "kernelVersion": node.info.kernel,
                "kubeProxyVersion": node.info.kubelet,
                "kubeletVersion": node.info.kubelet,
                "machineID": node.info.machine_id,
                "operatingSystem": "linux",
                "osImage": "Ubuntu 22.04.5 LTS",
                "systemUUID": node.info.system_uuid,
            },
        },
    })
}

/// All nodes.
pub fn nodes(guests: &Guests, kube: &Kube) -> Value {
    list(kube.nodes.iter().map(|(name, known)| node(guests, kube, name, known)).collect())
}

/// `kubectl get nodes [-o wide]`.
pub fn node_table(guests: &Guests, kube: &Kube, wide: bool) -> String {
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
        let status = if reported(guests, kube, node).0 == "True" { "Ready" } else { "NotReady" };
        let cordoned = if node.cordoned { ",SchedulingDisabled" } else { "" };
        let status = format!("{status}{cordoned}");
        let roles: Vec<&str> = node
            .labels
            .keys()
            .filter_map(|label| label.strip_prefix("node-role.kubernetes.io/"))
            .collect();
        let roles = if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") };
        let age = age((guests.now.0.saturating_sub(node.since.0)) / 1000);
        let mut row = vec![name.clone(), status, roles, age, node.info.kubelet.clone()];
        if wide {
            row.extend([
                node.address.to_string(),
                "<none>".to_owned(),
                "Ubuntu 22.04.5 LTS".to_owned(),
                node.info.kernel.clone(),
                node.info.runtime.clone(),
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

/// The lease that a node's kubelet renews, in `kube-node-lease`.
pub fn lease(guests: &Guests, kube: &Kube, name: &str) -> Option<Value> {
    let node = kube.nodes.get(name)?;
    let seen = moment(guests.epoch + (node.seen.0 / 1000) as i64);
    Some(json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": "kube-node-lease", "uid": node.uid},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": seen},
    }))
}
