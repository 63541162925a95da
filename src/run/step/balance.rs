//! Steps of the load balancers: their configuration, and the check of the VIP.

use crate::error::Failure;
use crate::kubeadm::{balance, vip};
use crate::plan::action;
use crate::run::context::Context;

use super::bootstrap::fault;

/// Copies the current configuration to a load balancer.
pub(super) async fn balancer(context: &Context, it: &action::Balance) -> Result<bool, Failure> {
    let name = &it.node;
    let kept = context.kept.get(name).into_iter().flatten();
    let files: Vec<balance::File> =
        kept.filter(|file| it.files.contains(&file.path)).cloned().collect();
    balance::update(context.remote(name), &files, context.clock)
        .await
        .map_err(|error| fault("update the load balancer", &error).on(name))
}

/// Checks that exactly one load balancer holds the VIP.
pub(super) async fn vip(context: &Context) -> Result<bool, Failure> {
    vip::check(&context.balancers(), &context.cluster, context.clock)
        .await
        .map(|_| false)
        .map_err(|error| fault("check that one load balancer holds the VIP", &error))
}
