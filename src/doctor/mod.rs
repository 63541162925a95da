//! Checks all prerequisites of a run with GET requests, DNS queries, TCP connections and pings
//! only; concurrently, and in under five seconds.
//!
//! It finds conflicts with the same functions as a run (`plan::prerequisites`, `plan::conflicts`),
//! so both report the same ones.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::task::JoinSet;

use crate::cluster::{Cluster, HostName};
use crate::dns;
use crate::net::Dialer;
use crate::proxmox::{Client, Identity};

mod address;
mod etcd;
mod finding;
mod health;
mod host;
mod names;
mod neighbours;
pub mod owned;
mod rights;
mod room;

pub use finding::{Diagnosis, Finding};

/// What the checks examine.
pub struct Patient {
    /// The cluster, whether it exists or is still to be created.
    pub cluster: Arc<Cluster>,
    /// The clients of the hosts that can be queried.
    pub clients: Vec<Client>,
    /// The certificates of k8sha's etcd in the state folder, each with its expiry in seconds since
    /// 1970.
    pub etcd_ends: Vec<(PathBuf, Option<i64>)>,
    /// How name servers are reached.
    pub dialer: Dialer,
    /// How the nodes' network is reached; `None` if the route to it is not open.
    pub nodes: Option<Dialer>,
}

/// Runs all checks. `before` contains the earlier findings, including those of the run's own look.
pub async fn examine(patient: &Patient, before: Vec<Finding>) -> Diagnosis {
    let Patient { cluster, dialer, nodes, .. } = patient;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let (hosts, names, members) =
        tokio::join!(hosts(patient, now), dns::check(cluster, dialer), async {
            match nodes {
                Some(nodes) => etcd::members(cluster, nodes).await,
                None => Vec::new(),
            }
        },);
    let (seen, found) = hosts;
    let mut findings = before;
    findings.extend(found);
    findings.extend(names::findings(names));
    findings.extend(etcd::files(cluster, now));
    findings.extend(etcd::own(&patient.etcd_ends, now));
    findings.extend(members);
    let claimed = address::claimed(cluster, &seen);
    let unused = address::unused(cluster, &seen);
    if let Some(nodes) = nodes {
        findings.extend(address::knock(cluster, nodes, &unused, &seen).await);
    }
    findings.extend(claimed);
    Diagnosis::new(findings)
}

async fn hosts(patient: &Patient, now: i64) -> (BTreeMap<HostName, host::Seen>, Vec<Finding>) {
    let mut asking = JoinSet::new();
    for client in patient.clients.clone() {
        let cluster = Arc::clone(&patient.cluster);
        asking.spawn(async move {
            let seen = host::ask(&cluster, &client).await;
            (client.host().clone(), client.identity().clone(), seen)
        });
    }
    let (mut all, mut findings) = (BTreeMap::new(), Vec::new());
    for (host, who, seen) in asking.join_all().await {
        match seen {
            Ok(mut seen) => {
                findings.append(&mut seen.faults);
                findings.extend(judge(&patient.cluster, &host, &who, &seen, now));
                all.insert(host, seen);
            }
            Err(finding) => findings.push(finding),
        }
    }
    (all, findings)
}

fn judge(
    cluster: &Cluster,
    host: &HostName,
    who: &Identity,
    seen: &host::Seen,
    now: i64,
) -> Vec<Finding> {
    let mut findings = rights::missing(cluster, host, who, seen);
    findings.extend(rights::blind(host, who, &seen.held));
    findings.extend(health::check(cluster, host, who, seen, now));
    findings.extend(room::storages(cluster, host, seen));
    findings.extend(room::memory(cluster, host, seen));
    findings
}

/// The cluster of the main job, on its two hosts.
#[cfg(test)]
fn fixture() -> Cluster {
    use crate::cluster::{Host, TemplateSource, VmId};
    let mut cluster = crate::cluster::fixture::k8s1();
    for (name, template) in [("pve1", 9001), ("pve2", 9002)] {
        let source = TemplateSource::Ours(VmId(template));
        let host = Host {
            endpoint: format!("https://{name}.kloud.lan:8006"),
            ssh_address: None,
            ssh_host_key: None,
            trust: None,
            storage: "local-lvm".to_owned(),
            iso_storage: "local".to_owned(),
            import_storage: "local".to_owned(),
            templates: BTreeMap::from([("ubuntu-22.04".to_owned(), source)]),
        };
        cluster.proxmox.hosts.insert(HostName(name.to_owned()), host);
    }
    cluster
}
