//! Which steps stand in a queue, since what they act on takes only so many at once.

use crate::cluster::HostName;

/// A queue: of the steps in it only so many are done at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// How many; `None` is what the run is told.
    pub length: Option<usize>,
}

impl Queue {
    /// That of a storage: Proxmox VE locks one while it allocates there.
    pub fn allocates(host: &HostName, storage: &str) -> Self {
        Self { name: format!("{host}/{storage}"), length: None }
    }
}
