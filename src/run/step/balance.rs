//! Steps of the load balancers: their configuration as the profile wants it, and the VIP.

use crate::error::Failure;
use crate::kubeadm::{balance, vip};
use crate::plan::action;
use crate::run::context::Context;

use super::bootstrap::fault;

/// Gives a load balancer the configuration of now.
pub(super) async fn balancer(context: &Context, it: &action::Balance) -> Result<bool, Failure> {
    let name = &it.node;
    let kept = context.kept.get(name).into_iter().flatten();
    let files: Vec<balance::File> =
        kept.filter(|file| it.files.contains(&file.path)).cloned().collect();
    balance::update(context.remote(name), &files, context.clock)
        .await
        .map_err(|error| fault("bring the load balancer up to date", &error).on(name))
}

/// Sees that exactly one load balancer holds the VIP.
pub(super) async fn vip(context: &Context) -> Result<bool, Failure> {
    vip::check(&context.balancers(), &context.cluster, context.clock)
        .await
        .map(|_| false)
        .map_err(|error| fault("see one load balancer hold the VIP", &error))
}
