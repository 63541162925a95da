//! Checks of a command before anything is looked at or changed.

use std::collections::BTreeSet;

use crate::cluster::{Cluster, HostName};
use crate::error::{Exit, Failure};
use crate::run::context::{Context, Options};

/// Checks, before anything is created or removed, that the operator's own manifest is usable.
pub(super) fn pod_network(cluster: &Cluster) -> Result<(), Failure> {
    let rendered = crate::kubeadm::cni::rendered(cluster);
    rendered.map(drop).map_err(|error| {
        let hint = error.hint();
        Failure::caused(Exit::Usage, "use the pod network's manifest", error).hint(hint)
    })
}

/// The hosts that `--pve` names, each of which must have a row in the table.
pub(super) fn known_hosts(
    cluster: &Cluster,
    names: &[String],
) -> Result<BTreeSet<HostName>, Failure> {
    let rows: BTreeSet<&HostName> = cluster.nodes.iter().map(|node| &node.host).collect();
    let unknown: Vec<String> = names
        .iter()
        .filter(|name| !rows.iter().any(|row| row.as_str() == name.as_str()))
        .map(|name| format!("`{name}`"))
        .collect();
    if !unknown.is_empty() {
        let known: Vec<&str> = rows.iter().map(|row| row.as_str()).collect();
        let said = format!("the profile has no rows on {}", unknown.join(", "));
        return Err(Failure::new(Exit::Usage, "act on the hosts of `--pve`", said)
            .hint(format!("the profile has rows on {}", known.join(", "))));
    }
    Ok(names.iter().map(|name| HostName(name.clone())).collect())
}

/// Checks that the kubeconfig can be written, before the cluster is created.
///
/// # Errors
/// If another file is in its place.
pub(super) fn place_for_kubeconfig(context: &Context) -> Result<(), Failure> {
    let Options { kubeconfig, merge, .. } = &context.options;
    if *merge {
        return Ok(());
    }
    crate::kubeadm::kubeconfig::is_free(&context.cluster, kubeconfig).map_err(|error| {
        let doing = "write the kubeconfig; nothing was changed";
        let hint = error.hint();
        Failure::caused(Exit::Local, doing, error).hint(hint)
    })
}
