//! Steps that create a VM and start it: seed, clone, disk, start. Each reads the mark again before
//! it writes.

use crate::cluster::{CloneMode, HostName, Node, NodeName, VmId};
use crate::error::{Exit, Failure};
use crate::files::{private_folder, write_private};
use crate::limits::excerpt;
use crate::mark::Marked;
use crate::plan::{action, halt, spec};
use crate::proxmox::wire::VmConfig;
use crate::proxmox::{Client, CloneRequest};
use crate::run::context::{Context, made_from};
use crate::run::look::proxmox;

/// Uploads a node's seed ISO.
pub(super) async fn seed(context: &Context, it: &action::Seed) -> Result<bool, Failure> {
    let action::Seed { node, host, storage, file } = it;
    let client = context.client(host)?;
    let doing = format!("upload the seed `{file}` to `{storage}`");
    let fault = |error| proxmox(&doing, &error).on(host);
    let image = &context.seeds[node].bytes;
    // The name contains the hash of the bytes: same name and size, same seed.
    let there = client.find_file(storage, "iso", file).await.map_err(fault)?;
    if there.is_some_and(|volume| volume.size == image.len() as u64) {
        return Ok(false);
    }
    record(context, node, file).map_err(|error| {
        Failure::new(Exit::Local, "record what the machine is created from", error).on(node)
    })?;
    client.upload_iso(storage, file, image).await.map_err(fault)?;
    Ok(true)
}

/// Records the documents of a seed, so that a later run can show which of their lines have changed.
/// Those of the node's former machine are deleted.
fn record(context: &Context, node: &NodeName, file: &str) -> std::io::Result<()> {
    let Some(text) = context.documents.get(node) else { return Ok(()) };
    let folder = &context.made_from;
    private_folder(folder)?;
    let keep = made_from(folder, node, spec::seed_hashes(file));
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let of = stem.rsplit_once('-').map(|(of, _)| of);
        if of == Some(node.as_str()) && path != keep {
            std::fs::remove_file(path)?;
        }
    }
    write_private(&keep, text.as_bytes())
}

/// Clones the template.
pub(super) async fn clone(context: &Context, it: &action::Clone) -> Result<bool, Failure> {
    let action::Clone { node: name, host, home, source, vmid, full, storage, pool, wanted } = it;
    let (source, vmid, full) = (*source, *vmid, *full);
    let client = context.client(home)?;
    let doing = format!("clone template {source} to VM {vmid}");
    let on = format!("{name} on {host}");
    let fault = |error| proxmox(&doing, &error).on(&on);
    let target = context.client(host)?;
    // The list shows that it is absent without an error response, after which the host closes the
    // connection.
    let listed = target.vms().await.map_err(fault)?;
    if listed.iter().any(|vm| vm.vmid == vmid) {
        let config = target.vm_config(vmid).await.map_err(fault)?;
        own(context, Place { node: name, host, vmid }, &config, &doing)?;
        return Ok(false);
    }
    let request = CloneRequest {
        source,
        newid: vmid,
        name: name.to_string(),
        mode: if full { CloneMode::Full } else { CloneMode::Linked },
        storage: full.then(|| storage.clone()),
        pool: pool.clone(),
        claim: wanted.mark.clone().claim(&wanted.line),
    };
    let made = client.clone_vm(&request, target).await.map_err(fault)?;
    context.keep_made(name, made);
    Ok(true)
}

/// Grows a VM's disk; one that is large enough is kept as it is.
pub(super) async fn grow(context: &Context, it: &action::Grow) -> Result<bool, Failure> {
    let place = Place { node: &it.node, host: &it.host, vmid: it.vmid };
    let (client, doing, on) = place.ask(context, "grow the disk of")?;
    let fault = |error| proxmox(&doing, &error).on(&on);
    let config = client.vm_config(it.vmid).await.map_err(fault)?;
    own(context, place, &config, &doing)?;
    let want = u64::from(it.to_gib) << 30;
    let Some(size) = config.disk_size(spec::DISK) else {
        return Err(Failure::new(
            Exit::NotAsAsked,
            doing,
            format!("the VM has no disk `{}`: it was detached", spec::DISK),
        )
        .on(on)
        .hint("attach it again, or recreate the machine with `k8sha rebuild`".to_owned()));
    };
    if size >= want {
        return Ok(false);
    }
    client.resize_disk(it.vmid, spec::DISK, want).await.map_err(fault)?;
    Ok(true)
}

/// Starts a VM.
pub(super) async fn start(context: &Context, it: &action::Start) -> Result<bool, Failure> {
    let place = Place { node: &it.node, host: &it.host, vmid: it.vmid };
    let (client, doing, on) = place.ask(context, "start")?;
    let fault = |error| proxmox(&doing, &error).on(&on);
    let (config, runs) = tokio::join!(client.vm_config(it.vmid), client.runs(it.vmid));
    let (config, runs) = (config.map_err(fault)?, runs.map_err(fault)?);
    own(context, place, &config, &doing)?;
    if runs {
        let status = client.vm_status(it.vmid).await.map_err(fault)?;
        if let Some(state) = status.halted() {
            let state = excerpt(state, 40);
            let said = format!("it is powered on but does not run: QEMU reports `{state}`");
            let hint = halt::fix(it.vmid, &it.host, &state);
            return Err(Failure::new(Exit::NotAsAsked, doing, said).on(on).hint(hint));
        }
        if status.is_running() {
            return Ok(false);
        }
    }
    // The plan relies on a template of that size, and another one may have taken its place.
    let want = u64::from(it.disk_gib) << 30;
    if config.disk_size(spec::DISK).is_some_and(|size| size < want) {
        client.resize_disk(it.vmid, spec::DISK, want).await.map_err(fault)?;
        return Box::pin(start(context, it)).await;
    }
    client.start_vm(it.vmid).await.map_err(fault)?;
    Ok(true)
}

/// The host and VMID of a node's VM.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) node: &'a NodeName,
    pub(super) host: &'a HostName,
    pub(super) vmid: VmId,
}

impl<'a> From<&'a Node> for Place<'a> {
    fn from(node: &'a Node) -> Self {
        Self { node: &node.name, host: &node.host, vmid: node.vmid }
    }
}

impl Place<'_> {
    /// The host's client, the action and its place, for a step on the VM.
    pub(super) fn ask<'a>(
        &self,
        context: &'a Context,
        verb: &str,
    ) -> Result<(&'a Client, String, String), Failure> {
        let client = context.client(self.host)?;
        Ok((client, format!("{verb} VM {}", self.vmid), format!("{} on {}", self.node, self.host)))
    }
}

/// Refuses to continue with a VM that is not the node's own, of this creation.
pub(super) fn own(
    context: &Context,
    place: Place<'_>,
    config: &VmConfig,
    doing: &str,
) -> Result<(), Failure> {
    let Place { node, host, vmid } = place;
    let (cluster, creation) = (&context.cluster.name, &context.creation);
    if config.mark().is_some_and(|mark| mark.is_of(cluster, node, creation)) {
        return Ok(());
    }
    let found = config.name().unwrap_or("unnamed");
    let said = format!("VM {vmid} is `{found}`, which has no k8sha mark; nothing was changed");
    Err(Failure::new(Exit::NotAsAsked, doing, said).on(format!("{node} on {host}")).hint(
        "give the node another `vmid` in the profile, or change the VMID of that VM".to_owned(),
    ))
}
