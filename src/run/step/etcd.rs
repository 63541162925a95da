//! Steps that make an etcd of ours, and the masters' way into it.

use crate::cluster::NodeName;
use crate::error::{Exit, Failure};
use crate::files::write_private;
use crate::kubeadm::etcd::{self, form};
use crate::run::context::Context;

use super::bootstrap::fault;

/// Plants a member's certificates.
pub(super) async fn member(context: &Context, name: &NodeName) -> Result<bool, Failure> {
    let Some(machine) = context.etcd_machine(name) else { return Ok(false) };
    machine.plant().await.map_err(|error| fault("plant etcd's certificates", &error).on(name))
}

/// Sees every member healthy.
pub(super) async fn form(context: &Context) -> Result<bool, Failure> {
    let token = format!("{}-{}", context.cluster.name, context.creation);
    let formed = context.etcd_formed.exists();
    let changed = form::run(&context.etcd_machines, &token, formed, context.clock)
        .await
        .map_err(|error| fault("form the etcd cluster", &error))?;
    if !formed {
        write_private(&context.etcd_formed, context.creation.as_bytes())
            .map_err(|error| Failure::new(Exit::Local, "note that etcd is formed", error))?;
    }
    Ok(changed)
}

/// Gives a master the client certificate of now.
pub(super) async fn client(context: &Context, name: &NodeName) -> Result<bool, Failure> {
    let Some(client) = &context.etcd_client else { return Ok(false) };
    etcd::copy(context.remote(name), client)
        .await
        .map_err(|error| fault("renew the API server's etcd certificate", &error).on(name))
}
