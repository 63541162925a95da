//! Removes seeds that are no longer needed: first from the drive, then from the storage.
//!
//! Always in that order: Proxmox VE does not start a VM whose drive names a missing file.

use std::collections::BTreeSet;

use super::{boot, vm};
use crate::cluster::NodeName;
use crate::error::{Exit, Failure};
use crate::mark::{Mark, Marked};
use crate::plan::{StoredSeed, action, spec};
use crate::proxmox::wire::VmConfig;
use crate::proxmox::{Client, Error, Params};
use crate::report::event;
use crate::run::context::Context;
use crate::run::look::proxmox;
use crate::ssh::Command;

/// With this empty file cloud-init trusts the instance that it knows, whether it finds its seed or
/// not. Without it, a boot without a seed at best disables cloud-init, and at worst, if the image
/// names a single datasource, configures the network for DHCP.
///
/// Source: cloud-init tools/ds-identify, `manual_clean_and_existing`; cloudinit/cmd/main.py,
/// `main_init` ("manual cache clean found from marker"); canonical/cloud-init issue 3777.
const TRUSTED: &str = "/var/lib/cloud/instance/manual-clean";

/// How often a configuration that another program changes in the meantime is read again.
const TRIES: usize = 3;

/// Ejects the seed of a machine that has booted, and deletes its seed files.
pub(super) async fn eject(context: &Context, it: &action::Eject) -> Result<bool, Failure> {
    let action::Eject { node: name, seeds } = it;
    let node = context.node(name);
    // Checked again, because the state may have changed: a first boot that is not over needs its
    // seed.
    boot::boot(context, &action::Boot { node: name.clone(), again: false }).await?;
    let client = context.client(&node.host)?;
    let (mut changed, ejected) = match empty_drive(context, name, client, seeds).await? {
        Drive::Kept => return Ok(false),
        Drive::Empty { changed } => (changed, None),
        Drive::Ejected(volume) => (true, Some(volume)),
    };
    for seed in seeds {
        // The file of a seed that was just in the drive must exist: Proxmox VE does not start the
        // VM without it.
        changed |= match ejected.as_ref() == Some(&seed.volume) && seed.host == node.host {
            true => remove(context, seed).await?,
            false => delete(context, seed).await?,
        };
    }
    Ok(changed)
}

/// What happened to a drive with a seed.
enum Drive {
    /// The seed may not be ejected.
    Kept,
    /// There is no seed in it; `changed` if another run may have ejected it.
    Empty {
        /// Whether this run changed it.
        changed: bool,
    },
    /// This volume was ejected, and the drive was read again.
    Ejected(String),
}

/// Ejects the seed from the drive, and checks the drive.
async fn empty_drive(
    context: &Context,
    name: &NodeName,
    client: &Client,
    seeds: &BTreeSet<StoredSeed>,
) -> Result<Drive, Failure> {
    let node = context.node(name);
    let doing = format!("eject the seed of VM {}", node.vmid);
    let on = format!("{name} on {}", node.host);
    let fault = |error| proxmox(&doing, &error).on(&on);
    let mut refused: Option<Error> = None;
    for _ in 0..TRIES {
        let config = client.vm_config(node.vmid).await.map_err(fault)?;
        vm::own(context, node.into(), &config, &doing)?;
        let Some(mark) = config.mark().filter(|mark| holds_seed(&config, mark)) else {
            return Ok(Drive::Empty { changed: refused.is_some() });
        };
        let drive = config.volume(spec::SEED_DRIVE).unwrap_or_default();
        if !seeds.iter().any(|seed| seed.volume == drive) {
            let said = format!("its drive `{}` now holds {drive}", spec::SEED_DRIVE);
            let hint = "another run is working on it: run the same command again".to_owned();
            return Err(Failure::new(Exit::NotAsAsked, doing, said).on(on).hint(hint));
        }
        trust(context, name).await?;
        let read = Some(spec::seed_hashes(&drive).to_owned());
        let described = config.get("description").unwrap_or_default();
        let params = Params::new()
            .with(spec::SEED_DRIVE, spec::EJECTED)
            .with("description", Mark { read, ..mark }.replace_in(described));
        match client.set_config(node.vmid, &params, &[], config.digest()).await {
            Ok(()) => refused = None,
            Err(error @ Error::Forbidden(_)) => {
                left(context, &format!("the seed of {name} was not ejected"), &error);
                return Ok(Drive::Kept);
            }
            // It was changed between the two calls, or by another run that did the same.
            Err(error @ Error::Refused(_)) => refused = Some(error),
            Err(error) => return Err(fault(error)),
        }
        let config = client.vm_config(node.vmid).await.map_err(fault)?;
        if !config.mark().is_some_and(|mark| holds_seed(&config, &mark)) {
            return Ok(Drive::Ejected(drive));
        }
    }
    Err(match refused {
        Some(error) => fault(error),
        None => Failure::new(Exit::NotAsAsked, &doing, "the drive still holds it").on(&on),
    })
}

fn holds_seed(config: &VmConfig, mark: &Mark) -> bool {
    config.volume(spec::SEED_DRIVE).is_some_and(|volume| spec::is_own_seed(&volume, mark))
}

/// Makes cloud-init trust what it has read.
async fn trust(context: &Context, name: &NodeName) -> Result<(), Failure> {
    let touch = Command::sudo("touch").arg(TRUSTED);
    context.remote(name).run_ok(&touch).await.map(drop).map_err(|error| {
        let doing = "make cloud-init independent of its seed".to_owned();
        Failure { doing, ..boot::ssh(name, &error) }
    })
}

/// Deletes the file of a seed that is no longer in any drive, if it exists.
pub(super) async fn delete(context: &Context, seed: &StoredSeed) -> Result<bool, Failure> {
    let client = context.client(&seed.host)?;
    let doing = format!("delete the seed `{}`", seed.volume);
    match is_there(client, seed).await {
        Ok(true) => remove(context, seed).await,
        Ok(false) => Ok(false),
        Err(error) => Err(proxmox(&doing, &error).on(&seed.host)),
    }
}

async fn is_there(client: &Client, seed: &StoredSeed) -> Result<bool, Error> {
    let (storage, file) = seed.volume.split_once(":iso/").unwrap_or_default();
    client.find_file(storage, "iso", file).await.map(|found| found.is_some())
}

/// Deletes the file of a seed that is no longer in any drive.
async fn remove(context: &Context, seed: &StoredSeed) -> Result<bool, Failure> {
    let StoredSeed { host, volume } = seed;
    let client = context.client(host)?;
    let doing = format!("delete the seed `{volume}`");
    match client.delete_volume(volume).await {
        Ok(()) => Ok(true),
        Err(error @ Error::Forbidden(_)) => {
            left(context, &format!("the seed `{volume}` was not deleted from {host}"), &error);
            Ok(false)
        }
        // Another run was faster.
        Err(_) if is_there(client, seed).await.is_ok_and(|there| !there) => Ok(false),
        Err(error) => Err(proxmox(&doing, &error).on(host)),
    }
}

/// Notes what could not be removed for lack of a privilege: the cluster works without it.
fn left(context: &Context, what: &str, error: &Error) {
    let text = format!("{what} (it contains a private host key): {error}");
    event::progress(text.as_str());
    context.note([Some(text), error.hint()].into_iter().flatten().collect::<Vec<_>>().join("; "));
}
