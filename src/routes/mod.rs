//! Blackhole routes on the physical Proxmox VE hosts: they drop packets to the cluster's own
//! networks that no machine of the cluster accepts, instead of sending them out through the default
//! route.
//!
//! A routing protocol number and a metric mark the routes as the cluster's own, so that they
//! coexist with other routes and lose against them. A systemd unit sets them at every boot: Proxmox
//! VE rewrites `/etc/network/interfaces`, runs `post-up` lines again at each `ifreload`, and reads
//! `interfaces.d` only if that file says so, but it touches neither units nor routes without a
//! device.

mod act;
pub mod login;
pub mod plan;
pub mod seen;
pub mod unit;

pub use act::{apply, look, remove};

use crate::cluster::HostName;
use crate::ssh::{Command, Remote};

/// A Proxmox VE host that is reached over SSH.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its name.
    pub name: HostName,
    /// The SSH connection to it.
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
