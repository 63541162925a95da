//! The pod network, without which every node stays NotReady.

use std::time::Duration;

use super::error::Doing;
use super::{Error, kubectl, path, ready};
use crate::cluster::{Cluster, Cni, ProxyMode};
use crate::report::event;
use crate::ssh::{Command, Remote};
use crate::tempo::Tempo;

/// Installs the command-line tool: cloud-init put this script there.
const FETCH_CLI: &str = "/usr/local/lib/k8sha/cilium-cli";
/// How long Cilium may take to start everywhere, as its own tool is told.
const WAIT: &str = "10m";
/// How long the commands may take, in real time.
const LIMIT: Duration = Duration::from_secs(11 * 60);
/// How long the nodes may take after that.
const READY: Duration = Duration::from_secs(5 * 60);

/// Installs the pod network that the profile asks for and waits until every node is Ready.
///
/// # Errors
/// What Cilium's tool said, or which nodes are not Ready.
pub async fn install(first: &Remote, cluster: &Cluster, tempo: Tempo) -> Result<bool, Error> {
    let Cni::Cilium { version, cli_version } = &cluster.kubernetes.cni else { return Ok(false) };
    let changed = !is_there(first).await?;
    if changed {
        event::progress(format!("install Cilium {version}"));
        let fetch = Command::sudo(FETCH_CLI).arg(cli_version.clone()).limit(LIMIT);
        first.run_ok(&fetch).await.doing("fetch cilium-cli")?;
        first.run_ok(&command(cluster, version)).await.doing("install Cilium")?;
        event::progress("wait for Cilium");
        let status = Command::sudo("cilium")
            .args(["status", "--kubeconfig", path::ADMIN, "--wait", "--wait-duration", WAIT])
            .limit(LIMIT);
        first.run_ok(&status).await.doing("wait for Cilium")?;
    }
    let names: Vec<&str> = cluster
        .nodes
        .iter()
        .filter(|node| node.role.is_kubernetes())
        .map(|node| node.fqdn.as_str())
        .collect();
    ready::all(first, &names, true, tempo, READY).await?;
    Ok(changed)
}

/// Whether Cilium's agents are there, ready or not.
async fn is_there(first: &Remote) -> Result<bool, Error> {
    let list = kubectl::json(first, &["get", "pods", "-A", "-o", "json"]).await?;
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(items.iter().any(|pod| pod["metadata"]["labels"]["k8s-app"] == "cilium"))
}

/// The values: docs.cilium.io, "Kubernetes Without kube-proxy" and "Cluster Scope IPAM".
fn command(cluster: &Cluster, version: &str) -> Command {
    let kubernetes = &cluster.kubernetes;
    let alone = kubernetes.proxy == ProxyMode::None;
    let values = [
        format!("kubeProxyReplacement={alone}"),
        // Without kube-proxy nobody answers at the service's address yet: the API's name does.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fixture::k8s1;

    #[test]
    fn cilium_gets_the_pod_network_and_the_apis_name() {
        let mut cluster = k8s1();
        cluster.kubernetes.proxy = ProxyMode::None;
        let line = command(&cluster, "1.18.4").line();
        assert_eq!(
            line,
            "sudo -n -- cilium install --kubeconfig /etc/kubernetes/admin.conf --version 1.18.4 \
             --set kubeProxyReplacement=true --set k8sServiceHost=k8s1api.kloud.lan \
             --set k8sServicePort=6443 \
             --set 'ipam.operator.clusterPoolIPv4PodCIDRList={100.64.0.0/16}' \
             --set ipam.operator.clusterPoolIPv4MaskSize=24"
        );
    }
}
