//! The step that keeps a load balancer's configuration as the profile wants it.

use crate::cluster::NodeName;
use crate::error::Failure;
use crate::kubeadm::balance;
use crate::run::context::Context;

use super::bootstrap::fault;

/// Gives a load balancer the configuration of now.
pub(super) async fn balancer(context: &Context, name: &NodeName) -> Result<bool, Failure> {
    balance::update(context.remote(name), &context.kept[name], context.clock)
        .await
        .map_err(|error| fault("bring the load balancer up to date", &error).on(name))
}
