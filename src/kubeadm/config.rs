//! kubeadm's configuration files, in the API version that the cluster's kubeadm reads.
//!
//! Source: <https://kubernetes.io/docs/reference/config-api/kubeadm-config.v1beta4/> and `v1beta3`
//! next to it.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use crate::cluster::{Cluster, KubeadmApi, Node, ProxyMode, Role};

mod types;

use types::{
    Addon, ApiServer, BootstrapDiscovery, BootstrapToken, ClusterConfiguration, ControllerManager,
    Discovery, Document, EtcdSection, ExternalEtcd, ExtraArgs, InitConfiguration,
    JoinConfiguration, JoinControlPlane, KubeProxyConfiguration, KubeletConfiguration,
    LocalApiEndpoint, Networking, NodeRegistration, Timeouts,
};

/// The socket of containerd on every node.
pub(crate) const CRI_SOCKET: &str = "unix:///run/containerd/containerd.sock";
/// The file that `kubeadm init` reads: 0600, because it contains the token and the certificate key.
pub const INIT_FILE: &str = "/etc/kubernetes/k8sha/init.yaml";
/// The file that `kubeadm join` reads: 0600, because it contains the token and perhaps the
/// certificate key.
pub const JOIN_FILE: &str = "/etc/kubernetes/k8sha/join.yaml";
/// The CA of the external etcd, on every master.
pub const ETCD_CA_FILE: &str = "/etc/kubernetes/pki/etcd/etcd-ca.crt";
/// The API servers' certificate for the external etcd, on every master.
pub const ETCD_CERT_FILE: &str = "/etc/kubernetes/pki/etcd/apiserver-etcd-client.crt";
/// Its private key: 0600.
pub const ETCD_KEY_FILE: &str = "/etc/kubernetes/pki/etcd/apiserver-etcd-client.key";

/// The replacement for a secret in output.
const MASK: &str = "(masked)";
/// The lifetime of a bootstrap token.
const TOKEN_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// The secrets for `kubeadm init`.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The bootstrap token, `[a-z0-9]{6}.[a-z0-9]{16}`.
    pub token: SecretString,
    /// Encrypts the uploaded certificates: 32 bytes as 64 hex digits.
    pub certificate_key: SecretString,
}

/// The input of `kubeadm join`.
#[derive(Clone, Debug)]
pub struct Join {
    /// A bootstrap token that has not expired.
    pub token: SecretString,
    /// `sha256:` and the hex SHA-256 of the cluster CA's public key, one per CA.
    pub ca_hashes: Vec<String>,
    /// Decrypts the uploaded certificates; needed by masters, unused by workers.
    pub certificate_key: Option<SecretString>,
}

/// A configuration file. `Debug` prints no secret.
#[derive(Clone, Debug)]
pub struct Config {
    text: SecretString,
    masked: String,
}

impl Config {
    /// The file's text, with its secrets.
    pub fn text(&self) -> &SecretString {
        &self.text
    }

    /// The same without secrets, for display.
    pub fn masked(&self) -> &str {
        &self.masked
    }
}

/// The configuration cannot be written as YAML.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot write the kubeadm configuration of `{node}`: {source}")]
pub struct Error {
    node: String,
    source: Arc<serde_saphyr::SerializeError>,
}

/// The configuration of `kubeadm init` on a master.
///
/// # Errors
/// None for a validated cluster.
pub fn init(cluster: &Cluster, node: &Node, keys: &Keys) -> Result<Config, Error> {
    config(node, |masked| {
        let show = |secret| show(secret, masked);
        let (token, key) = (show(&keys.token), show(&keys.certificate_key));
        let documents = init_documents(cluster, node, token, key);
        serde_saphyr::to_string_multiple(&documents)
    })
}

/// The configuration of `kubeadm join` on any other node.
///
/// # Errors
/// None for a validated cluster.
pub fn join(cluster: &Cluster, node: &Node, join: &Join) -> Result<Config, Error> {
    config(node, |masked| {
        let key = join.certificate_key.as_ref().map(|key| show(key, masked));
        let document = join_document(cluster, node, join, show(&join.token, masked), key);
        serde_saphyr::to_string(&document)
    })
}

fn config(
    node: &Node,
    write: impl Fn(bool) -> Result<String, serde_saphyr::SerializeError>,
) -> Result<Config, Error> {
    let write = |masked| {
        write(masked).map_err(|error| Error { node: node.name.to_string(), source: error.into() })
    };
    Ok(Config { text: write(false)?.into(), masked: write(true)? })
}

fn show(secret: &SecretString, masked: bool) -> &str {
    if masked { MASK } else { secret.expose_secret() }
}

fn init_documents<'a>(
    cluster: &'a Cluster,
    node: &'a Node,
    token: &'a str,
    key: &'a str,
) -> Vec<Document<'a>> {
    let kubernetes = &cluster.kubernetes;
    let api = kubernetes.version.kubeadm_api();
    let no_proxy = kubernetes.proxy == ProxyMode::None;
    let mut documents = vec![
        Document::Init(Box::new(InitConfiguration {
            api_version: api_version(api),
            kind: "InitConfiguration",
            bootstrap_tokens: [BootstrapToken {
                token,
                ttl: go_duration(TOKEN_TTL),
                usages: ["signing", "authentication"],
                groups: ["system:bootstrappers:kubeadm:default-node-token"],
            }],
            certificate_key: key,
            local_api_endpoint: local_endpoint(cluster, node),
            node_registration: registration(api, node),
            skip_phases: if no_proxy { vec!["addon/kube-proxy"] } else { Vec::new() },
            timeouts: timeouts(cluster),
        })),
        Document::Cluster(Box::new(cluster_configuration(cluster))),
        Document::Kubelet(KubeletConfiguration {
            api_version: "kubelet.config.k8s.io/v1beta1",
            kind: "KubeletConfiguration",
            cgroup_driver: "systemd",
        }),
    ];
    if !no_proxy {
        documents.push(Document::KubeProxy(KubeProxyConfiguration {
            api_version: "kubeproxy.config.k8s.io/v1alpha1",
            kind: "KubeProxyConfiguration",
            mode: kubernetes.proxy,
        }));
    }
    documents
}

fn cluster_configuration(cluster: &Cluster) -> ClusterConfiguration<'_> {
    let kubernetes = &cluster.kubernetes;
    let api = kubernetes.version.kubeadm_api();
    let timeout = go_duration(kubernetes.control_plane_timeout);
    ClusterConfiguration {
        api_version: api_version(api),
        kind: "ClusterConfiguration",
        cluster_name: &cluster.name,
        kubernetes_version: format!("v{}", kubernetes.version),
        control_plane_endpoint: api_endpoint(cluster),
        image_repository: kubernetes.image_repository.as_deref(),
        networking: Networking {
            dns_domain: &kubernetes.dns_domain,
            pod_subnet: kubernetes.pods.to_string(),
            service_subnet: kubernetes.services.to_string(),
        },
        api_server: ApiServer {
            cert_sans: cert_sans(cluster),
            timeout_for_control_plane: (api == KubeadmApi::V1Beta3).then_some(timeout),
        },
        controller_manager: ControllerManager {
            extra_args: ExtraArgs::new(
                api,
                [("node-cidr-mask-size", kubernetes.node_mask.to_string())],
            ),
        },
        etcd: cluster.etcd.endpoints().map(|endpoints| EtcdSection {
            external: ExternalEtcd {
                endpoints,
                ca_file: ETCD_CA_FILE,
                cert_file: ETCD_CERT_FILE,
                key_file: ETCD_KEY_FILE,
            },
        }),
        // The cluster does not record the phase skipped at init, but it records this, so that an
        // upgrade knows.
        proxy: (api == KubeadmApi::V1Beta4 && kubernetes.proxy == ProxyMode::None)
            .then_some(Addon { disabled: true }),
    }
}

fn join_document<'a>(
    cluster: &'a Cluster,
    node: &'a Node,
    join: &'a Join,
    token: &'a str,
    key: Option<&'a str>,
) -> JoinConfiguration<'a> {
    let api = cluster.kubernetes.version.kubeadm_api();
    JoinConfiguration {
        api_version: api_version(api),
        kind: "JoinConfiguration",
        discovery: Discovery {
            bootstrap_token: BootstrapDiscovery {
                api_server_endpoint: api_endpoint(cluster),
                token,
                ca_cert_hashes: &join.ca_hashes,
            },
        },
        control_plane: (node.role == Role::Master).then(|| JoinControlPlane {
            certificate_key: key,
            local_api_endpoint: local_endpoint(cluster, node),
        }),
        node_registration: registration(api, node),
        timeouts: timeouts(cluster),
    }
}

fn api_version(api: KubeadmApi) -> &'static str {
    match api {
        KubeadmApi::V1Beta3 => "kubeadm.k8s.io/v1beta3",
        KubeadmApi::V1Beta4 => "kubeadm.k8s.io/v1beta4",
    }
}

/// The endpoint of clients and joining nodes: the name, which resolves to the VIP.
fn api_endpoint(cluster: &Cluster) -> String {
    format!("{}:{}", cluster.api.fqdn, cluster.api.port)
}

/// A node's own address, never the VIP: probes and the `kubernetes` service use it.
fn local_endpoint(cluster: &Cluster, node: &Node) -> LocalApiEndpoint {
    LocalApiEndpoint { advertise_address: node.ip, bind_port: cluster.api.port }
}

fn registration(api: KubeadmApi, node: &Node) -> NodeRegistration<'_> {
    NodeRegistration {
        name: &node.fqdn,
        cri_socket: CRI_SOCKET,
        kubelet_extra_args: ExtraArgs::new(api, [("node-ip", node.ip.to_string())]),
    }
}

fn timeouts(cluster: &Cluster) -> Option<Timeouts> {
    let kubernetes = &cluster.kubernetes;
    (kubernetes.version.kubeadm_api() == KubeadmApi::V1Beta4).then(|| Timeouts {
        control_plane_component_health_check: go_duration(kubernetes.control_plane_timeout),
    })
}

/// Every name and address in the API servers' certificates. kubeadm adds the names of the
/// `kubernetes` service and each node's own.
fn cert_sans(cluster: &Cluster) -> Vec<String> {
    let api = &cluster.api;
    let mut sans = vec![api.name.clone(), api.fqdn.clone(), api.vip.to_string()];
    for master in cluster.with_role(Role::Master) {
        sans.extend([master.name.to_string(), master.fqdn.clone(), master.ip.to_string()]);
    }
    sans
}

/// A duration as Go's `time.Duration` writes it, in whole seconds: `24h0m0s`, `2m0s`, `45s`.
fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, s) => format!("{h}h{m}m{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::{Version, fixture};

    fn keys() -> Keys {
        Keys { token: "abcdef.0123456789abcdef".into(), certificate_key: "ab".repeat(32).into() }
    }

    fn joining() -> Join {
        Join {
            token: keys().token,
            ca_hashes: vec![format!("sha256:{}", "cd".repeat(32))],
            certificate_key: Some(keys().certificate_key),
        }
    }

    fn documents(config: &Config) -> Vec<Value> {
        serde_saphyr::from_multiple(config.text().expose_secret()).unwrap()
    }

    #[test]
    fn init_advertises_the_masters_own_address_and_not_the_vip() {
        let config = init(&fixture::k8s1(), &fixture::k8s1().nodes[2], &keys()).unwrap();
        let documents = documents(&config);
        assert_eq!(documents[0]["localAPIEndpoint"]["advertiseAddress"], "10.101.1.101");
        assert_eq!(documents[1]["controlPlaneEndpoint"], "k8s1api.kloud.lan:6443");
        let sans = documents[1]["apiServer"]["certSANs"].as_array().unwrap();
        assert_eq!(sans.len(), 3 + 3 * 6);
        for name in ["k8s1api", "10.101.1.10", "k8s1master6.kloud.lan", "10.101.1.203"] {
            assert!(sans.contains(&json!(name)), "{name}");
        }
    }

    #[test]
    fn extra_arguments_and_timeouts_follow_the_api_version() {
        let mut cluster = fixture::k8s1();
        let old = documents(&init(&cluster, cluster.first_master(), &keys()).unwrap());
        assert_eq!(old[1]["controllerManager"]["extraArgs"], json!({"node-cidr-mask-size": "24"}));
        assert_eq!(old[1]["apiServer"]["timeoutForControlPlane"], "2m0s");
        assert_eq!(old[0].get("timeouts"), None);
        cluster.kubernetes.version = Version { major: 1, minor: 31, patch: 0 };
        let new = documents(&init(&cluster, cluster.first_master(), &keys()).unwrap());
        assert_eq!(
            new[1]["controllerManager"]["extraArgs"],
            json!([{"name": "node-cidr-mask-size", "value": "24"}])
        );
        assert_eq!(new[1]["apiServer"].get("timeoutForControlPlane"), None);
        assert_eq!(new[0]["timeouts"]["controlPlaneComponentHealthCheck"], "2m0s");
    }

    #[test]
    fn without_kube_proxy_nothing_configures_it() {
        let documents = documents(
            &init(&fixture::homelab(), fixture::homelab().first_master(), &keys()).unwrap(),
        );
        let kinds: Vec<_> = documents.iter().map(|document| &document["kind"]).collect();
        assert_eq!(kinds, ["InitConfiguration", "ClusterConfiguration", "KubeletConfiguration"]);
        assert_eq!(documents[0]["skipPhases"], json!(["addon/kube-proxy"]));
        assert_eq!(documents[1]["proxy"], json!({"disabled": true}));
    }

    #[test]
    fn only_a_master_joins_with_the_certificate_key() {
        let cluster = fixture::homelab();
        let master = join(&cluster, &cluster.nodes[3], &joining()).unwrap();
        let worker = join(&cluster, &cluster.nodes[5], &joining()).unwrap();
        let (master, worker) = (&documents(&master)[0], &documents(&worker)[0]);
        assert_eq!(master["controlPlane"]["certificateKey"], "ab".repeat(32));
        assert_eq!(
            master["controlPlane"]["localAPIEndpoint"],
            json!({"advertiseAddress": "10.101.1.102", "bindPort": 6443})
        );
        assert_eq!(master["nodeRegistration"]["name"], "k8s1master2.kloud.lan");
        assert_eq!(worker.get("controlPlane"), None);
    }

    #[test]
    fn no_secret_is_shown() {
        let cluster = fixture::k8s1();
        for config in [
            init(&cluster, cluster.first_master(), &keys()).unwrap(),
            join(&cluster, &cluster.nodes[3], &joining()).unwrap(),
        ] {
            let shown = format!("{}{config:?}", config.masked());
            for secret in ["0123456789abcdef", "abababab"] {
                assert!(!shown.contains(secret), "{shown}");
                assert!(config.text().expose_secret().contains(secret));
            }
        }
    }

    #[test]
    fn secrets_that_look_like_numbers_stay_texts() {
        // YAML 1.1, which kubeadm reads, parses all of these as numbers if they are not quoted.
        for (token, key) in [
            ("123456.7890123456789012", format!("{}e{}", "1".repeat(31), "2".repeat(32))),
            ("0x1234.0123456789012345", "0".repeat(64)),
            ("1e5432.0123456789012345", format!("0{}", "7".repeat(63))),
        ] {
            let keys = Keys { token: token.into(), certificate_key: key.clone().into() };
            let config = init(&fixture::k8s1(), fixture::k8s1().first_master(), &keys).unwrap();
            let text = config.text().expose_secret();
            if token.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
                assert!(text.contains(&format!("- token: \"{token}\"\n")), "{text}");
            }
            assert!(text.contains(&format!("certificateKey: \"{key}\"\n")), "{text}");
            assert_eq!(documents(&config)[0]["bootstrapTokens"][0]["token"], token);
        }
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (seconds, want) in [(45, "45s"), (120, "2m0s"), (86_400, "24h0m0s"), (3_725, "1h2m5s")]
        {
            assert_eq!(go_duration(Duration::from_secs(seconds)), want);
        }
    }
}
