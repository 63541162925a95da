//! Reads from a host what new VMs need: its CPUs, CPU types, memory and pools. Queried only if some
//! VM is still to be created, so that a run without work needs no more calls than before.

use crate::cluster::Cluster;
use crate::plan::machines::{SEES_POOLS, Told};
use crate::proxmox::wire::Permissions;
use crate::proxmox::{Client, Error};

/// Queries a host. What k8sha may not see is `None`.
///
/// # Errors
/// If it does not answer.
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

/// The visible pools, and whether the wanted one would be visible if it existed: the list contains
/// only pools with a privilege.
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

/// An answer, or `None` if k8sha has no privilege for the call or the host does not know it.
fn seen<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(Error::Forbidden(_)) => Ok(None),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}
