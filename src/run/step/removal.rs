//! Steps that take machines without a row out of a running cluster.

use super::bootstrap::fault;
use crate::error::Failure;
use crate::kubeadm::drain::{self, Leaving};
use crate::plan::action;
use crate::run::context::Context;

/// Cordons a node and evicts its pods.
pub(super) async fn drain(context: &Context, it: &action::Drain) -> Result<bool, Failure> {
    let via = context.remote(&it.via);
    let done = match &it.machine_id {
        Some(machine_id) => {
            drain::run(via, Leaving { name: &it.name, machine_id }, context.clock).await
        }
        None => drain::check_volumes(via, &it.name).await.map(|()| false),
    };
    done.map_err(|error| fault("drain the node", &error).on(&it.node))
}

/// Stops a drained node's kubelet and deletes its Node object.
pub(super) async fn delete_node(
    context: &Context,
    it: &action::DeleteNode,
) -> Result<bool, Failure> {
    let doing = "remove the node from the cluster";
    let machine = match &it.login {
        Some(login) => Some(context.remote_at(&it.node, login)?),
        None => None,
    };
    let leaving = Leaving { name: &it.name, machine_id: &it.machine_id };
    drain::delete(context.remote(&it.via), machine.as_ref(), leaving, context.clock)
        .await
        .map_err(|error| fault(doing, &error).on(&it.node))
}

/// Returns a node to service whose removal was started.
pub(super) async fn uncordon(context: &Context, it: &action::Uncordon) -> Result<bool, Failure> {
    let leaving = Leaving { name: &it.name, machine_id: &it.machine_id };
    drain::undo(context.remote(&it.via), context.remote(&it.node), leaving, context.clock)
        .await
        .map_err(|error| fault("return the node to service", &error).on(&it.node))
}
