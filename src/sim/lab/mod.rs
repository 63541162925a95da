//! Everything beyond Proxmox: guests, name servers, etcd, Kubernetes.

use serde::{Deserialize, Serialize};

use super::store::Store;
use super::world::{Machine, SimTime};

/// The lab's state.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Lab {}

impl Lab {
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
