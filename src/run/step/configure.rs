//! The step that sets a VM's configuration.

use super::vm::{Place, own};
use crate::error::Failure;
use crate::mark::Marked;
use crate::plan::{Change, action};
use crate::proxmox::{Error, Params};
use crate::run::context::Context;
use crate::run::look::proxmox;

/// What protects a VM and its drives from being removed.
const PROTECTION: &str = "protection";

/// Sets the planned values that differ in a VM's configuration.
pub(super) async fn configure(context: &Context, it: &action::Configure) -> Result<bool, Failure> {
    let place = Place { node: &it.node, host: &it.host, vmid: it.vmid };
    let (client, doing, on) = place.ask(context, "configure")?;
    let fault = |error| proxmox(&doing, &error).on(&on);
    // The configuration at the time of the clone is still used if the host confirms its digest.
    let made = context.take_made(&it.node).filter(|config| config.digest().is_some());
    let is_made = made.is_some();
    let read = async || match made {
        Some(config) => Ok(config),
        None => client.vm_config(it.vmid).await,
    };
    let (config, running) = tokio::join!(read(), client.runs(it.vmid));
    let (mut config, running) = (config.map_err(fault)?, running.map_err(fault)?);
    own(context, place, &config, &doing)?;
    let found = config.mark();
    let mut due = it.due(&config.0, found.as_ref(), running);
    if due.is_empty() {
        return Ok(false);
    }
    // No drive can be removed from a protected VM, and Proxmox VE checks this before it changes
    // anything.
    if let Some(place) = due.iter().position(|change| change.key == PROTECTION) {
        due.remove(place);
        let digest = config.digest();
        let written = client.set_config(it.vmid, &Params::new(), &[PROTECTION], digest).await;
        if is_made && written.as_ref().is_err_and(Error::is_modified) {
            return Box::pin(configure(context, it)).await;
        }
        written.map_err(fault)?;
        if due.is_empty() {
            return Ok(true);
        }
        config = client.vm_config(it.vmid).await.map_err(fault)?;
    }
    let mark = it.mark(found.as_ref(), &due);
    let (gone, set): (Vec<Change>, Vec<Change>) =
        due.into_iter().partition(|change| change.to.is_empty());
    let gone: Vec<&str> = gone.iter().map(|change| change.key.as_str()).collect();
    let params = set.into_iter().fold(Params::new(), |params, change| {
        let value = match change.key.as_str() {
            // Text that a user wrote beside the mark is kept.
            "description" if found.is_some() => mark.replace_in(config.description()),
            "description" => mark.describe(&it.wanted.line),
            _ => change.to,
        };
        params.with(&change.key, value)
    });
    let written = client.set_config(it.vmid, &params, &gone, config.digest()).await;
    if is_made && written.as_ref().is_err_and(Error::is_modified) {
        return Box::pin(configure(context, it)).await;
    }
    written.map_err(fault)?;
    Ok(true)
}
