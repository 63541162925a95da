//! Steps that make a VM: seed, clone, configuration, disk, start. Each reads the mark again before
//! it writes.

use crate::cluster::{CloneMode, NodeName};
use crate::error::{Exit, Failure};
use crate::files::{private_folder, write_private};
use crate::limits::excerpt;
use crate::mark::{Machine, Mark, Marked};
use crate::plan::{Change, action, first_start, halt, spec};
use crate::proxmox::wire::VmConfig;
use crate::proxmox::{Client, CloneRequest, Error, Params};
use crate::run::context::{Context, made_from};
use crate::run::look::proxmox;

/// What keeps a VM and its drives from being removed.
const PROTECTION: &str = "protection";

/// Uploads a node's seed ISO.
pub(super) async fn seed(context: &Context, it: &action::Seed) -> Result<bool, Failure> {
    let action::Seed { node, host, storage, file } = it;
    let client = context.client(host)?;
    let doing = format!("upload the seed `{file}` to `{storage}`");
    let fault = |error| proxmox(&doing, &error).on(host);
    let image = &context.seeds[node].bytes;
    // The name holds the hash of the bytes: same name and size, same seed.
    let there = client.find_file(storage, "iso", file).await.map_err(fault)?;
    if there.is_some_and(|volume| volume.size == image.len() as u64) {
        return Ok(false);
    }
    record(context, node, file).map_err(|error| {
        Failure::new(Exit::Local, "note what the machine is made from", error).on(node)
    })?;
    client.upload_iso(storage, file, image).await.map_err(fault)?;
    Ok(true)
}

/// Notes the documents of a seed, so that a later run can tell which lines of them have changed. Those
/// of the node's former machine go.
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
    let action::Clone { node: name, host, home, source, vmid, full, storage } = it;
    let (source, vmid, full) = (*source, *vmid, *full);
    let spec = &context.specs[name];
    let client = context.client(home)?;
    let doing = format!("clone template {source} to VM {vmid}");
    let on = format!("{name} on {host}");
    let fault = |error| proxmox(&doing, &error).on(&on);
    let target = context.client(host)?;
    // The list tells that it is absent without a refusal, after which the host hangs up.
    let listed = target.vms().await.map_err(fault)?;
    if listed.iter().any(|vm| vm.vmid == vmid) {
        let config = target.vm_config(vmid).await.map_err(fault)?;
        own(context, name, &config, &doing)?;
        return Ok(false);
    }
    let request = CloneRequest {
        source,
        newid: vmid,
        name: name.to_string(),
        mode: if full { CloneMode::Full } else { CloneMode::Linked },
        storage: full.then(|| storage.clone()),
        pool: context.cluster.proxmox.pool.clone(),
        claim: spec.mark.clone().claim(&spec.line),
    };
    let made = client.clone_vm(&request, target).await.map_err(fault)?;
    context.keep_made(name, made);
    Ok(true)
}

/// Sets what differs in a VM's configuration: of one that was there when the plan was made only what
/// the plan names, for a machine that has booted keeps the seed that it has read.
pub(super) async fn configure(context: &Context, it: &action::Configure) -> Result<bool, Failure> {
    let action::Configure { node: name, changes: planned } = it;
    let (client, doing, on) = at(context, name, "configure")?;
    let fault = |error| proxmox(&doing, &error).on(&on);
    let node = context.node(name);
    let spec = &context.specs[name];
    // What the clone was when it was made still counts if the host, held to its digest, says so.
    let made = context.take_made(name).filter(|config| config.digest().is_some());
    let is_made = made.is_some();
    let read = async || match made {
        Some(config) => Ok(config),
        None => client.vm_config(node.vmid).await,
    };
    let (config, running) = tokio::join!(read(), client.runs(node.vmid));
    let (mut config, running) = (config.map_err(fault)?, running.map_err(fault)?);
    own(context, name, &config, &doing)?;
    let mut changes = spec::changes(spec, &config.0);
    if !running {
        first_start::add(&mut changes, spec, &config.0);
    }
    let named = |key: &str| planned.is_empty() || planned.iter().any(|change| change.key == key);
    changes.retain(|change| named(&change.key));
    let emptied =
        planned.iter().any(|change| change.key == spec::SEED_DRIVE && change.to == spec::EJECTED);
    for change in changes.iter_mut().filter(|change| emptied && change.key == spec::SEED_DRIVE) {
        spec::EJECTED.clone_into(&mut change.to);
    }
    let found = config.mark();
    if planned.is_empty() && found.as_ref().is_some_and(|mark| mark.read.is_some()) {
        // Another run has made the machine meanwhile, and seen it boot.
        changes.retain(|change| change.key != spec::SEED_DRIVE);
    }
    if changes.is_empty() {
        return Ok(false);
    }
    // No drive goes from a VM that is protected, and Proxmox VE looks before it changes anything.
    if let Some(place) = changes.iter().position(|change| change.key == PROTECTION) {
        changes.remove(place);
        let digest = config.digest();
        let written = client.set_config(node.vmid, &Params::new(), &[PROTECTION], digest).await;
        if is_made && written.as_ref().is_err_and(Error::is_modified) {
            return Box::pin(configure(context, it)).await;
        }
        written.map_err(fault)?;
        if changes.is_empty() {
            return Ok(true);
        }
        config = client.vm_config(node.vmid).await.map_err(fault)?;
    }
    let seed = |change: &Change| change.key == spec::SEED_DRIVE && change.to != spec::EJECTED;
    let new_seed = changes.iter().any(seed);
    let (gone, set): (Vec<Change>, Vec<Change>) =
        changes.into_iter().partition(|change| change.to.is_empty());
    let gone: Vec<&str> = gone.iter().map(|change| change.key.as_str()).collect();
    let params = set.into_iter().fold(Params::new(), |params, change| {
        let value = match change.key.as_str() {
            "description" => {
                let mark = marked(&spec.mark, found.as_ref(), new_seed);
                // What a person wrote beside the mark stays.
                match found {
                    Some(_) => mark.replace_in(config.description()),
                    None => mark.describe(&spec.line),
                }
            }
            _ => change.to,
        };
        params.with(&change.key, value)
    });
    let written = client.set_config(node.vmid, &params, &gone, config.digest()).await;
    if is_made && written.as_ref().is_err_and(Error::is_modified) {
        return Box::pin(configure(context, it)).await;
    }
    written.map_err(fault)?;
    Ok(true)
}

/// The mark of a VM whose configuration changes. What the machine was made as stays, unless it gets
/// another seed to read; its disk comes from where it came from in any case.
fn marked(wanted: &Mark, found: Option<&Mark>, new_seed: bool) -> Mark {
    let Some(found) = found else { return wanted.clone() };
    let (machine, read) = match (new_seed, &wanted.machine, &found.machine) {
        (false, Some(machine), Some(made)) => {
            let network = machine.network.clone();
            (Some(Machine { network, ..made.clone() }), found.read.clone())
        }
        (false, ..) => (found.machine.clone(), found.read.clone()),
        (true, Some(machine), Some(made)) => {
            (Some(Machine { image: made.image.clone(), ..machine.clone() }), None)
        }
        (true, machine, _) => (machine.clone(), None),
    };
    Mark { machine, read, ..wanted.clone() }
}

/// Grows a VM's disk; one that is large enough stays as it is.
pub(super) async fn grow(context: &Context, it: &action::Grow) -> Result<bool, Failure> {
    let name = &it.node;
    let (client, doing, on) = at(context, name, "grow the disk of")?;
    let fault = |error| proxmox(&doing, &error).on(&on);
    let node = context.node(name);
    let config = client.vm_config(node.vmid).await.map_err(fault)?;
    own(context, name, &config, &doing)?;
    let want = u64::from(it.to_gib) << 30;
    let Some(size) = config.disk_size(spec::DISK) else {
        return Err(Failure::new(
            Exit::NotAsAsked,
            doing,
            format!("the VM has no disk `{}`: it was detached", spec::DISK),
        )
        .on(on)
        .hint("attach it again, or `k8sha rebuild` makes the machine again".to_owned()));
    };
    if size >= want {
        return Ok(false);
    }
    client.resize_disk(node.vmid, spec::DISK, want).await.map_err(fault)?;
    Ok(true)
}

/// Switches a VM on.
pub(super) async fn start(context: &Context, it: &action::Start) -> Result<bool, Failure> {
    let name = &it.node;
    let (client, doing, on) = at(context, name, "start")?;
    let fault = |error| proxmox(&doing, &error).on(&on);
    let node = context.node(name);
    let (config, runs) = tokio::join!(client.vm_config(node.vmid), client.runs(node.vmid));
    let (config, runs) = (config.map_err(fault)?, runs.map_err(fault)?);
    own(context, name, &config, &doing)?;
    if runs {
        let status = client.vm_status(node.vmid).await.map_err(fault)?;
        if let Some(state) = status.halted() {
            let state = excerpt(state, 40);
            let said = format!("it is switched on and does not run: QEMU says `{state}`");
            let hint = halt::fix(node.vmid, &node.host, &state);
            return Err(Failure::new(Exit::NotAsAsked, doing, said).on(on).hint(hint));
        }
        if status.is_running() {
            return Ok(false);
        }
    }
    // The plan counts on a template of that size, and another one may have taken its place.
    let want = u64::from(node.disk_gib) << 30;
    if config.disk_size(spec::DISK).is_some_and(|size| size < want) {
        client.resize_disk(node.vmid, spec::DISK, want).await.map_err(fault)?;
        return Box::pin(start(context, it)).await;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Role;

    fn mark(spec: &str, seed: &str, image: &str, read: Option<&str>) -> Mark {
        Mark {
            cluster: "k8s1-cluster".to_owned(),
            node: Some(NodeName("k8s1master1".to_owned())),
            spec: spec.to_owned(),
            creation: "1a2b".to_owned(),
            machine: Some(Machine {
                role: Role::Master,
                address: [10, 101, 1, 101].into(),
                user: "ubuntu".to_owned(),
                seed: seed.to_owned(),
                image: image.to_owned(),
                network: Some("vmbr0".to_owned()),
            }),
            read: read.map(str::to_owned),
        }
    }

    #[test]
    fn a_change_of_memory_does_not_rewrite_what_a_booted_machine_was_made_from() {
        let wanted = mark("new", "bb", "ubuntu-22.04 2", None);
        let found = mark("old", "aa", "ubuntu-22.04 1", Some("aa"));
        let kept = mark("new", "aa", "ubuntu-22.04 1", Some("aa"));
        assert_eq!(marked(&wanted, Some(&found), false), kept);
        // One of a former release does not say it, and nothing is made up.
        let former = Mark { machine: None, read: None, ..found.clone() };
        assert_eq!(marked(&wanted, Some(&former), false), Mark { machine: None, ..wanted.clone() });
        // A machine that starts over reads the new seed, on the disk that it has.
        let again = mark("new", "bb", "ubuntu-22.04 1", None);
        assert_eq!(marked(&wanted, Some(&found), true), again);
        assert_eq!(marked(&wanted, None, true), wanted);
    }
}
