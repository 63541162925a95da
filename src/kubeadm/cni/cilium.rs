//! Cilium, installed by its own command-line tool.

use std::time::Duration;

use crate::cluster::{Cluster, ProxyMode};
use crate::kubeadm::error::Doing as _;
use crate::kubeadm::{Error, kubectl, path};
use crate::report::event;
use crate::ssh::{Command, Remote};

/// Installs the command-line tool: cloud-init put this script there.
const FETCH_CLI: &str = "/usr/local/lib/k8sha/cilium-cli";
/// How long Cilium may take to start on all nodes, as passed to its CLI.
const WAIT: &str = "10m";
/// How long the commands may take, in real time.
const LIMIT: Duration = Duration::from_secs(11 * 60);

pub(super) async fn install(
    first: &Remote,
    cluster: &Cluster,
    version: &str,
    cli_version: &str,
) -> Result<bool, Error> {
    if is_there(first).await? {
        return Ok(false);
    }
    event::progress(format!("install Cilium {version}"));
    let fetch = Command::sudo(FETCH_CLI).arg(cli_version).limit(LIMIT);
    first.run_ok(&fetch).await.doing("fetch cilium-cli")?;
    first.run_ok(&command(cluster, version)).await.doing("install Cilium")?;
    event::progress("wait for Cilium");
    let status = Command::sudo("cilium")
        .args(["status", "--kubeconfig", path::ADMIN, "--wait", "--wait-duration", WAIT])
        .limit(LIMIT);
    first.run_ok(&status).await.doing("wait for Cilium")?;
    Ok(true)
}

/// Whether Cilium's agents exist, ready or not.
async fn is_there(first: &Remote) -> Result<bool, Error> {
    let list = kubectl::json(first, &["get", "pods", "-A", "-o", "json"]).await?;
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(items.iter().any(|pod| pod["metadata"]["labels"]["k8s-app"] == "cilium"))
}

/// The command that installs it. The values: docs.cilium.io, "Kubernetes Without kube-proxy" and
/// "Cluster Scope IPAM"; their names in cilium's `install/kubernetes/cilium/values.yaml`.
pub fn command(cluster: &Cluster, version: &str) -> Command {
    let kubernetes = &cluster.kubernetes;
    let alone = kubernetes.proxy == ProxyMode::None;
    let values = [
        format!("kubeProxyReplacement={alone}"),
        // Without kube-proxy the service's address does not work yet: the API's name does.
        format!("k8sServiceHost={}", cluster.api.fqdn),
        format!("k8sServicePort={}", cluster.api.port),
        format!("ipam.operator.clusterPoolIPv4PodCIDRList={{{}}}", kubernetes.pods),
        format!("ipam.operator.clusterPoolIPv4MaskSize={}", kubernetes.node_mask),
    ];
    let command = Command::sudo("cilium")
        .args(["install", "--kubeconfig", path::ADMIN, "--version", version])
        .limit(LIMIT);
    values.into_iter().fold(command, |command, value| command.arg("--set").arg(value))
}
