//! What a host tells of what new VMs need: its CPUs, its CPU types, its memory, its pools. Asked only
//! where some VM is still to be made, so that a run without work asks no more than before.

use crate::cluster::Cluster;
use crate::plan::machines::{SEES_POOLS, Told};
use crate::proxmox::wire::Permissions;
use crate::proxmox::{Client, Error};

/// Asks a host. What it does not let us see is `None`.
///
/// # Errors
/// When it does not answer.
pub(super) async fn ask(client: &Client, cluster: &Cluster) -> Result<Told, Error> {
    let pool = cluster.proxmox.pool.as_deref();
    let (node, models, pools) =
        tokio::join!(client.node_status(), client.cpu_models(), pools(client, pool));
    let (pools, sees_pools) = pools?;
    let node = seen(node)?;
    Ok(Told {
        memory_mib: node.as_ref().map(|node| node.memory.total >> 20).filter(|mib| *mib > 0),
        cpus: node.map(|node| node.cpuinfo),
        models: seen(models)?,
        pools,
        sees_pools,
    })
}

/// The pools that we see, and whether we would see the wanted one if it were there: the list holds
/// only what we have a right on.
async fn pools(client: &Client, pool: Option<&str>) -> Result<(Vec<String>, bool), Error> {
    let Some(pool) = pool else { return Ok((Vec::new(), false)) };
    let path = format!("/pool/{pool}");
    let (pools, held) = tokio::join!(client.pools(), client.permissions(Some(&path)));
    let pools = seen(pools)?.unwrap_or_default().into_iter().map(|pool| pool.poolid).collect();
    Ok((pools, seen(held)?.is_some_and(|held| sees(&held, &path))))
}

fn sees(held: &Permissions, path: &str) -> bool {
    let held = held.0.get(path);
    held.is_some_and(|held| SEES_POOLS.iter().any(|one| held.contains_key(*one)))
}

/// An answer, or `None` where we may not ask or the host does not know the call.
fn seen<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(Error::Forbidden(_)) => Ok(None),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}
