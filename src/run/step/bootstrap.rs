//! Steps of the Kubernetes stage: each passes the phase its input and turns its errors into
//! failures.

use std::time::Duration;

use super::power::{all_on, while_on};
use crate::cluster::{Cni, Node, NodeName};
use crate::error::{Exit, Failure};
use crate::exits::failure;
use crate::kubeadm::{Error, cni, init, join, kubeconfig, label, ready};
use crate::plan::action;
use crate::run::context::{Context, Options};

/// How long the API may take to answer through the VIP.
const API_PATIENCE: Duration = Duration::from_secs(120);
/// How long nodes may take to register, or to become Ready if the profile sets a CNI.
const NODES_PATIENCE: Duration = Duration::from_secs(600);

pub(super) async fn init(context: &Context, it: &action::Init) -> Result<bool, Failure> {
    let name = &it.node;
    let (remote, node) = (context.remote(name), context.node(name));
    let work = Box::pin(async {
        let changed = init::run(remote, node, &context.cluster, context.clock)
            .await
            .map_err(|error| fault("initialise the cluster", &error).on(name))?;
        // Saved at once: from here on no other control plane may be created.
        super::lifecycle::mark(context, &action::Mark { via: name.clone(), cni: None }).await?;
        Ok(changed)
    });
    while_on(context, &[node], work).await
}

pub(super) async fn keys(context: &Context, it: &action::Keys) -> Result<bool, Failure> {
    context
        .credentials
        .prepare(context.remote(&it.via), &context.cluster)
        .await
        .map(|()| false)
        .map_err(|error| fault("renew token and certificate key", &error))
}

pub(super) async fn join(context: &Context, it: &action::Join) -> Result<bool, Failure> {
    let action::Join { node: name, via, .. } = it;
    let (remote, node, via) = (context.remote(name), context.node(name), context.remote(via));
    let work = Box::pin(async {
        join::run(remote, via, node, &context.cluster, &context.credentials, context.clock)
            .await
            .map_err(|error| fault("join the cluster", &error).on(name))
    });
    while_on(context, &[node], work).await
}

pub(super) async fn label(context: &Context, it: &action::Label) -> Result<bool, Failure> {
    label::worker(context.remote(&it.via), context.node(&it.node))
        .await
        .map_err(|error| fault("label the worker", &error).on(&it.node))
}

pub(super) async fn kubeconfig(
    context: &Context,
    it: &action::Kubeconfig,
) -> Result<bool, Failure> {
    let Options { kubeconfig: to, merge, .. } = &context.options;
    kubeconfig::fetch(context.remote(&it.via), &context.cluster, to, *merge)
        .await
        .map_err(|error| fault("fetch the kubeconfig", &error))
}

pub(super) async fn cni(context: &Context, it: &action::Cni) -> Result<bool, Failure> {
    let work = Box::pin(async {
        cni::install(context.remote(&it.via), &context.cluster, context.clock)
            .await
            .map_err(|error| fault("install the pod network", &error))
    });
    while_on(context, &kubernetes(context), work).await
}

/// The rows on which Kubernetes runs.
fn kubernetes(context: &Context) -> Vec<&Node> {
    context.cluster.nodes.iter().filter(|node| node.role.is_kubernetes()).collect()
}

/// The final check: the API answers under its name through the VIP, every node of the table is
/// registered, and every machine runs.
pub(super) async fn verify(context: &Context, it: &action::Verify) -> Result<bool, Failure> {
    let doing = "check the cluster against the profile";
    let (via, cluster, clock) = (context.remote(&it.via), &context.cluster, context.clock);
    ready::through_vip(via, cluster, clock, API_PATIENCE)
        .await
        .map_err(|error| fault(doing, &error))?;
    let rows = kubernetes(context);
    let names: Vec<&str> = rows.iter().map(|node| node.fqdn.as_str()).collect();
    let ready = cluster.kubernetes.cni != Cni::None;
    let work = Box::pin(async {
        ready::all(via, &names, ready, clock, NODES_PATIENCE)
            .await
            .map_err(|error| fault(doing, &error))
    });
    let nodes = while_on(context, &rows, work).await?;
    // Kubernetes considers a node Ready until it has received nothing from it for 40 s.
    all_on(context, &cluster.nodes.iter().collect::<Vec<_>>()).await?;
    let wrong: Vec<String> = rows
        .iter()
        .filter(|node| !nodes.iter().any(|seen| seen.name == node.fqdn && seen.is(node.role)))
        .map(|node| format!("{} does not have the role {}", node.fqdn, node.role))
        .collect();
    if wrong.is_empty() {
        return Ok(false);
    }
    Err(Failure::new(Exit::Kubernetes, doing, wrong.join("\n")))
}

/// The output of `kubectl get nodes -o wide`; `None` if it does not answer.
pub async fn kubectl_nodes(context: &Context, via: &NodeName) -> Option<String> {
    ready::wide(context.remote(via)).await.ok()
}

/// Turns an error of a phase into a failure.
pub(super) fn fault(doing: &str, error: &Error) -> Failure {
    failure(doing, error)
}
