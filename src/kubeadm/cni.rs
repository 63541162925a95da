//! Installs the pod network (CNI); without one, every node stays NotReady.

use std::time::Duration;

use super::{Error, ready};
use crate::clock::Clock;
use crate::cluster::{Cluster, Cni};
use crate::ssh::Remote;

pub(crate) mod calico;
pub(crate) mod cilium;
pub(crate) mod manifest;

/// How long the nodes may take to become Ready once the pod network is there.
const READY: Duration = Duration::from_secs(5 * 60);

/// Installs the pod network that the profile asks for and waits until every node that has
/// registered by then is Ready. A node that joins later is waited for by its own join step.
///
/// # Errors
/// What the installer said, or which nodes are not Ready.
pub async fn install(first: &Remote, cluster: &Cluster, clock: Clock) -> Result<bool, Error> {
    let changed = match &cluster.kubernetes.cni {
        Cni::None => return Ok(false),
        Cni::Cilium { version, cli_version } => {
            cilium::install(first, cluster, version, cli_version).await?
        }
        Cni::Calico { version, dataplane } => {
            calico::install(first, cluster, version, *dataplane, clock).await?
        }
        Cni::Manifest(path) => manifest::install(first, cluster, path).await?,
    };
    // Those of the table: a Node object whose machine is gone never gets Ready.
    let nodes = ready::nodes(first).await?;
    let row = |name: &str| cluster.nodes.iter().any(|node| node.fqdn == name);
    let names: Vec<&str> =
        nodes.iter().map(|node| node.name.as_str()).filter(|name| row(name)).collect();
    ready::all(first, &names, true, clock, READY).await?;
    Ok(changed)
}

/// What is done to install it, to be shown: nothing, a command line, or manifests.
///
/// # Errors
/// A manifest of the operator's own that cannot be read or used.
pub fn rendered(cluster: &Cluster) -> Result<Option<String>, Error> {
    Ok(match &cluster.kubernetes.cni {
        Cni::None => None,
        Cni::Cilium { version, .. } => Some(cilium::command(cluster, version).line() + "\n"),
        Cni::Calico { version, dataplane } => Some(format!(
            "# first: {}\n{}---\n{}",
            calico::operator(version),
            calico::prerequisites(cluster),
            calico::resources(cluster, *dataplane)
        )),
        Cni::Manifest(path) => Some(manifest::read(cluster, path)?),
    })
}
