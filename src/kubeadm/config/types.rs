//! The documents of a kubeadm configuration file, limited to the fields that k8sha sets.
//!
//! One struct serves both API versions: a field that a version does not have is `None` for it.

use std::net::Ipv4Addr;

use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use crate::cluster::{KubeadmApi, ProxyMode};

/// One document of the file that `kubeadm init` reads.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Document<'a> {
    Init(Box<InitConfiguration<'a>>),
    Cluster(Box<ClusterConfiguration<'a>>),
    Kubelet(KubeletConfiguration),
    KubeProxy(KubeProxyConfiguration),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InitConfiguration<'a> {
    pub api_version: &'static str,
    pub kind: &'static str,
    pub bootstrap_tokens: [BootstrapToken<'a>; 1],
    pub certificate_key: &'a str,
    #[serde(rename = "localAPIEndpoint")]
    pub local_api_endpoint: LocalApiEndpoint,
    pub node_registration: NodeRegistration<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skip_phases: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
}

#[derive(Serialize)]
pub(super) struct BootstrapToken<'a> {
    pub token: &'a str,
    pub ttl: String,
    pub usages: [&'static str; 2],
    pub groups: [&'static str; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LocalApiEndpoint {
    pub advertise_address: Ipv4Addr,
    pub bind_port: u16,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NodeRegistration<'a> {
    pub name: &'a str,
    pub cri_socket: &'static str,
    pub kubelet_extra_args: ExtraArgs,
}

/// Since v1beta4; v1beta3 has it as `apiServer.timeoutForControlPlane`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Timeouts {
    pub control_plane_component_health_check: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClusterConfiguration<'a> {
    pub api_version: &'static str,
    pub kind: &'static str,
    pub cluster_name: &'a str,
    pub kubernetes_version: String,
    pub control_plane_endpoint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_repository: Option<&'a str>,
    pub networking: Networking<'a>,
    pub api_server: ApiServer,
    pub controller_manager: ControllerManager,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etcd: Option<EtcdSection<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Addon>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Networking<'a> {
    pub dns_domain: &'a str,
    pub pod_subnet: String,
    pub service_subnet: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ApiServer {
    #[serde(rename = "certSANs")]
    pub cert_sans: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_for_control_plane: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ControllerManager {
    pub extra_args: ExtraArgs,
}

#[derive(Serialize)]
pub(super) struct EtcdSection<'a> {
    pub external: ExternalEtcd<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ExternalEtcd<'a> {
    pub endpoints: &'a [String],
    pub ca_file: &'static str,
    pub cert_file: &'static str,
    pub key_file: &'static str,
}

#[derive(Serialize)]
pub(super) struct Addon {
    pub disabled: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct KubeletConfiguration {
    pub api_version: &'static str,
    pub kind: &'static str,
    pub cgroup_driver: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct KubeProxyConfiguration {
    pub api_version: &'static str,
    pub kind: &'static str,
    pub mode: ProxyMode,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JoinConfiguration<'a> {
    pub api_version: &'static str,
    pub kind: &'static str,
    pub discovery: Discovery<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_plane: Option<JoinControlPlane<'a>>,
    pub node_registration: NodeRegistration<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Discovery<'a> {
    pub bootstrap_token: BootstrapDiscovery<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BootstrapDiscovery<'a> {
    pub api_server_endpoint: String,
    pub token: &'a str,
    pub ca_cert_hashes: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JoinControlPlane<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_key: Option<&'a str>,
    #[serde(rename = "localAPIEndpoint")]
    pub local_api_endpoint: LocalApiEndpoint,
}

/// Command-line arguments of a component: a map up to v1beta3, a list from v1beta4 on.
pub(super) struct ExtraArgs {
    api: KubeadmApi,
    args: Vec<(&'static str, String)>,
}

impl ExtraArgs {
    pub fn new<const N: usize>(api: KubeadmApi, args: [(&'static str, String); N]) -> Self {
        Self { api, args: args.into() }
    }
}

#[derive(Serialize)]
struct Arg<'a> {
    name: &'static str,
    value: &'a str,
}

impl Serialize for ExtraArgs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.api {
            KubeadmApi::V1Beta3 => {
                let mut map = serializer.serialize_map(Some(self.args.len()))?;
                for (name, value) in &self.args {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
            KubeadmApi::V1Beta4 => {
                let mut list = serializer.serialize_seq(Some(self.args.len()))?;
                for (name, value) in &self.args {
                    list.serialize_element(&Arg { name, value })?;
                }
                list.end()
            }
        }
    }
}
