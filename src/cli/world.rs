//! Real or simulated: where the Proxmox VE hosts, the network and the machines are.

use std::path::PathBuf;

use super::args::Common;
use super::simulated::{self, Simulated};
use crate::clock::Clock;
use crate::cluster::{Cluster, HostName};
use crate::error::Failure;
use crate::net::Dialer;
use crate::proxmox::Auth;
use crate::state::State;

/// The world that a command acts on.
pub(super) struct World {
    simulated: Option<Simulated>,
}

/// Opens the world that the arguments name; where it is simulated, the cluster's hosts point into it.
///
/// # Errors
/// A simulated world that cannot be started or found.
pub(super) async fn open(common: &Common, cluster: &mut Cluster) -> Result<World, Failure> {
    Ok(World { simulated: simulated::open(common, cluster).await? })
}

impl World {
    /// Whether all of this is simulated.
    pub(super) fn simulated(&self) -> bool {
        self.simulated.is_some()
    }

    /// Whether the world ends with this command.
    pub(super) fn is_passing(&self) -> bool {
        self.simulated.as_ref().is_some_and(Simulated::is_passing)
    }

    /// What the simulator of this process has to say at the end.
    ///
    /// # Errors
    /// A world that could not be kept, requests that Proxmox's schema does not allow.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        self.simulated.as_ref().map_or(Ok(()), Simulated::verdict)
    }

    /// Where a simulated operator's own files of a cluster are.
    pub(super) fn operator(&self, cluster: &str) -> Option<PathBuf> {
        self.simulated.as_ref()?.operator(cluster)
    }

    /// How to log in to a host, where the world says so.
    pub(super) fn auth(&self, host: &HostName) -> Option<Auth> {
        self.simulated.as_ref()?.auth(host)
    }

    /// How addresses are reached.
    pub(super) fn dialer(&self) -> Dialer {
        self.simulated.as_ref().map_or_else(Dialer::direct, Simulated::dialer)
    }

    /// The pace of waiting.
    pub(super) fn clock(&self) -> Clock {
        self.simulated.as_ref().map_or_else(Clock::real, Simulated::clock)
    }

    /// Gives a simulated operator the simulated etcd's files.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(super) fn adopt(&self, cluster: &mut Cluster, state: &State) -> Result<(), Failure> {
        self.simulated.as_ref().map_or(Ok(()), |simulated| simulated.adopt(cluster, state))
    }
}
