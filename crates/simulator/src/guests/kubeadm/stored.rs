//! The configuration that `init` stores in the cluster: with kubeadm's defaults, in the API version
//! that its minor writes.
//!
//! Source: kubernetes cmd/kubeadm/app/phases/uploadconfig and app/apis/kubeadm/{v1beta3,v1beta4}
//! (defaults.go, conversion.go).

use serde_json::{Map, Value, json};

/// The first minor that writes v1beta4.
const V1BETA4: u32 = 31;

/// The ConfigMap's `ClusterConfiguration`.
pub fn configuration(given: &str, minor: u32, version: &str) -> String {
    let mut stored: Value = serde_saphyr::from_str(given).unwrap_or_default();
    let Some(fields) = stored.as_object_mut() else { return given.to_owned() };
    let api = if minor >= V1BETA4 { "kubeadm.k8s.io/v1beta4" } else { "kubeadm.k8s.io/v1beta3" };
    fields.insert("apiVersion".to_owned(), api.into());
    fields.insert("kind".to_owned(), "ClusterConfiguration".into());
    fields.insert("kubernetesVersion".to_owned(), version.into());
    default(fields, "certificatesDir", "/etc/kubernetes/pki".into());
    default(fields, "clusterName", "kubernetes".into());
    default(fields, "imageRepository", "registry.k8s.io".into());
    for part in ["apiServer", "controllerManager", "scheduler", "dns"] {
        default(fields, part, json!({}));
    }
    default(fields, "networking", json!({}));
    if let Some(networking) = fields.get_mut("networking").and_then(Value::as_object_mut) {
        default(networking, "dnsDomain", "cluster.local".into());
        default(networking, "serviceSubnet", "10.96.0.0/12".into());
    }
    default(fields, "etcd", json!({"local": {}}));
    let local = fields.get_mut("etcd").and_then(|etcd| etcd["local"].as_object_mut());
    if let Some(local) = local {
        default(local, "dataDir", "/var/lib/etcd".into());
    }
    if minor >= V1BETA4 {
        default(fields, "encryptionAlgorithm", "RSA-2048".into());
        default(fields, "certificateValidityPeriod", "8760h0m0s".into());
        default(fields, "caCertificateValidityPeriod", "87600h0m0s".into());
        default(fields, "proxy", json!({}));
        for part in ["apiServer", "controllerManager", "scheduler"] {
            listed(&mut fields[part]);
        }
        if let Some(local) = fields.get_mut("etcd").and_then(|etcd| etcd.get_mut("local")) {
            listed(local);
        }
    } else if let Some(api) = fields.get_mut("apiServer").and_then(Value::as_object_mut) {
        default(api, "timeoutForControlPlane", "4m0s".into());
    }
    serde_saphyr::to_string(&stored).unwrap_or_else(|_| given.to_owned())
}

/// The ConfigMap's `kubelet`.
pub fn kubelet(given: &str) -> String {
    let mut stored: Value = serde_saphyr::from_str(given).unwrap_or_default();
    if !stored.is_object() {
        stored = json!({});
    }
    stored["apiVersion"] = "kubelet.config.k8s.io/v1beta1".into();
    stored["kind"] = "KubeletConfiguration".into();
    if let Some(fields) = stored.as_object_mut() {
        default(fields, "cgroupDriver", "systemd".into());
    }
    serde_saphyr::to_string(&stored).unwrap_or_else(|_| given.to_owned())
}

fn default(fields: &mut Map<String, Value>, key: &str, value: Value) {
    fields.entry(key).or_insert(value);
}

/// v1beta3's map of arguments as v1beta4's list.
fn listed(part: &mut Value) {
    if let Some(map) = part.get("extraArgs").and_then(Value::as_object) {
        let pairs = map.iter().map(|(name, value)| json!({"name": name, "value": value}));
        part["extraArgs"] = pairs.collect();
    }
    if let Some(fields) = part.as_object_mut() {
        fields.remove("timeoutForControlPlane");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &str = "apiVersion: kubeadm.k8s.io/v1beta3\nkind: ClusterConfiguration\n\
        clusterName: prod\ncontrolPlaneEndpoint: api.lan:6443\nnetworking: {podSubnet: \
        100.64.0.0/16, serviceSubnet: 198.18.0.0/23}\napiServer: {certSANs: [api.lan], extraArgs: \
        {audit-log-maxage: '7'}}\n";

    #[test]
    fn the_given_configuration_is_stored_with_kubeadms_defaults() {
        let stored: Value = serde_saphyr::from_str(&configuration(GIVEN, 28, "v1.28.4")).unwrap();
        assert_eq!(stored["clusterName"], "prod");
        assert_eq!(stored["kubernetesVersion"], "v1.28.4");
        assert_eq!(stored["networking"]["podSubnet"], "100.64.0.0/16");
        assert_eq!(stored["networking"]["dnsDomain"], "cluster.local");
        assert_eq!(stored["apiServer"]["certSANs"], json!(["api.lan"]));
        assert_eq!(stored["apiServer"]["extraArgs"]["audit-log-maxage"], "7");
        assert_eq!(stored["etcd"]["local"]["dataDir"], "/var/lib/etcd");
        assert_eq!(stored["apiVersion"], "kubeadm.k8s.io/v1beta3");
    }

    #[test]
    fn a_later_minor_writes_its_own_api_version() {
        let stored: Value = serde_saphyr::from_str(&configuration(GIVEN, 34, "v1.34.1")).unwrap();
        assert_eq!(stored["apiVersion"], "kubeadm.k8s.io/v1beta4");
        let args = json!([{"name": "audit-log-maxage", "value": "7"}]);
        assert_eq!(stored["apiServer"]["extraArgs"], args);
    }
}
