//! Everything beyond Proxmox: guests, name servers, etcd, Kubernetes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::site::Site;
use super::store::Store;
use super::world::{Machine, Shared, SimTime};

/// Where the lab's servers are.
pub struct LabEndpoints {
    /// An HTTP CONNECT proxy that leads to the guests.
    pub proxy: SocketAddr,
    /// Where each name server is asked.
    pub name_servers: BTreeMap<Ipv4Addr, SocketAddr>,
    /// The files with which the site's etcd is reached.
    pub etcd: Option<EtcdFiles>,
}

/// The files of an etcd client, in PEM.
pub struct EtcdFiles {
    /// The CA's certificate.
    pub ca: String,
    /// The client's certificate.
    pub cert: String,
    /// The client's private key.
    pub key: String,
}

/// Serves the lab on loopback ports.
///
/// # Errors
/// When a port cannot be had.
pub async fn serve(_shared: Shared) -> io::Result<LabEndpoints> {
    let proxy = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    Ok(LabEndpoints { proxy, name_servers: BTreeMap::new(), etcd: None })
}

/// The lab's state.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Lab {
    /// The faults of guests, name servers and etcd members: (kebab-case name, target).
    pub faults: BTreeSet<(String, String)>,
}

impl Lab {
    /// The lab of a site.
    ///
    /// # Errors
    /// When no certificate can be made.
    pub fn new(_site: &Site, _epoch: i64) -> io::Result<Self> {
        Ok(Self::default())
    }
    /// The names of the keys in the site's etcd.
    pub fn etcd_keys(&self) -> Vec<String> {
        Vec::new()
    }
    /// A VM was switched on: its guest boots from its disk, reading the seed in its CD-ROM drives.
    pub fn power_on(&mut self, _machine: Machine, _now: SimTime, _store: &Store) {}
    /// A VM was switched off. `hard`: without telling the guest.
    pub fn power_off(&mut self, _key: &str, _hard: bool, _now: SimTime) {}
    /// Whether the guest of this VM reacts to ACPI shutdown (it has booted).
    pub fn reacts(&self, _key: &str, _now: SimTime) -> bool {
        true
    }
    /// A VM's disks were deleted: forget what its guest wrote.
    pub fn destroy(&mut self, _key: &str) {}
    /// Whether the guest agent answers.
    pub fn agent(&self, _key: &str, _now: SimTime) -> bool {
        false
    }
    /// The guest's IPv4 addresses with prefix lengths, per interface, for the agent's answer.
    pub fn addresses(&self, _key: &str, _now: SimTime) -> Vec<(String, std::net::Ipv4Addr, u8)> {
        Vec::new()
    }
    /// VMs whose guest switched itself off (poweroff) and that Proxmox must see stopped.
    pub fn take_stopped(&mut self) -> Vec<String> {
        Vec::new()
    }
    /// Lets everything take effect that ends by `now`.
    pub fn advance(&mut self, _now: SimTime) {}
}
