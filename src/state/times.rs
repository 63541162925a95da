//! How long steps took: a file that no run depends on.

use std::io;

use super::State;
use crate::files::{read_if_there, write_private};

impl State {
    /// The record of step times as bytes; `None` before the first one.
    ///
    /// # Errors
    /// The system's error, with the path.
    pub(crate) fn times(&self) -> io::Result<Option<Vec<u8>>> {
        read_if_there(&self.folder.join("times.json"))
    }

    /// Replaces the record of step times. It stays when the cluster is forgotten: the next one on
    /// the same hosts takes as long.
    ///
    /// # Errors
    /// The system's error, with the path.
    pub(crate) fn keep_times(&self, bytes: &[u8]) -> io::Result<()> {
        write_private(&self.folder.join("times.json"), bytes)
    }
}
