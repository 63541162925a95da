//! The Proxmox VE side of the simulator.

use serde::{Deserialize, Serialize};

use super::store::Store;
use super::world::{SimTime, World};

/// The Proxmox VE state.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Pve {}

impl Pve {
    /// Lets every task that ends by `now` take effect.
    pub fn advance(_world: &mut World, _now: SimTime, _store: &Store) {}
}
