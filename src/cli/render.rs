//! `k8sha render NODE`: a node's documents as they would be, secrets masked.

use secrecy::SecretString;
use serde::Serialize;

use super::args::Common;
use super::desk;
use crate::cloudinit::{self, NodeSecrets};
use crate::cluster::{Cluster, Node, Role};
use crate::error::{Exit, Failure};
use crate::kubeadm::config;

/// The documents of a node.
#[derive(Serialize)]
struct Documents {
    node: String,
    user_data: String,
    meta_data: String,
    network_config: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kubeadm: Option<String>,
}

pub(super) fn run(common: &Common, name: &str) -> Result<Exit, Failure> {
    let cluster = desk::load(common, desk::Warnings::Full)?;
    let templates = desk::templates(common)?;
    let short = name.split('.').next().unwrap_or(name);
    let Some(node) = cluster.nodes.iter().find(|node| node.name.as_str() == short) else {
        let known: Vec<&str> = cluster.nodes.iter().map(|node| node.name.as_str()).collect();
        return Err(Failure::new(
            Exit::Usage,
            format!("render `{name}`"),
            format!("no row of the profile has that name; known are {}", known.join(", ")),
        ));
    };
    // Nothing of this is written or used: what is secret is masked, what is made is a stand-in.
    let secrets = NodeSecrets {
        host_key_private: SecretString::from("(masked)"),
        host_key_public: "ssh-ed25519 (made at the first run)".to_owned(),
        operator_public: "ssh-ed25519 (made at the first run)".to_owned(),
    };
    let instance = crate::run::context::instance_id(&cluster, node, "CREATION");
    let seed = cloudinit::render(&templates, &cluster, node, &secrets, &instance)
        .map_err(|error| Failure::new(Exit::Usage, "render the seed", error).on(&node.name))?;
    let documents = Documents {
        node: node.name.to_string(),
        user_data: seed.masked().to_owned(),
        meta_data: seed.meta_data.clone(),
        network_config: seed.network_config.clone(),
        kubeadm: kubeadm(&cluster, node)?,
    };
    if common.json {
        super::print_json(&documents)?;
    } else {
        super::print(&documents.text())?;
    }
    Ok(Exit::Ok)
}

fn kubeadm(cluster: &Cluster, node: &Node) -> Result<Option<String>, Failure> {
    if !node.role.is_kubernetes() {
        return Ok(None);
    }
    let keys = crate::kubeadm::keys::generate();
    let text = if node.name == cluster.first_master().name {
        config::init(cluster, &keys)
    } else {
        let join = config::Join {
            token: keys.token.clone(),
            ca_hashes: vec!["sha256:(known after init)".to_owned()],
            certificate_key: (node.role == Role::Master).then(|| keys.certificate_key.clone()),
        };
        config::join(cluster, node, &join)
    };
    let text = text.map_err(|error| {
        Failure::new(Exit::Usage, "write the kubeadm configuration", error).on(&node.name)
    })?;
    Ok(Some(text.masked().to_owned()))
}

impl Documents {
    fn text(&self) -> String {
        let mut parts = vec![
            ("user-data", self.user_data.as_str()),
            ("meta-data", self.meta_data.as_str()),
            ("network-config", self.network_config.as_str()),
        ];
        if let Some(kubeadm) = &self.kubeadm {
            parts.push(("kubeadm", kubeadm));
        }
        let section = |(name, text): &(&str, &str)| {
            format!("# ---- {name} of {} ----\n{}\n", self.node, text.trim_end())
        };
        parts.iter().map(section).collect::<Vec<_>>().join("\n")
    }
}
