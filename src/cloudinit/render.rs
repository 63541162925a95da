//! Renders a node of the table into the three documents of its seed, and parses them back before
//! use.

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::context::{Variables, card_address};
use super::iso::{self, File};
use super::{Error, NodeSecrets, Templates};
use crate::cluster::{Cluster, Node, Role};
use crate::hash;

const USER_DATA: &str = "user-data";
const META_DATA: &str = "meta-data";
const NETWORK_CONFIG: &str = "network-config";

/// The files that a load balancer gets again, over SSH, whenever they change: masters and load
/// balancers come and go, and cloud-init reads its documents only once.
pub const KEPT: [&str; 2] = ["/etc/haproxy/haproxy.cfg", "/etc/keepalived/keepalived.conf"];

/// A file of the documents that is kept up to date for the machine's lifetime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its path on the node: one of [`KEPT`].
    pub path: String,
    /// Its content, as cloud-init writes it.
    pub content: String,
    /// Its permission bits, in octal digits.
    pub mode: String,
}

/// The documents of a NoCloud seed.
///
/// `Debug` prints no secret.
#[derive(Clone, Debug)]
pub struct Seed {
    /// The configuration of the first boot; contains the private host key.
    pub user_data: SecretString,
    /// The instance id.
    pub meta_data: String,
    /// The static network.
    pub network_config: String,
    /// The MAC address of the network card, in capitals; `None` if a user's template selects the
    /// card in another way.
    pub mac: Option<String>,
    /// The files that a load balancer gets again whenever they change; empty for others.
    pub kept: Vec<Kept>,
    masked: String,
    /// The hash of everything except the kept files, if there are any.
    rest: Option<String>,
}

/// A seed in the form that Proxmox VE accepts.
#[derive(Clone)]
pub struct SeedImage {
    /// Identifies the seed in its file name: the first 12 hex digits of the bytes' SHA-256. If
    /// files are [`Kept`], 12 digits over the documents without those come first, so that a name
    /// shows whether a machine lacks more than them.
    pub hashes: String,
    /// An ISO 9660 image. Contains the private host key.
    pub bytes: Vec<u8>,
}

/// Renders a node's documents.
/// `instance_id` must stay the same for the VM's lifetime: cloud-init runs everything again, and
/// deletes the host keys, when it changes.
///
/// # Errors
/// [`Error::Render`] if a template uses something undefined, [`Error::Document`] if cloud-init
/// would not accept the result.
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
    // The masked document is parsed first, because a parser's error quotes its input.
    let masked = fill(USER_DATA, user_data_template, true)?;
    check(USER_DATA, node, parse(&masked).and_then(|value| user_data_fault(&masked, &value)))?;
    let user_data = fill(USER_DATA, user_data_template, false)?;
    let mut parsed = parse(&user_data).map_err(|_| Error::Document {
        document: USER_DATA,
        node: node.name.to_string(),
        reason: "a secret breaks the document".to_owned(),
    })?;
    let kept = match node.role {
        Role::LoadBalancer => take_kept(&mut parsed),
        Role::Etcd | Role::Master | Role::Worker => Vec::new(),
    };
    // The other two contain no secrets, not even in a user's override.
    let meta_data = fill(META_DATA, "meta-data.yaml", true)?;
    check(META_DATA, node, parse(&meta_data).and_then(|value| meta_data_fault(&value)))?;
    let network_config = fill(NETWORK_CONFIG, "network-config.yaml", true)?;
    check(NETWORK_CONFIG, node, parse(&network_config).and_then(|value| network_fault(&value)))?;
    let rest = || hash::short(format!("{parsed}\n{meta_data}\n{network_config}").as_bytes());
    let rest = (!kept.is_empty()).then(rest);
    let mac = card_address(instance_id);
    let mac = network_config.to_lowercase().contains(&mac).then(|| mac.to_uppercase());
    Ok(Seed { user_data: user_data.into(), meta_data, network_config, mac, kept, masked, rest })
}

/// Takes the content of the kept files out of a document. One that a user's template writes in
/// another way, such as encoded, is left to cloud-init.
fn take_kept(user_data: &mut Value) -> Vec<Kept> {
    let files = user_data.get_mut("write_files").and_then(Value::as_array_mut);
    let mut kept = Vec::new();
    for file in files.into_iter().flatten().filter_map(Value::as_object_mut) {
        let text = |key: &str| file.get(key).and_then(Value::as_str);
        let plain =
            file.keys().all(|key| ["path", "content", "permissions"].contains(&key.as_str()));
        let path = text("path").filter(|path| plain && KEPT.contains(path)).map(str::to_owned);
        let mode = text("permissions").unwrap_or("0644").to_owned();
        let content = file.get_mut("content").filter(|_| path.is_some()).map(Value::take);
        if let (Some(path), Some(Value::String(content))) = (path, content) {
            kept.push(Kept { path, content, mode });
        }
    }
    kept
}

impl Seed {
    /// The user-data without the private host key, for display.
    pub fn masked(&self) -> &str {
        &self.masked
    }

    /// All three documents without the private host key.
    pub fn shown(&self) -> String {
        format!("{}\n{}\n{}", self.masked, self.meta_data, self.network_config)
    }

    /// The seed as an ISO image. The same documents give the same bytes, so an image that is
    /// already on the storage is not uploaded again.
    pub fn image(&self) -> SeedImage {
        let bytes = iso::image(
            "cidata",
            &[
                File { name: META_DATA, body: self.meta_data.as_bytes() },
                File { name: NETWORK_CONFIG, body: self.network_config.as_bytes() },
                File { name: USER_DATA, body: self.user_data.expose_secret().as_bytes() },
            ],
        );
        let (rest, hash) = (self.rest.as_deref().unwrap_or_default(), hash::short(&bytes));
        SeedImage { hashes: format!("{rest}{hash}"), bytes }
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
