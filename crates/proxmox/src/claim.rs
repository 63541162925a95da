//! Identifies the VM that a call creates.

use std::fmt;

/// Whose a VM is, by its description. The description is written in the very call that makes the VM,
/// so that a call whose answer was lost is settled by reading it back.
pub trait Claim: fmt::Debug + Send + Sync {
    /// The description of the VM that is made.
    fn description(&self) -> String;

    /// Whether a VM with this description is the one that was to be made.
    fn holds(&self, description: &str) -> bool;

    /// Whose a VM is that has another description: the rest of the sentence "it is `NAME`".
    fn other(&self, description: &str) -> String;
}
