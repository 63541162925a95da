//! Calico, installed by its operator (docs.tigera.io/calico, "Install in eBPF mode" for a cluster
//! without kube-proxy, "On-prerequisites" otherwise).

use std::time::Duration;

use serde_json::{Value, json};

use crate::clock::{Clock, Expired, Wait};
use crate::cluster::{CalicoDataplane, Cluster, ProxyMode};
use crate::kubeadm::{Error, kubectl};
use crate::report::event;
use crate::ssh::Remote;

/// The namespace of the operator.
const NAMESPACE: &str = "tigera-operator";
/// The definition of [`resources`]' first kind, which the operator creates when it starts.
const DEFINITION: &str = "installations.operator.tigera.io";
/// How long the operator's images may take to download, and Calico to start everywhere.
const PATIENCE: Duration = Duration::from_secs(10 * 60);
/// The pause between two checks.
const LOOK: Duration = Duration::from_secs(3);
/// A node's part of the pool, as a prefix length, unless the pool is smaller; Calico's own default.
const BLOCK: u8 = 26;

pub(super) async fn install(
    first: &Remote,
    cluster: &Cluster,
    version: &str,
    dataplane: CalicoDataplane,
    clock: Clock,
) -> Result<bool, Error> {
    let there = kubectl::json_if_there(first, &["get", DEFINITION, "default", "-o", "json"]);
    let changed = there.await?.is_none();
    if changed {
        event::progress(format!("install Calico {version}"));
        // Before the operator: its environment is read when its container is created.
        kubectl::apply(first, "the API's address for Calico", &prerequisites(cluster)).await?;
        kubectl::apply_from(first, "Calico's operator", &operator(version)).await?;
        let named = ["get", "crd", DEFINITION, "-o", "json"];
        wait(first, "Calico's operator has not created its CRDs", &named, "Established", clock)
            .await?;
        let resources = resources(cluster, dataplane);
        kubectl::apply(first, "Calico's resources", &resources).await?;
    }
    event::progress("wait for Calico");
    let status = ["get", "tigerastatuses.operator.tigera.io", "calico", "-o", "json"];
    wait(first, "Calico is not available", &status, "Available", clock).await?;
    Ok(changed)
}

/// Waits until an object exists with a condition that is true.
async fn wait(
    first: &Remote,
    what: &str,
    get: &[&str],
    condition: &str,
    clock: Clock,
) -> Result<(), Error> {
    let mut wait = Wait::new(clock, PATIENCE, LOOK)
        .telling(|seen: &String| event::progress(format!("waiting for Calico: {seen}")));
    loop {
        // The API may be briefly unavailable while masters join.
        let seen = match kubectl::json_if_there(first, get).await {
            Ok(Some(object)) if is_true(&object, condition) => return Ok(()),
            Ok(Some(object)) => told(&object),
            Ok(None) => "it does not exist yet".to_owned(),
            Err(error) if error.is_lasting() => return Err(error),
            Err(error) => error.to_string(),
        };
        wait.not_yet(seen)
            .await
            .map_err(|Expired { seen, limit }| Error::too_long(first, what, limit, seen))?;
    }
}

fn conditions(object: &Value) -> &[Value] {
    object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn is_true(object: &Value, kind: &str) -> bool {
    conditions(object).iter().any(|one| one["type"] == kind && one["status"] == "True")
}

/// Its conditions as text for the user.
fn told(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let one = |one: &Value| {
        format!("{}={} {}", text(&one["type"]), text(&one["status"]), text(&one["message"]))
    };
    let all: Vec<String> = conditions(object).iter().map(one).collect();
    if all.is_empty() { "it reports no status yet".to_owned() } else { all.join("; ") }
}

/// The operator's manifest of a version.
pub fn operator(version: &str) -> String {
    format!(
        "https://raw.githubusercontent.com/projectcalico/calico/v{version}/manifests/tigera-operator.yaml"
    )
}

/// The objects that must exist before the operator: its namespace and, without kube-proxy, the
/// API's address, which needs no service.
pub fn prerequisites(cluster: &Cluster) -> String {
    let mut objects = vec![json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": NAMESPACE,
            "labels": {
                "name": NAMESPACE,
                "pod-security.kubernetes.io/enforce": "privileged",
            },
        },
    })];
    if cluster.kubernetes.proxy == ProxyMode::None {
        objects.push(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": "kubernetes-services-endpoint", "namespace": NAMESPACE },
            "data": {
                // The address instead of the name: the operator uses the cluster's DNS
                // (`ClusterFirstWithHostNet`), which does not run before Calico does.
                "KUBERNETES_SERVICE_HOST": cluster.api.vip.to_string(),
                "KUBERNETES_SERVICE_PORT": cluster.api.port.to_string(),
            },
        }));
    }
    yaml(&objects)
}

/// The resources that configure Calico for the operator.
pub fn resources(cluster: &Cluster, dataplane: CalicoDataplane) -> String {
    let pods = cluster.kubernetes.pods;
    yaml(&[
        json!({
            "apiVersion": "operator.tigera.io/v1",
            "kind": "Installation",
            "metadata": { "name": "default" },
            "spec": {
                "calicoNetwork": {
                    "linuxDataplane": match dataplane {
                        CalicoDataplane::Ebpf => "BPF",
                        CalicoDataplane::Iptables => "Iptables",
                        CalicoDataplane::Nftables => "Nftables",
                    },
                    "ipPools": [{
                        "name": "default-ipv4-ippool",
                        "cidr": pods.to_string(),
                        "blockSize": BLOCK.max(pods.prefix_len()),
                        "encapsulation": "VXLANCrossSubnet",
                        "natOutgoing": "Enabled",
                        "nodeSelector": "all()",
                    }],
                },
            },
        }),
        json!({
            "apiVersion": "operator.tigera.io/v1",
            "kind": "APIServer",
            "metadata": { "name": "default" },
            "spec": {},
        }),
    ])
}

fn yaml(objects: &[Value]) -> String {
    serde_saphyr::to_string_multiple(objects)
        .unwrap_or_else(|_| unreachable!("objects of texts and numbers are YAML"))
}
