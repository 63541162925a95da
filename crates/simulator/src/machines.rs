//! Machines in place of the scripted guests.
//!
//! The Proxmox side needs few operations of its guests: switch on, switch off, delete, list addresses.
//! [`Guests`] implements them with its own state machines, or delegates them to [`Machines`] that the
//! simulator's caller supplies.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use super::MachineFacts;
use super::faults::Fault;
use super::guests::{GuestEndpoints, Guests};
use super::site::Site;
use super::world::Machine;

/// The documents of a seed, by file name.
pub type Seed = BTreeMap<String, Vec<u8>>;

/// What [`Machines::serve`] returns.
pub type Serving<'a> = Pin<Box<dyn Future<Output = io::Result<GuestEndpoints>> + Send + 'a>>;

/// Creates the machines of a site when the simulator starts.
pub trait Maker: Debug + Send + Sync {
    /// Refuses faults that such machines cannot simulate.
    ///
    /// # Errors
    /// For the first of them.
    fn check(&self, faults: &[Fault]) -> Result<(), MachineError>;

    /// Creates the site's network, its name servers and its etcd; no machine is switched on yet.
    /// `folder` stores the machines' disks; `None`: they are deleted with the machines. `guests` knows
    /// the names, the CAs and the faults of the site. May block.
    ///
    /// # Errors
    /// If this machine lacks something that they need, or refuses something.
    fn make(
        &self,
        site: &Site,
        folder: Option<&Path>,
        guests: &Guests,
        say: fn(&str),
    ) -> Result<Arc<dyn Machines>, MachineError>;
}

/// The machines of a site. They run in real time; only [`Machines::serve`] waits for one. A VM is
/// identified by its [`Machine::key`]. They end when this is dropped.
pub trait Machines: Debug + Send + Sync {
    /// A VM was switched on, with this seed in its CD-ROM drive.
    fn power_on(&self, machine: &Machine, seed: Seed);

    /// A VM was switched off. `hard`: without notifying the machine.
    fn power_off(&self, key: &str, hard: bool);

    /// A VM's disks were deleted.
    fn destroy(&self, key: &str);

    /// Whether the machine runs.
    fn runs(&self, key: &str) -> bool;

    /// The machine's IPv4 addresses with prefix lengths, per interface; none while it does not run.
    fn addresses(&self, key: &str) -> Vec<(String, Ipv4Addr, u8)>;

    /// The machines that have powered themselves off since the last call.
    fn take_stopped(&self) -> Vec<String>;

    /// Opens their access on loopback: the proxy, and a port for each name server.
    fn serve<'a>(&'a self, guests: &'a Guests) -> Serving<'a>;

    /// The facts that a client needs.
    fn facts(&self) -> MachineFacts;
}

/// Why such machines cannot be created.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct MachineError {
    /// What went wrong.
    source: Box<dyn std::error::Error + Send + Sync>,
    /// What to do about it.
    pub hint: String,
}

impl MachineError {
    /// An error of the machines, with a hint how to fix it.
    pub fn new(
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
        hint: impl Into<String>,
    ) -> Self {
        Self { source: source.into(), hint: hint.into() }
    }
}
