//! `k8sha render NODE`: shows a node's documents with secrets masked, or writes its seed ISO.

use std::path::Path;

use secrecy::SecretString;
use serde::Serialize;

use super::args::Common;
use super::{reach, session};
use crate::cloudinit::{self, NodeSecrets};
use crate::cluster::{Cluster, Node, Role};
use crate::error::{Exit, Failure};
use crate::exits::failure;
use crate::files::write_private;
use crate::kubeadm::config;
use crate::settings;
use crate::state::State;

/// The documents of a node.
#[derive(Serialize)]
struct Documents {
    node: String,
    user_data: String,
    meta_data: String,
    network_config: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kubeadm: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cni: Option<String>,
}

pub(super) fn run(common: &Common, name: &str, image: Option<&Path>) -> Result<Exit, Failure> {
    let cluster = session::load(common, session::Warnings::Full)?;
    let templates = session::templates(common)?;
    let node = reach::row(&cluster, name, "render")?;
    if let Some(path) = image {
        return write_seed(common, &cluster, node, path);
    }
    // Placeholders: the documents are only displayed, with secrets masked.
    let secrets = NodeSecrets {
        host_key_private: SecretString::from("(masked)"),
        host_key_public: "ssh-ed25519 (made at the first run)".to_owned(),
        operator_public: "ssh-ed25519 (made at the first run)".to_owned(),
    };
    let instance = crate::run::context::instance_id(&cluster, node, "CREATION");
    let seed = cloudinit::render(&templates, &cluster, node, &secrets, &instance)
        .map_err(|error| failure("render the seed", &error).on(&node.name))?;
    let documents = Documents {
        node: node.name.to_string(),
        user_data: seed.masked().to_owned(),
        meta_data: seed.meta_data.clone(),
        network_config: seed.network_config.clone(),
        kubeadm: kubeadm(&cluster, node)?,
        cni: cni(&cluster, node)?,
    };
    if common.json {
        super::print_json(&documents)?;
    } else {
        super::print_document(&documents.text())?;
    }
    Ok(Exit::Ok)
}

/// Writes the seed that a VM of this node would get.
fn write_seed(
    common: &Common,
    cluster: &Cluster,
    node: &Node,
    path: &Path,
) -> Result<Exit, Failure> {
    let folder = match &common.state {
        Some(folder) => folder.clone(),
        None => settings::state_home()?.join(&cluster.name),
    };
    let state = State::open_for(folder, settings::sudo_user())?;
    let creation = state.creation()?;
    let host_key = state.host_key(&node.name)?;
    let secrets = NodeSecrets {
        host_key_private: host_key.private,
        host_key_public: host_key.public,
        operator_public: state.operator_key()?.public,
    };
    let instance = crate::run::context::instance_id(cluster, node, &creation);
    let seed = cloudinit::render(&session::templates(common)?, cluster, node, &secrets, &instance)
        .map_err(|error| failure("render the seed", &error).on(&node.name))?;
    state.keep()?;
    write_private(path, &seed.image().bytes)
        .map_err(|error| Failure::caused(Exit::Local, "write the seed", error).on(&node.name))?;
    Ok(Exit::Ok)
}

fn kubeadm(cluster: &Cluster, node: &Node) -> Result<Option<String>, Failure> {
    if !node.role.is_kubernetes() {
        return Ok(None);
    }
    let keys = crate::kubeadm::keys::generate();
    let text = if node.name == cluster.first_master().name {
        config::init(cluster, node, &keys)
    } else {
        let join = config::Join {
            token: keys.token.clone(),
            ca_hashes: vec!["sha256:(known after init)".to_owned()],
            certificate_key: (node.role == Role::Master).then(|| keys.certificate_key.clone()),
        };
        config::join(cluster, node, &join)
    };
    let text = text.map_err(|error| {
        Failure::caused(Exit::Usage, "write the kubeadm configuration", error).on(&node.name)
    })?;
    Ok(Some(text.masked().to_owned()))
}

/// What the first master applies for the pod network.
fn cni(cluster: &Cluster, node: &Node) -> Result<Option<String>, Failure> {
    if node.name != cluster.first_master().name {
        return Ok(None);
    }
    crate::kubeadm::cni::rendered(cluster).map_err(|error| {
        let hint = error.hint();
        Failure::caused(Exit::Usage, "render the pod network", error).hint(hint)
    })
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
        if let Some(cni) = &self.cni {
            parts.push(("cni", cni));
        }
        let section = |(name, text): &(&str, &str)| {
            format!("# ---- {name} of {} ----\n{}\n", self.node, text.trim_end())
        };
        parts.iter().map(section).collect::<Vec<_>>().join("\n")
    }
}
