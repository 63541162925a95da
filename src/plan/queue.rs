//! Queues for steps that act on something with limited concurrency.

use crate::cluster::HostName;

/// A queue: only a limited number of its steps run at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// How many; `None` for the number set for the run.
    pub length: Option<usize>,
}

impl Queue {
    /// The queue of a storage: Proxmox VE locks a storage while it allocates there.
    pub fn allocates(host: &HostName, storage: &str) -> Self {
        Self { name: format!("{host}/{storage}"), length: None }
    }
}
