//! Which steps stand in a queue, since what they act on takes only so many at once.

use super::Action;

/// A queue: of the steps in it only so many are done at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// How many; `None` is what the run is told.
    pub length: Option<usize>,
}

impl Action {
    /// The queue it stands in.
    pub fn queue(&self) -> Option<Queue> {
        match self {
            // Proxmox locks a storage while it allocates there.
            Action::Template { host, storage, .. } | Action::Clone { host, storage, .. } => {
                Some(Queue { name: format!("{host}/{storage}"), length: None })
            }
            Action::Join { at_once: Some(length), .. } => {
                Some(Queue { name: "joins".to_owned(), length: Some(*length) })
            }
            _ => None,
        }
    }
}
