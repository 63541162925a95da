//! The environment of a command: real or simulated Proxmox VE hosts, network and machines.

use std::path::PathBuf;

use super::args::Common;
use super::simulated::{self, Simulated};
use crate::clock::Clock;
use crate::cluster::{Cluster, HostName};
use crate::error::Failure;
use crate::net::Dialer;
use crate::proxmox::Auth;
use crate::state::State;

/// The environment that a command acts on.
pub(super) struct World {
    simulated: Option<Simulated>,
}

/// Opens the environment that the arguments select. If it is simulated, the cluster's endpoints are
/// redirected to it.
///
/// # Errors
/// If a simulated environment cannot be started or found.
pub(super) async fn open(common: &Common, cluster: &mut Cluster) -> Result<World, Failure> {
    Ok(World { simulated: simulated::open(common, cluster).await? })
}

impl World {
    /// Whether it is simulated.
    pub(super) fn simulated(&self) -> bool {
        self.simulated.is_some()
    }

    /// Whether it is a simulation that ends with this command.
    pub(super) fn is_passing(&self) -> bool {
        self.simulated.as_ref().is_some_and(Simulated::is_passing)
    }

    /// The simulator's own verdict at the end of a command.
    ///
    /// # Errors
    /// If its state could not be saved, or requests violated Proxmox VE's API schema.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        self.simulated.as_ref().map_or(Ok(()), Simulated::verdict)
    }

    /// The state folder of a cluster in a simulation that is kept.
    pub(super) fn operator(&self, cluster: &str) -> Option<PathBuf> {
        self.simulated.as_ref()?.operator(cluster)
    }

    /// The credentials of a simulated host.
    pub(super) fn auth(&self, host: &HostName) -> Option<Auth> {
        self.simulated.as_ref()?.auth(host)
    }

    /// How addresses are reached.
    pub(super) fn dialer(&self) -> Dialer {
        self.simulated.as_ref().map_or_else(Dialer::direct, Simulated::dialer)
    }

    /// The clock of all waiting.
    pub(super) fn clock(&self) -> Clock {
        self.simulated.as_ref().map_or_else(Clock::real, Simulated::clock)
    }

    /// Writes the certificate files of a simulated external etcd.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(super) fn adopt(&self, cluster: &mut Cluster, state: &State) -> Result<(), Failure> {
        self.simulated.as_ref().map_or(Ok(()), |simulated| simulated.adopt(cluster, state))
    }
}
