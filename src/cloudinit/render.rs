//! A node of the table → the three documents of its seed, parsed back before anybody uses them.

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::context::Variables;
use super::iso::{self, File};
use super::{Error, NodeSecrets, Templates};
use crate::cluster::{Cluster, Node, NodeName, Role};

const USER_DATA: &str = "user-data";
const META_DATA: &str = "meta-data";
const NETWORK_CONFIG: &str = "network-config";

/// The documents of a NoCloud seed.
///
/// `Debug` prints no secret.
#[derive(Clone, Debug)]
pub struct Seed {
    /// What to do at the first boot; holds the private host key.
    pub user_data: SecretString,
    /// Which instance this is.
    pub meta_data: String,
    /// The static network.
    pub network_config: String,
    masked: String,
}

/// A seed as Proxmox takes it.
#[derive(Clone)]
pub struct SeedImage {
    /// The file's name on an ISO storage: `k8sha-CLUSTER-NODE-HASH.iso`, where HASH is the first
    /// 12 hex digits of the bytes' SHA-256.
    pub file_name: String,
    /// An ISO 9660 image. Holds the private host key.
    pub bytes: Vec<u8>,
}

/// Renders a node's documents.
///
/// `instance_id` must stay the same for the VM's whole life: cloud-init runs everything again, and
/// deletes the host keys, when it changes.
///
/// # Errors
/// [`Error::Render`] when a template uses what is not there, [`Error::Document`] when the result is
/// not what cloud-init reads.
pub fn render(
    templates: &Templates,
    cluster: &Cluster,
    node: &Node,
    secrets: &NodeSecrets,
    instance_id: &str,
) -> Result<Seed, Error> {
    let fill = |document: &'static str, template: &str, masked: bool| {
        let report = |report| Error::Render { document, node: node.name.to_string(), report };
        let variables = Variables::new(cluster, node, secrets, instance_id, masked);
        let context =
            tera::Context::from_serialize(&variables).map_err(|error| report(error.to_string()))?;
        templates.render(template, &context).map_err(report)
    };
    let user_data_template = match node.role {
        Role::LoadBalancer => "load-balancer.yaml",
        Role::Etcd => "etcd.yaml",
        Role::Master | Role::Worker => "kubernetes.yaml",
    };
    // First as people may see it: a parser's complaint quotes lines of what it read.
    let masked = fill(USER_DATA, user_data_template, true)?;
    check(USER_DATA, node, parse(&masked).and_then(|value| user_data_fault(&masked, &value)))?;
    let user_data = fill(USER_DATA, user_data_template, false)?;
    let unquoted = parse(&user_data).map_err(|_| "a secret breaks the document".to_owned());
    check(USER_DATA, node, unquoted.map(drop))?;
    // The other two have no business with secrets, not even in somebody's override.
    let meta_data = fill(META_DATA, "meta-data.yaml", true)?;
    check(META_DATA, node, parse(&meta_data).and_then(|value| meta_data_fault(&value)))?;
    let network_config = fill(NETWORK_CONFIG, "network-config.yaml", true)?;
    check(NETWORK_CONFIG, node, parse(&network_config).and_then(|value| network_fault(&value)))?;
    Ok(Seed { user_data: user_data.into(), meta_data, network_config, masked })
}

impl Seed {
    /// The user-data with the private host key taken out, to be shown.
    pub fn masked(&self) -> &str {
        &self.masked
    }

    /// The seed as an ISO image. The same documents give the same bytes, so an image that is on
    /// the storage already need not be uploaded again.
    pub fn image(&self, cluster: &Cluster, node: &NodeName) -> SeedImage {
        let bytes = iso::image(
            "cidata",
            &[
                File { name: META_DATA, body: self.meta_data.as_bytes() },
                File { name: NETWORK_CONFIG, body: self.network_config.as_bytes() },
                File { name: USER_DATA, body: self.user_data.expose_secret().as_bytes() },
            ],
        );
        let hash: String =
            Sha256::digest(&bytes).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        SeedImage { file_name: format!("k8sha-{}-{node}-{hash}.iso", cluster.name), bytes }
    }
}

fn parse(text: &str) -> Result<Value, String> {
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}

fn check(document: &'static str, node: &Node, found: Result<(), String>) -> Result<(), Error> {
    found.map_err(|reason| Error::Document { document, node: node.name.to_string(), reason })
}

fn user_data_fault(text: &str, value: &Value) -> Result<(), String> {
    if text.lines().next() != Some("#cloud-config") {
        return Err("its first line is not `#cloud-config`".to_owned());
    }
    for key in ["users", "ssh_keys", "write_files", "runcmd"] {
        if value.get(key).is_none() {
            return Err(format!("it has no `{key}`"));
        }
    }
    Ok(())
}

fn meta_data_fault(value: &Value) -> Result<(), String> {
    match value.get("instance-id") {
        Some(Value::String(id)) if !id.is_empty() => Ok(()),
        _ => Err("it has no `instance-id`".to_owned()),
    }
}

fn network_fault(value: &Value) -> Result<(), String> {
    match (value.get("version"), value.get("ethernets")) {
        (Some(version), Some(Value::Object(_))) if *version == 2 => Ok(()),
        _ => Err("it is not a network configuration of version 2 with `ethernets`".to_owned()),
    }
}
