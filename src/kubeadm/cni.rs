//! Installs the pod network (CNI); without one, every node stays NotReady.

use std::time::Duration;

use super::{Error, ready};
use crate::clock::Clock;
use crate::cluster::{Cluster, Cni};
use crate::ssh::Remote;

pub(crate) mod calico;
pub(crate) mod cilium;
pub(crate) mod manifest;

/// How long the nodes may take to become Ready after the pod network is installed.
const READY: Duration = Duration::from_secs(5 * 60);

/// Installs the pod network of the profile and waits until every node that is registered then is
/// Ready. A node that joins later is waited for by its own join step.
///
/// # Errors
/// The error of the installer, or the nodes that are not Ready.
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
    // Nodes of the table only: a Node object whose machine is gone never becomes Ready.
    let nodes = ready::nodes(first).await?;
    let row = |name: &str| cluster.nodes.iter().any(|node| node.fqdn == name);
    let names: Vec<&str> =
        nodes.iter().map(|node| node.name.as_str()).filter(|name| row(name)).collect();
    ready::all(first, &names, true, clock, READY).await?;
    Ok(changed)
}

/// How it is installed, for display: nothing, a command line, or manifests.
///
/// # Errors
/// A custom manifest that cannot be read or used.
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
