//! Replaces the simulated world in a build without the feature `simulate`.

use std::path::PathBuf;

use super::args::Common;
use crate::clock::Clock;
use crate::cluster::{Cluster, HostName};
use crate::error::Failure;
use crate::net::Dialer;
use crate::proxmox::Auth;
use crate::state::State;

/// No value of this type exists.
pub(super) enum Simulated {}

/// The world is the real one.
#[expect(clippy::unused_async, reason = "as the one that it stands for")]
pub(super) async fn open(_: &Common, _: &mut Cluster) -> Result<Option<Simulated>, Failure> {
    Ok(None)
}

impl Simulated {
    pub(super) fn is_passing(&self) -> bool {
        match *self {}
    }

    pub(super) fn verdict(&self) -> Result<(), Failure> {
        match *self {}
    }

    pub(super) fn operator(&self, _: &str) -> Option<PathBuf> {
        match *self {}
    }

    pub(super) fn auth(&self, _: &HostName) -> Option<Auth> {
        match *self {}
    }

    pub(super) fn dialer(&self) -> Dialer {
        match *self {}
    }

    pub(super) fn clock(&self) -> Clock {
        match *self {}
    }

    pub(super) fn adopt(&self, _: &mut Cluster, _: &State) -> Result<(), Failure> {
        match *self {}
    }
}
