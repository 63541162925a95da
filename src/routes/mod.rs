//! Blackhole routes on the physical Proxmox VE hosts: packets to the cluster's own networks that
//! no one in the cluster takes are dropped there, and do not leave by the default route.
//!
//! The routes are the cluster's own by a routing protocol number and a metric, so that they stand
//! beside those of others and lose against them. A systemd unit sets them at every boot: Proxmox VE
//! rewrites `/etc/network/interfaces`, runs `post-up` lines again at each `ifreload`, and reads
//! `interfaces.d` only where that file says so, while nothing of it touches a unit or a route without
//! a device.

mod act;
pub mod login;
pub mod plan;
pub mod seen;
pub mod unit;

pub use act::{apply, look, remove};

use crate::cluster::HostName;
use crate::ssh::{Command, Remote};

/// A Proxmox VE host that is reached by SSH.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its name.
    pub name: HostName,
    /// The way to it.
    pub remote: Remote,
    /// Whether the login user is root; Proxmox VE comes without `sudo`.
    pub is_root: bool,
}

impl Host {
    /// A command as root.
    fn command(&self, program: &str) -> Command {
        if self.is_root { Command::new(program) } else { Command::sudo(program) }
    }
}
