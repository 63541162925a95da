//! A custom pod network: a manifest file on the operator's machine.

use std::path::Path;

use serde_json::json;

use crate::cluster::Cluster;
use crate::files as local;
use crate::kubeadm::{Error, files, kubectl};
use crate::report::event;
use crate::ssh::Remote;

/// k8sha's record in the cluster of what was applied.
const NOTE: &str = "k8sha-cni";
/// The prefix of k8sha's placeholders.
const OURS: &str = "${K8SHA_";

/// Reads the manifest and fills in the cluster's values; everything else in it is kept unchanged.
///
/// # Errors
/// [`Error::File`] if it cannot be read, [`Error::Manifest`] if it is not a manifest.
pub fn read(cluster: &Cluster, path: &Path) -> Result<String, Error> {
    let text = local::read_text(path, local::Kind::Manifest).map_err(|source| Error::File {
        doing: "read",
        path: path.into(),
        source: source.into(),
    })?;
    let refuse = |what: String| Error::Manifest { path: path.into(), what };
    let filled = [
        ("POD_CIDR", cluster.kubernetes.pods.to_string()),
        ("SERVICE_CIDR", cluster.kubernetes.services.to_string()),
        ("API_HOST", cluster.api.fqdn.clone()),
        ("API_PORT", cluster.api.port.to_string()),
    ]
    .into_iter()
    .fold(text, |text, (name, value)| text.replace(&format!("{OURS}{name}}}"), &value));
    if let Some(at) = filled.find(OURS) {
        let end = filled[at..].find(['}', '\n']).map_or(filled.len(), |end| at + end);
        return Err(refuse(format!("`{}}}`, which is not a known variable", &filled[at..end])));
    }
    if !filled.lines().any(|line| line.trim_start_matches("- ").starts_with("kind:")) {
        return Err(refuse("no Kubernetes object".to_owned()));
    }
    Ok(filled)
}

/// Applies it, unless the same text was applied before.
pub(super) async fn install(first: &Remote, cluster: &Cluster, path: &Path) -> Result<bool, Error> {
    let text = read(cluster, path)?;
    let hash = files::sha256(text.as_bytes());
    let note = ["-n", "kube-system", "get", "configmap", NOTE, "-o", "json"];
    let applied = kubectl::json_if_there(first, &note).await?;
    if applied.is_some_and(|note| note["data"]["sha256"] == hash.as_str()) {
        return Ok(false);
    }
    event::progress(format!("apply {}", path.display()));
    kubectl::apply(first, "the pod network's manifest", &text).await?;
    let note = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": NOTE, "namespace": "kube-system" },
        "data": { "sha256": hash },
    });
    kubectl::apply(first, "k8sha's record of the pod network", &note.to_string()).await?;
    Ok(true)
}
