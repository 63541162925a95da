//! Reads the settings of a running cluster through one of its masters. Read-only.
//!
//! The ConfigMap `kubeadm-config` is what kubeadm itself uses
//! (kubernetes.io/docs/reference/setup-tools/kubeadm/implementation-details, "Save the kubeadm
//! ClusterConfiguration in a ConfigMap"); kube-proxy and the pod network are read from their
//! running objects.

use std::collections::BTreeMap;

use serde_json::Value;

use super::kubectl::Api;
use super::{Error, cluster_mark};
use crate::cause::cause;
use crate::cluster::{Cluster, Role};

/// What a cluster reports about itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Running {
    /// The UID of the namespace `kube-system`.
    pub uid: String,
    /// k8sha's mark inside the cluster.
    pub mark: Option<cluster_mark::ClusterMark>,
    /// Its visible settings, by their names in the profile.
    pub settings: BTreeMap<String, String>,
}

/// Queries a cluster.
///
/// # Errors
/// If the API does not answer, or its answer cannot be parsed.
pub async fn ask(api: &Api, cluster: &Cluster) -> Result<Running, Error> {
    let config = ["-n", "kube-system", "get", "configmap", "kubeadm-config", "-o", "json"];
    let proxy = ["-n", "kube-system", "get", "configmap", "kube-proxy", "-o", "json"];
    let namespace = ["get", "namespace", "kube-system", "-o", "json"];
    let daemons = ["get", "daemonsets", "-A", "-o", "json"];
    let (namespace, config, proxy, daemons, mark) = tokio::try_join!(
        api.json(&namespace),
        api.json_if_there(&config),
        api.json_if_there(&proxy),
        api.json(&daemons),
        cluster_mark::read(api),
    )?;
    let uid = namespace["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let text = config.as_ref().and_then(|map| map["data"]["ClusterConfiguration"].as_str());
    let configuration = match text {
        Some(text) => serde_saphyr::from_str(text).map_err(|error| Error::Unread {
            what: "the ConfigMap `kubeadm-config`".into(),
            node: api.master().node().to_owned(),
            cause: cause(error),
        })?,
        None => Value::Null,
    };
    let mut settings = settings(cluster, &configuration);
    settings.insert("kubernetes.proxy".into(), proxy.as_ref().map_or("none".into(), proxy_mode));
    let applied = mark.as_ref().and_then(|mark| mark.cni.clone());
    if let Some(cni) = pod_network(&daemons).or(applied.clone()) {
        // Pod networks that the user installed separately are ignored: only k8sha's own is compared
        // with the profile.
        let theirs = applied.is_none() && cluster.kubernetes.cni == crate::cluster::Cni::None;
        if !theirs {
            settings.insert("kubernetes.cni".into(), cni);
        }
    }
    Ok(Running { uid, mark, settings })
}

/// The settings in a `ClusterConfiguration` of any version.
fn settings(cluster: &Cluster, configuration: &Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            found.insert(name.to_owned(), value);
        }
    };
    if configuration.is_null() {
        return found;
    }
    let text = |value: &Value| value.as_str().map(str::to_owned);
    put("cluster.name", text(&configuration["clusterName"]));
    let endpoint = configuration["controlPlaneEndpoint"].as_str().unwrap_or_default();
    let (name, port) = endpoint.rsplit_once(':').unwrap_or((endpoint, "6443"));
    put("cluster.api (name and network.domain)", Some(name.to_owned()));
    put("cluster.api.port", Some(port.to_owned()));
    put("cluster.api.vip", vip(cluster, &configuration["apiServer"]["certSANs"]));
    let version = configuration["kubernetesVersion"].as_str();
    put("kubernetes.version", version.map(|v| v.trim_start_matches('v').to_owned()));
    let networking = &configuration["networking"];
    put("kubernetes.pods.cidr", text(&networking["podSubnet"]));
    put("kubernetes.services", text(&networking["serviceSubnet"]));
    put("kubernetes.dns_domain", text(&networking["dnsDomain"]));
    let arguments = &configuration["controllerManager"]["extraArgs"];
    put("kubernetes.pods.node_mask", argument(arguments, "node-cidr-mask-size"));
    let repository = configuration["imageRepository"].as_str().unwrap_or("registry.k8s.io");
    put("kubernetes.image_repository", Some(repository.to_owned()));
    let endpoints = configuration["etcd"]["external"]["endpoints"].as_array();
    let etcd = endpoints.map_or("stacked".to_owned(), |endpoints| {
        endpoints.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
    });
    put("etcd", Some(etcd));
    found
}

/// An argument: a map in v1beta3, a list of names and values in v1beta4.
fn argument(arguments: &Value, name: &str) -> Option<String> {
    let plain = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    match arguments {
        Value::Array(all) => {
            let found = all.iter().find(|one| one["name"] == name)?;
            plain(&found["value"])
        }
        map => plain(&map[name]),
    }
}

/// The VIP among the API servers' certificate names: the address that is not a master's.
fn vip(cluster: &Cluster, names: &Value) -> Option<String> {
    let masters: Vec<String> =
        cluster.with_role(Role::Master).map(|node| node.ip.to_string()).collect();
    let addresses: Vec<&str> = names
        .as_array()?
        .iter()
        .filter_map(Value::as_str)
        .filter(|name| name.parse::<std::net::IpAddr>().is_ok())
        .collect();
    let ours = cluster.api.vip.to_string();
    if addresses.contains(&ours.as_str()) {
        return Some(ours);
    }
    // `kubeadm init` was given the VIP before the addresses of the masters.
    addresses
        .into_iter()
        .find(|address| !masters.iter().any(|master| master == address))
        .map(str::to_owned)
}

/// kube-proxy's mode; an empty one means its default
/// (kubernetes.io/docs/reference/config-api/kube-proxy-config.v1alpha1).
fn proxy_mode(map: &Value) -> String {
    let text = map["data"]["config.conf"].as_str().unwrap_or_default();
    let mode = text.lines().find_map(|line| line.strip_prefix("mode:"));
    let mode = mode.unwrap_or_default().trim().trim_matches(['"', '\'']);
    if mode.is_empty() { "iptables".to_owned() } else { mode.to_owned() }
}

/// The running pod network, if k8sha knows it.
fn pod_network(daemons: &Value) -> Option<String> {
    let items = daemons["items"].as_array()?;
    let image = |name: &str| {
        let daemon = items.iter().find(|item| item["metadata"]["name"] == name)?;
        daemon["spec"]["template"]["spec"]["containers"][0]["image"].as_str()
    };
    let known = |kind: &str, image: &str| {
        let image = image.split('@').next().unwrap_or(image);
        let tag = image.rsplit_once(':').map_or("", |(_, tag)| tag);
        format!("{kind} {}", tag.trim_start_matches('v'))
    };
    image("cilium")
        .map(|image| known("cilium", image))
        .or_else(|| image("calico-node").map(|image| known("calico", image)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::fixture::k8s1;

    #[test]
    fn settings_are_read_from_both_versions_of_the_configuration() {
        let cluster = k8s1();
        let both = [
            json!({"node-cidr-mask-size": "24"}),
            json!([{"name": "node-cidr-mask-size", "value": "24"}]),
        ];
        for arguments in both {
            let found = settings(
                &cluster,
                &json!({
                    "clusterName": "k8s1-cluster",
                    "kubernetesVersion": "v1.28.4",
                    "controlPlaneEndpoint": "k8s1api.kloud.lan:6443",
                    "apiServer": {"certSANs": ["k8s1api", "10.101.1.10", "10.101.1.101"]},
                    "controllerManager": {"extraArgs": arguments},
                    "networking": {"podSubnet": "100.64.0.0/16"},
                    "etcd": {"local": {"dataDir": "/var/lib/etcd"}},
                }),
            );
            assert_eq!(found["kubernetes.pods.node_mask"], "24");
            assert_eq!(found["kubernetes.version"], "1.28.4");
            assert_eq!(found["cluster.api.port"], "6443");
            assert_eq!(found["kubernetes.image_repository"], "registry.k8s.io");
            assert_eq!(found["etcd"], "stacked");
            // A setting that could not be read is omitted.
            assert_eq!(found.get("kubernetes.services"), None);
        }
    }

    #[test]
    fn another_vip_is_found_among_the_names() {
        let names = json!(["k8s1api", "10.101.1.9", "10.101.1.101"]);
        assert_eq!(vip(&k8s1(), &names).as_deref(), Some("10.101.1.9"));
        assert_eq!(vip(&k8s1(), &json!(["k8s1api", "10.101.1.101"])), None);
    }

    #[test]
    fn the_pod_network_is_known_by_its_agent() {
        let daemon = |name: &str, image: &str| {
            json!({"items": [{"metadata": {"name": name},
                "spec": {"template": {"spec": {"containers": [{"image": image}]}}}}]})
        };
        let cilium = daemon("cilium", "quay.io/cilium/cilium:v1.19.8@sha256:ab");
        assert_eq!(pod_network(&cilium).as_deref(), Some("cilium 1.19.8"));
        let calico = daemon("calico-node", "docker.io/calico/node:v3.32.2");
        assert_eq!(pod_network(&calico).as_deref(), Some("calico 3.32.2"));
        assert_eq!(pod_network(&daemon("kube-proxy", "x:v1")), None);
    }
}
