//! Collects everything about one host concurrently, with GET requests only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::finding::{Finding, Severity};
use super::rights::{self, Held};
use crate::cluster::{Cluster, HostName, VmId};
use crate::plan::machines::{self, Told};
use crate::proxmox::wire::{
    Certificate, ClusterStatus, MemoryInfo, NetworkIface, StorageStatus, VmConfig, VmResource,
    VmSummary,
};
use crate::proxmox::{Client, Error};

/// How long a host may take to answer all requests.
const PATIENCE: Duration = Duration::from_millis(4500);
/// How long the first answer may take. Proxmox VE rejects a wrong token after three seconds.
const FIRST: Duration = Duration::from_secs(4);

/// A host's answers.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) held: Held,
    /// The privileges of the role that the README creates; `None` if there is no such role.
    pub(super) role: Option<BTreeSet<String>>,
    pub(super) status: Option<ClusterStatus>,
    pub(super) memory: Option<MemoryInfo>,
    /// Its CPUs, its CPU types and its pools.
    pub(super) told: Told,
    pub(super) storages: Vec<StorageStatus>,
    pub(super) network: Vec<NetworkIface>,
    pub(super) certificates: Vec<Certificate>,
    pub(super) vms: Vec<VmSummary>,
    /// The VMs of the whole Proxmox VE cluster.
    pub(super) all: Vec<VmResource>,
    pub(super) configs: BTreeMap<VmId, VmConfig>,
    /// Addresses that guest agents report, of running VMs that are not in the table.
    pub(super) reported: Vec<(VmId, std::net::IpAddr)>,
    pub(super) images: Vec<String>,
    /// Seconds by which its clock is ahead of this machine's.
    pub(super) ahead: Option<i64>,
    /// The queries that failed.
    pub(super) faults: Vec<Finding>,
}

/// Queries a host.
///
/// # Errors
/// Why the host cannot be queried at all.
pub(super) async fn ask(cluster: &Arc<Cluster>, client: &Client) -> Result<Seen, Finding> {
    let host = client.host();
    let silent = |limit: Duration| {
        let what = format!("no answer from {} within {} s", client.endpoint(), limit.as_secs_f32());
        let fix = vec![
            "systemctl status pveproxy pvedaemon pvestatd".to_owned(),
            format!("curl -k {}/", client.endpoint()),
        ];
        Finding::new(Severity::Error, host, what, fix)
    };
    match timeout(FIRST, client.greet()).await {
        Err(_) => return Err(silent(FIRST)),
        Ok(Err(error)) => return Err(Finding::fault(Severity::Error, host, &error)),
        Ok(Ok(_)) => {}
    }
    let mut seen = timeout(PATIENCE, all(cluster, client)).await.map_err(|_| silent(PATIENCE))?;
    seen.ahead = client.clock_ahead();
    Ok(seen)
}

async fn all(cluster: &Arc<Cluster>, client: &Client) -> Seen {
    let host = client.host();
    let settings = &cluster.proxmox.hosts[host];
    let import = &settings.import_storage;
    let asked = tokio::join!(
        held(cluster, client),
        client.cluster_status(),
        client.node_status(),
        client.storages(),
        client.network(),
        client.certificates(),
        client.vms(),
        client.storage_content(import, "import"),
        client.cluster_vms(),
        client.cpu_models(),
        client.pools(),
        client.roles(),
    );
    let (
        held,
        status,
        node,
        storages,
        network,
        certificates,
        vms,
        images,
        all,
        models,
        pools,
        roles,
    ) = asked;
    let mut seen = Seen::default();
    let mut note = Notes { host, faults: Vec::new() };
    seen.held = note.take(held).unwrap_or_default();
    // The role is used only for the suggested commands.
    let roles = roles.unwrap_or_default().into_iter();
    let ours = roles.filter(|role| role.roleid == crate::proxmox::rights::ROLE);
    seen.role = ours.map(|role| role.privs).next();
    seen.status = note.take(status);
    if let Some(node) = note.take(node) {
        seen.memory = Some(node.memory);
        seen.told.cpus = Some(node.cpuinfo);
    }
    seen.told.models = note.take(models);
    let pools = note.take(pools).unwrap_or_default();
    seen.told.pools = pools.into_iter().map(|pool| pool.poolid).collect();
    seen.told.sees_pools = cluster.proxmox.pool.as_ref().is_some_and(|pool| {
        let held = seen.held.get(&format!("/pool/{pool}"));
        held.is_some_and(|held| held.iter().any(|one| machines::SEES_POOLS.contains(&one.as_str())))
    });
    seen.storages = note.take(storages).unwrap_or_default();
    seen.network = note.take(network).unwrap_or_default();
    seen.certificates = note.take(certificates).unwrap_or_default();
    seen.vms = note.take(vms).unwrap_or_default();
    seen.all = note.take(all).unwrap_or_default();
    // A missing or invisible storage is reported by its own check.
    let images = images.unwrap_or_default();
    seen.images = images.into_iter().map(|volume| volume.volid).collect();
    let configs = configs(client, &seen.vms).await;
    for (vmid, config) in configs {
        seen.configs.extend(note.take(config).map(|config| (vmid, config)));
    }
    seen.reported = reported(cluster, client, &seen).await;
    seen.faults = note.faults;
    seen
}

/// Turns failed queries into findings. A missing privilege is reported by its own check; a VM that
/// was removed in the meantime is not a finding.
struct Notes<'a> {
    host: &'a HostName,
    faults: Vec<Finding>,
}

impl Notes<'_> {
    fn take<T>(&mut self, answer: Result<T, Error>) -> Option<T> {
        match answer {
            Ok(value) => Some(value),
            Err(Error::Forbidden(_)) => None,
            Err(error) if error.is_absent() => None,
            Err(error) => {
                self.faults.push(Finding::fault(Severity::Error, self.host, &error));
                None
            }
        }
    }
}

/// The privileges held on each relevant path, from one list: a path that is not in the list
/// inherits what its nearest ancestor propagates.
async fn held(cluster: &Cluster, client: &Client) -> Result<Held, Error> {
    let all = client.permissions(None).await?;
    let paths = rights::paths(cluster, client.host()).into_iter();
    Ok(paths
        .map(|path| {
            let held = all.on(&path);
            (path, held)
        })
        .collect())
}

/// The maximum number of VM configurations to read.
const CONFIGS: usize = 200;

async fn configs(client: &Client, vms: &[VmSummary]) -> Vec<(VmId, Result<VmConfig, Error>)> {
    let mut asking = JoinSet::new();
    for vm in vms.iter().take(CONFIGS) {
        let (client, vmid) = (client.clone(), vm.vmid);
        asking.spawn(async move { (vmid, client.vm_config(vmid).await) });
    }
    asking.join_all().await
}

/// The maximum number of guest agents to query: one that does not answer keeps a worker of the host
/// busy for seconds.
const AGENTS: usize = 3;
/// How long an agent may take to answer.
const AGENT_LIMIT: Duration = Duration::from_millis(1500);

async fn reported(
    cluster: &Cluster,
    client: &Client,
    seen: &Seen,
) -> Vec<(VmId, std::net::IpAddr)> {
    let of_table = |vmid: VmId| cluster.nodes.iter().any(|node| node.vmid == vmid);
    let has_agent = |vmid: VmId| {
        let agent = seen.configs.get(&vmid).and_then(|config| config.get("agent"));
        agent.is_some_and(|agent| agent.starts_with('1') || agent.contains("enabled=1"))
    };
    let strangers = seen
        .vms
        .iter()
        .filter(|vm| vm.status == "running" && !of_table(vm.vmid) && has_agent(vm.vmid));
    let mut asking = JoinSet::new();
    for vm in strangers.take(AGENTS) {
        let (client, vmid) = (client.clone(), vm.vmid);
        asking.spawn(async move {
            let asked = timeout(AGENT_LIMIT, client.agent_interfaces(vmid)).await;
            // An agent that does not answer, or may not be queried, gives no information.
            let interfaces = asked.ok().and_then(Result::ok).map(|found| found.result);
            let addresses = interfaces.unwrap_or_default().into_iter();
            addresses
                .flat_map(|interface| interface.ip_addresses)
                .map(|address| (vmid, address.ip_address))
                .collect::<Vec<_>>()
        });
    }
    asking.join_all().await.into_iter().flatten().collect()
}
