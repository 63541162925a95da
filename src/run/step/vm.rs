//! Steps that make a VM: seed, clone, configuration, disk, start. Each reads the mark again before
//! it writes.

use crate::cluster::{CloneMode, HostName, NodeName, VmId};
use crate::error::{Exit, Failure};
use crate::plan::{Change, spec};
use crate::proxmox::wire::VmConfig;
use crate::proxmox::{Client, CloneRequest, Nic, Params};
use crate::run::context::Context;
use crate::run::look::proxmox;

/// Uploads a node's seed ISO.
pub(super) async fn seed(
    context: &Context,
    node: &NodeName,
    host: &HostName,
    storage: &str,
    file: &str,
) -> Result<bool, Failure> {
    let client = context.client(host)?;
    let doing = format!("upload the seed `{file}` to `{storage}`");
    let fault = |error| proxmox(&doing, &error).on(host);
    let image = &context.seeds[node].bytes;
    // The name holds the hash of the bytes: same name and size, same seed.
    let there = client.find_file(storage, "iso", file).await.map_err(fault)?;
    if there.is_some_and(|volume| volume.size == image.len() as u64) {
        return Ok(false);
    }
    client.upload_iso(storage, file, image).await.map_err(fault)?;
    Ok(true)
}

/// Clones the template.
pub(super) async fn clone(
    context: &Context,
    name: &NodeName,
    home: &HostName,
    source: VmId,
    full: bool,
    storage: &str,
) -> Result<bool, Failure> {
    let node = context.node(name);
    let spec = &context.specs[name];
    let client = context.client(home)?;
    let doing = format!("clone template {source} to VM {}", node.vmid);
    let on = format!("{name} on {}", node.host);
    let fault = |error| proxmox(&doing, &error).on(&on);
    let target = context.client(&node.host)?;
    if let Some(config) = target.find_vm(node.vmid).await.map_err(fault)? {
        own(context, name, &config, &doing)?;
        return Ok(false);
    }
    let request = CloneRequest {
        source,
        newid: node.vmid,
        name: name.to_string(),
        mode: if full { CloneMode::Full } else { CloneMode::Linked },
        storage: full.then(|| storage.to_owned()),
        pool: context.cluster.proxmox.pool.clone(),
        line: spec.line.clone(),
        mark: spec.mark.clone(),
    };
    client.clone_vm(&request, target).await.map_err(fault)?;
    Ok(true)
}

/// Sets what differs in a VM's configuration: of one that was there when the plan was made only what
/// the plan names, for a machine that has booted keeps the seed that it has read.
pub(super) async fn configure(
    context: &Context,
    name: &NodeName,
    planned: &[Change],
) -> Result<bool, Failure> {
    let (client, doing, on) = at(context, name, "configure")?;
    let fault = |error| proxmox(&doing, &error).on(&on);
    let node = context.node(name);
    let spec = &context.specs[name];
    let config = client.vm_config(node.vmid).await.map_err(fault)?;
    own(context, name, &config, &doing)?;
    let mut params = Params::new();
    let mut changed = false;
    let named = |key: &str| planned.is_empty() || planned.iter().any(|change| change.key == key);
    for change in spec::changes(spec, &config.0).into_iter().filter(|change| named(&change.key)) {
        let value = match change.key.as_str() {
            "description" => spec.description.clone(),
            // A NIC that is set without its MAC address gets a new one.
            "net0" => match config.get("net0").and_then(Nic::parse).and_then(|nic| nic.mac) {
                Some(mac) => change.to.replacen("virtio", &format!("virtio={mac}"), 1),
                None => change.to,
            },
            _ => change.to,
        };
        params = params.with(&change.key, value);
        changed = true;
    }
    if changed {
        client.set_config(node.vmid, &params, &[], config.digest()).await.map_err(fault)?;
    }
    Ok(changed)
}

/// Grows a VM's disk; one that is large enough stays as it is.
pub(super) async fn grow(context: &Context, name: &NodeName, to: u32) -> Result<bool, Failure> {
    let (client, doing, on) = at(context, name, "grow the disk of")?;
    let fault = |error| proxmox(&doing, &error).on(&on);
    let node = context.node(name);
    let config = client.vm_config(node.vmid).await.map_err(fault)?;
    own(context, name, &config, &doing)?;
    let want = u64::from(to) << 30;
    let Some(size) = config.disk_size(spec::DISK) else {
        return Err(Failure::new(
            Exit::NotAsAsked,
            doing,
            format!("the VM has no disk `{}`: somebody has detached it", spec::DISK),
        )
        .on(on)
        .hint("attach it again, or `k8sha rebuild` makes the machine anew".to_owned()));
    };
    if size >= want {
        return Ok(false);
    }
    client.resize_disk(node.vmid, spec::DISK, want).await.map_err(fault)?;
    Ok(true)
}

/// Switches a VM on.
pub(super) async fn start(context: &Context, name: &NodeName) -> Result<bool, Failure> {
    let (client, doing, on) = at(context, name, "start")?;
    let fault = |error| proxmox(&doing, &error).on(&on);
    let node = context.node(name);
    let config = client.vm_config(node.vmid).await.map_err(fault)?;
    own(context, name, &config, &doing)?;
    if client.vm_status(node.vmid).await.map_err(fault)?.is_running() {
        return Ok(false);
    }
    client.start_vm(node.vmid).await.map_err(fault)?;
    Ok(true)
}

/// The host's client, what is being done and where, for a step on a node's VM.
fn at<'a>(
    context: &'a Context,
    name: &NodeName,
    verb: &str,
) -> Result<(&'a Client, String, String), Failure> {
    let node = context.node(name);
    let client = context.client(&node.host)?;
    Ok((client, format!("{verb} VM {}", node.vmid), format!("{name} on {}", node.host)))
}

/// Refuses to go on with a VM that is not the node's own, of this making.
pub(super) fn own(
    context: &Context,
    name: &NodeName,
    config: &VmConfig,
    doing: &str,
) -> Result<(), Failure> {
    let node = context.node(name);
    let ours = &context.specs[name].mark;
    if config.mark().is_some_and(|mark| mark.is_same_making(ours)) {
        return Ok(());
    }
    let found = config.name().unwrap_or("without a name");
    let said = format!("VM {} is `{found}`, which does not carry our mark; left alone", node.vmid);
    Err(Failure::new(Exit::NotAsAsked, doing, said)
        .on(format!("{name} on {}", node.host))
        .hint("give the node another `vmid` in the profile, or move that VM away".to_owned()))
}
