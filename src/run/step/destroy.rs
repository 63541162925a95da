//! Steps that remove objects with k8sha's mark, and nothing else.

use crate::error::{Exit, Failure};
use crate::exits::failure;
use crate::kubeadm::drain;
use crate::mark::Marked;
use crate::plan::action;
use crate::proxmox::wire::VmConfig;
use crate::run::context::Context;
use crate::run::look::proxmox;

/// Stops and removes a node's VM.
pub(super) async fn vm(context: &Context, it: &action::Destroy) -> Result<bool, Failure> {
    let action::Destroy { node, host, vmid, creation, without } = it;
    let vmid = *vmid;
    let client = context.client(host)?;
    let doing = format!("remove VM {vmid}");
    let on = format!("{node} on {host}");
    let fault = |error| proxmox(&doing, &error).on(&on);
    let ours = |config: &VmConfig| {
        let cluster = &context.cluster.name;
        if config.mark().is_some_and(|mark| mark.is_of(cluster, node, creation)) {
            return Ok(());
        }
        let found = config.name().unwrap_or("unnamed");
        let said = format!("it is `{found}`, which has no k8sha mark; nothing was changed");
        Err(Failure::new(Exit::NotAsAsked, &doing, said).on(&on))
    };
    let Some(config) = client.find_vm(vmid).await.map_err(fault)? else { return Ok(false) };
    ours(&config)?;
    if let Some(action::Without { via, name }) = without {
        let asked = drain::has_left(context.remote(via), name).await;
        asked.map_err(|error| failure(&doing, &error).on(&on))?;
    }
    // Proxmox VE itself reports this only when the VM is already off.
    if config.get("protection").is_some_and(|value| value == "1") {
        let said = "it has `protection` set; it was not stopped";
        let hint = format!("qm set {vmid} --protection 0     (on {host})");
        return Err(Failure::new(Exit::Proxmox, &doing, said).on(&on).hint(hint));
    }
    if client.vm_status(vmid).await.map_err(fault)?.is_running() {
        // A VM that is removed with its disks needs no clean shutdown.
        client.stop_vm(vmid).await.map_err(fault)?;
        // The stop took time, so the VM is checked again.
        let Some(config) = client.find_vm(vmid).await.map_err(fault)? else { return Ok(true) };
        ours(&config)?;
    }
    client.destroy_vm(vmid).await.map_err(fault)?;
    Ok(true)
}

/// Removes one of k8sha's files; its name identifies it.
pub(super) async fn volume(context: &Context, it: &action::RemoveVolume) -> Result<bool, Failure> {
    let action::RemoveVolume { host, volume } = it;
    let client = context.client(host)?;
    client
        .delete_volume(volume)
        .await
        .map_err(|error| proxmox(&format!("remove `{volume}`"), &error).on(host))?;
    Ok(true)
}

/// Removes one of k8sha's templates.
pub(super) async fn template(
    context: &Context,
    it: &action::RemoveTemplate,
) -> Result<bool, Failure> {
    let (host, vmid) = (&it.host, it.vmid);
    let client = context.client(host)?;
    let doing = format!("remove template {vmid}");
    let fault = |error| proxmox(&doing, &error).on(host);
    let Some(config) = client.find_vm(vmid).await.map_err(fault)? else { return Ok(false) };
    let ours = config
        .mark()
        .is_some_and(|mark| mark.node.is_none() && mark.cluster == context.cluster.name);
    if !ours {
        let found = config.name().unwrap_or("unnamed");
        let said = format!("it is `{found}`, which has no k8sha mark; nothing was changed");
        return Err(Failure::new(Exit::NotAsAsked, doing, said).on(host));
    }
    client.destroy_vm(vmid).await.map_err(fault)?;
    Ok(true)
}
