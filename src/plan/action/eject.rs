//! Removes seeds that are no longer needed.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::Act;
use crate::cluster::NodeName;
use crate::plan::StoredSeed;

/// Eject the seed from the drive of a machine that has booted, and delete its file: it contains the
/// machine's private host key.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Eject {
    /// The node.
    pub node: NodeName,
    /// Every file that is or may be a seed of the machine.
    pub seeds: BTreeSet<StoredSeed>,
}

impl fmt::Display for Eject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seeds.len() {
            1 => f.write_str("eject the seed and delete it"),
            many => write!(f, "eject the seed and delete its {many} files"),
        }
    }
}

impl Act for Eject {}

/// Delete a seed of this creation whose node no longer has a row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeleteSeed {
    /// The seed.
    pub seed: StoredSeed,
}

impl fmt::Display for DeleteSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "delete {}", self.seed.volume)
    }
}

impl Act for DeleteSeed {}
