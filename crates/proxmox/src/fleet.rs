//! The hosts of a run, and which of them form one Proxmox VE cluster.

use std::collections::{BTreeMap, BTreeSet};

use tokio::task::JoinSet;

use crate::HostName;

use super::client::Client;
use super::error::Error;

/// Clients by host.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    clients: BTreeMap<HostName, Client>,
}

/// The hosts that form one Proxmox cluster: its VMIDs are unique, and a storage may be shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Every Proxmox cluster or standalone host of the fleet.
    pub clusters: Vec<PveCluster>,
}

/// A Proxmox cluster or a standalone host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PveCluster {
    /// Its name; `None` for a standalone host, or if the account may not read it.
    pub name: Option<String>,
    /// All of its nodes, including those that are not in the profile.
    pub nodes: BTreeSet<String>,
    /// The hosts of the fleet in it.
    pub hosts: BTreeSet<HostName>,
    /// Whether its configuration is writable.
    pub quorate: bool,
    /// Whether the account may not see if it is a cluster, its name and its quorum: that requires
    /// Sys.Audit on `/`.
    pub hidden: bool,
}

impl Topology {
    /// The Proxmox cluster of a host.
    pub fn of(&self, host: &HostName) -> Option<&PveCluster> {
        self.clusters.iter().find(|cluster| cluster.hosts.contains(host))
    }

    /// Whether both hosts are in one Proxmox cluster.
    pub fn is_together(&self, one: &HostName, other: &HostName) -> bool {
        self.of(one).is_some_and(|cluster| cluster.hosts.contains(other))
    }
}

impl FromIterator<Client> for Fleet {
    fn from_iter<I: IntoIterator<Item = Client>>(clients: I) -> Self {
        let named = clients.into_iter().map(|client| (client.host().clone(), client));
        Self { clients: named.collect() }
    }
}

impl Fleet {
    /// The client of a host.
    ///
    /// # Errors
    /// [`Error::NoSuchHost`] with the known names.
    pub fn client(&self, host: &HostName) -> Result<&Client, Error> {
        self.clients.get(host).ok_or_else(|| Error::NoSuchHost {
            host: host.clone(),
            known: self.clients.keys().map(ToString::to_string).collect(),
        })
    }

    /// All clients, by host name.
    pub fn clients(&self) -> impl Iterator<Item = &Client> {
        self.clients.values()
    }

    /// Queries every host concurrently for its Proxmox cluster.
    ///
    /// # Errors
    /// Those of [`Fleet::standing`]: the first host's error in name order.
    pub async fn topology(&self) -> Result<Topology, Error> {
        let mut asking = JoinSet::new();
        for client in self.clients() {
            let client = client.clone();
            asking.spawn(async move { (client.host().clone(), Self::standing(&client).await) });
        }
        let answers: BTreeMap<_, _> = asking.join_all().await.into_iter().collect();
        Topology::of_answers(answers.into_values())
    }

    /// One host's own report.
    ///
    /// # Errors
    /// [`Error::WrongHost`] if the endpoint leads to a Proxmox VE without a node of that name; those of
    /// a reading call.
    pub async fn standing(client: &Client) -> Result<PveCluster, Error> {
        standing(client).await
    }
}

impl Topology {
    /// Combines the reports of all hosts.
    ///
    /// # Errors
    /// The first one.
    pub fn of_answers(
        answers: impl IntoIterator<Item = Result<PveCluster, Error>>,
    ) -> Result<Self, Error> {
        let mut clusters: Vec<PveCluster> = Vec::new();
        for answer in answers {
            let seen = answer?;
            // Two clusters may have the same name; their lists of nodes distinguish them.
            match clusters.iter_mut().find(|cluster| cluster.is_same(&seen)) {
                Some(cluster) => {
                    cluster.hosts.extend(seen.hosts);
                    cluster.quorate &= seen.quorate;
                    cluster.hidden |= seen.hidden;
                    cluster.name = cluster.name.take().or(seen.name);
                }
                None => clusters.push(seen),
            }
        }
        Ok(Self { clusters })
    }
}

impl PveCluster {
    fn is_same(&self, other: &Self) -> bool {
        let names_agree = match (&self.name, &other.name) {
            (Some(one), Some(other)) => one == other,
            // A host that hides its cluster's name still lists its nodes.
            _ => true,
        };
        names_agree && self.nodes == other.nodes
    }
}

/// One host's own report.
async fn standing(client: &Client) -> Result<PveCluster, Error> {
    let mut seen = match client.cluster_status().await {
        Ok(status) => PveCluster {
            name: status.cluster().map(|cluster| cluster.name.clone()),
            nodes: status.nodes().map(|node| node.name.clone()).collect(),
            hosts: BTreeSet::new(),
            quorate: status.is_quorate(),
            hidden: false,
        },
        // Without Sys.Audit on `/` the names of the nodes are still readable.
        Err(Error::Forbidden(_)) => PveCluster {
            name: None,
            nodes: client.nodes().await?.into_iter().map(|node| node.node).collect(),
            hosts: BTreeSet::new(),
            quorate: true,
            hidden: true,
        },
        Err(error) => return Err(error),
    };
    if !seen.nodes.contains(client.host().as_str()) {
        return Err(Error::WrongHost {
            host: client.host().clone(),
            endpoint: client.endpoint().to_owned(),
            known: seen.nodes.into_iter().collect(),
        });
    }
    seen.hosts.insert(client.host().clone());
    Ok(seen)
}
