//! The worker's role label, which a kubelet may not give itself (NodeRestriction).

use super::{Error, kubectl, ready};
use crate::cluster::{Node, Role};
use crate::ssh::Remote;

/// Adds the label `node-role.kubernetes.io/worker` to a worker.
///
/// # Errors
/// If the API does not answer.
pub async fn worker(first: &Remote, node: &Node) -> Result<bool, Error> {
    let nodes = ready::nodes(first).await?;
    if nodes.iter().any(|seen| seen.name == node.fqdn && seen.is(Role::Worker)) {
        return Ok(false);
    }
    let label = format!("node-role.kubernetes.io/{}=", Role::Worker);
    kubectl::text(first, &["label", "--overwrite", "node", &node.fqdn, &label]).await?;
    Ok(true)
}
