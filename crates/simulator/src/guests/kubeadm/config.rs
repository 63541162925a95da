//! kubeadm's configuration file as kubeadm parses it: strictly, by API version.
//!
//! Sources: kubernetes cmd/kubeadm/app/apis/kubeadm/{v1beta3,v1beta4}/types.go and
//! cmd/kubeadm/app/util/config.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::schema;
use crate::guests::{pace, seed};

/// The relevant fields of an init or join configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// `nodeRegistration.name`.
    pub node: Option<String>,
    /// `localAPIEndpoint.advertiseAddress`.
    pub advertise: Option<Ipv4Addr>,
    /// `kubernetesVersion` with its `v`.
    pub version: Option<String>,
    /// `controlPlaneEndpoint`.
    pub endpoint: Option<String>,
    /// `clusterName`.
    pub cluster_name: String,
    /// The first bootstrap token, or the token to join with.
    pub token: Option<String>,
    /// Its lifetime in seconds.
    pub token_life: i64,
    /// `certificateKey`.
    pub certificate_key: Option<String>,
    /// External etcd: its endpoints.
    pub etcd_endpoints: Vec<String>,
    /// External etcd: CA, certificate and key on this node.
    pub etcd_files: Option<[String; 3]>,
    /// `apiServer.certSANs`.
    pub names: Vec<String>,
    /// `networking.serviceSubnet`.
    pub services: String,
    /// `networking.dnsDomain`.
    pub dns_domain: String,
    /// kube-proxy's mode; `None` if it is skipped.
    pub proxy: Option<String>,
    /// Seconds to wait for the control plane.
    pub timeout: f64,
    /// Seconds to look for the cluster-info.
    pub discovery_timeout: f64,
    /// The text of the ClusterConfiguration document.
    pub cluster: String,
    /// The text of the KubeletConfiguration document.
    #[serde(default)]
    pub kubelet: String,
    /// Join: `discovery.bootstrapToken.apiServerEndpoint`.
    pub join_endpoint: Option<String>,
    /// Join: the CA pins.
    pub pins: Vec<String>,
    /// Join: whether CA pinning is skipped.
    pub unpinned: bool,
    /// Join: whether to join as a control plane.
    pub control_plane: bool,
    /// Errors of strict decoding.
    pub warnings: Vec<String>,
}

/// Parses a configuration as the kubeadm of a minor version (such as 28) does.
///
/// # Errors
/// kubeadm's words.
pub fn read(text: &str, minor: u32) -> Result<Config, String> {
    let mut config = Config {
        token_life: pace::TOKEN_LIFE,
        timeout: pace::CONTROL_PLANE_TIMEOUT,
        discovery_timeout: pace::DISCOVERY_TIMEOUT,
        proxy: Some("iptables".to_owned()),
        dns_domain: "cluster.local".to_owned(),
        services: "10.96.0.0/12".to_owned(),
        cluster_name: "kubernetes".to_owned(),
        ..Config::default()
    };
    let mut kinds = Vec::new();
    for document in documents(text) {
        let value: Value = serde_saphyr::from_str(document)
            .map_err(|error| format!("error converting YAML to JSON: yaml: {error}"))?;
        if value.is_null() {
            continue;
        }
        let kind = value["kind"].as_str().unwrap_or_default().to_owned();
        let api = value["apiVersion"].as_str().unwrap_or_default().to_owned();
        if kind.is_empty() || api.is_empty() {
            return Err(
                "invalid configuration: kind and apiVersion is mandatory information that \
                        must be specified"
                    .to_owned(),
            );
        }
        schema::accepts(&api, &kind, minor)?;
        schema::shape(&value, &api, &kind)?;
        config.warnings.extend(schema::unknown(&value, &api, &kind));
        match kind.as_str() {
            "InitConfiguration" => init(&mut config, &value)?,
            "ClusterConfiguration" => {
                document.trim_start_matches("---\n").clone_into(&mut config.cluster);
                cluster(&mut config, &value);
            }
            "JoinConfiguration" => join(&mut config, &value)?,
            "KubeletConfiguration" => document.clone_into(&mut config.kubelet),
            "KubeProxyConfiguration" => {
                if let (Some(proxy), Some(mode)) = (&mut config.proxy, value["mode"].as_str()) {
                    mode.clone_into(proxy);
                }
            }
            _ => {}
        }
        if value["proxy"]["disabled"].as_bool() == Some(true) || skips_proxy(&value) {
            config.proxy = None;
        }
        kinds.push(kind);
    }
    let known = ["InitConfiguration", "ClusterConfiguration", "JoinConfiguration"];
    if !kinds.iter().any(|kind| known.contains(&kind.as_str())) {
        return Err("no InitConfiguration or ClusterConfiguration kind was found in the YAML file"
            .to_owned());
    }
    Ok(config)
}

fn documents(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n---").map(|part| part.trim_start_matches("---").trim_start_matches('\n'))
}

fn skips_proxy(value: &Value) -> bool {
    value["skipPhases"].as_array().into_iter().flatten().any(|phase| phase == "addon/kube-proxy")
}

fn text(value: &Value) -> Option<String> {
    seed::string(value).filter(|text| !text.is_empty())
}

fn token(text: String) -> Result<String, String> {
    let good = |part: &str, length: usize| {
        part.len() == length && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    match text.split_once('.') {
        Some((id, secret)) if good(id, 6) && good(secret, 16) => Ok(text),
        _ => Err(
            "the bootstrap token is not of the form \"\\\\A([a-z0-9]{6})\\\\.([a-z0-9]{16})\\\\z\""
                .to_owned(),
        ),
    }
}

fn registration(config: &mut Config, value: &Value, endpoint: &Value) {
    config.node = text(&value["nodeRegistration"]["name"]).map(|name| name.to_lowercase());
    config.advertise = endpoint["advertiseAddress"].as_str().and_then(|text| text.parse().ok());
}

fn init(config: &mut Config, value: &Value) -> Result<(), String> {
    registration(config, value, &value["localAPIEndpoint"]);
    let first = &value["bootstrapTokens"][0];
    config.token = text(&first["token"]).map(token).transpose()?;
    if let Some(life) = first["ttl"].as_str().and_then(seconds) {
        config.token_life = life as i64;
    }
    config.certificate_key = text(&value["certificateKey"]);
    if let Some(limit) =
        value["timeouts"]["controlPlaneComponentHealthCheck"].as_str().and_then(seconds)
    {
        config.timeout = limit;
    }
    Ok(())
}

fn cluster(config: &mut Config, value: &Value) {
    config.version = text(&value["kubernetesVersion"])
        .map(|version| format!("v{}", version.trim_start_matches('v')));
    config.endpoint = text(&value["controlPlaneEndpoint"]);
    let external = &value["etcd"]["external"];
    let endpoints = external["endpoints"].as_array().into_iter().flatten();
    config.etcd_endpoints = endpoints.filter_map(text).collect();
    if external.is_object() {
        let file = |key: &str| text(&external[key]).unwrap_or_default();
        config.etcd_files = Some([file("caFile"), file("certFile"), file("keyFile")]);
    }
    let names = value["apiServer"]["certSANs"].as_array().into_iter().flatten();
    config.names = names.filter_map(text).collect();
    let or = |key: &str, default: &str| {
        text(&value["networking"][key]).unwrap_or_else(|| default.to_owned())
    };
    config.services = or("serviceSubnet", "10.96.0.0/12");
    config.dns_domain = or("dnsDomain", "cluster.local");
    config.cluster_name = text(&value["clusterName"]).unwrap_or_else(|| "kubernetes".to_owned());
    if let Some(limit) = value["apiServer"]["timeoutForControlPlane"].as_str().and_then(seconds) {
        config.timeout = limit;
    }
}

fn join(config: &mut Config, value: &Value) -> Result<(), String> {
    registration(config, value, &value["controlPlane"]["localAPIEndpoint"]);
    config.control_plane = value["controlPlane"].is_object();
    config.certificate_key = text(&value["controlPlane"]["certificateKey"]);
    let discovery = &value["discovery"];
    let bootstrap = &discovery["bootstrapToken"];
    config.token = text(&bootstrap["token"])
        .or_else(|| text(&discovery["tlsBootstrapToken"]))
        .map(token)
        .transpose()?;
    config.join_endpoint = text(&bootstrap["apiServerEndpoint"]);
    config.pins =
        bootstrap["caCertHashes"].as_array().into_iter().flatten().filter_map(text).collect();
    config.unpinned = bootstrap["unsafeSkipCAVerification"].as_bool().unwrap_or(false);
    if config.token.is_none() {
        return Err("discovery.bootstrapToken.token: Invalid value: \"\": the bootstrap token is \
                    invalid"
            .to_owned());
    }
    if config.pins.is_empty() && !config.unpinned {
        return Err(
            "discovery.bootstrapToken.caCertHashes: Invalid value: \"\": using token-based \
                    discovery without caCertHashes can be unsafe. Set unsafeSkipCAVerification as \
                    true in your kubeadm config file or pass --discovery-token-unsafe-skip-ca-\
                    verification flag to continue"
                .to_owned(),
        );
    }
    let limit = text(&value["timeouts"]["discovery"]).or_else(|| text(&discovery["timeout"]));
    if let Some(limit) = limit.as_deref().and_then(seconds) {
        config.discovery_timeout = limit;
    }
    Ok(())
}

/// A Go duration such as `2m0s` in seconds.
fn seconds(text: &str) -> Option<f64> {
    let mut total = 0.0;
    let mut number = String::new();
    for letter in text.chars() {
        let factor = match letter {
            'h' => 3600.0,
            'm' => 60.0,
            's' => 1.0,
            other => {
                number.push(other);
                continue;
            }
        };
        total += number.parse::<f64>().ok()? * factor;
        number.clear();
    }
    number.is_empty().then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_parsed_as_go_does() {
        assert_eq!(seconds("2m0s"), Some(120.0));
        assert_eq!(seconds("24h0m0s"), Some(86400.0));
        assert_eq!(seconds("5"), None);
    }

    #[test]
    fn an_api_version_that_a_minor_does_not_support_is_refused() {
        let text = "apiVersion: kubeadm.k8s.io/v1beta3\nkind: ClusterConfiguration\n";
        assert!(read(text, 28).is_ok());
        assert!(read(text, 36).is_ok());
        assert!(read(text, 37).unwrap_err().contains("old API spec"));
        assert!(read(&text.replace("beta3", "beta4"), 28).is_err());
    }

    #[test]
    fn extra_args_have_the_form_of_their_version() {
        let map = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n\
            controllerManager:\n  extraArgs:\n    node-cidr-mask-size: '24'\n";
        assert!(read(map, 31).unwrap_err().contains("cannot unmarshal object"));
        assert!(read(&map.replace("beta4", "beta3"), 31).is_ok());
    }

    #[test]
    fn an_unknown_field_is_reported() {
        let text = "apiVersion: kubeadm.k8s.io/v1beta3\nkind: ClusterConfiguration\nvip: a\n";
        assert!(read(text, 28).unwrap().warnings[0].contains("unknown field \"vip\""));
    }
}
