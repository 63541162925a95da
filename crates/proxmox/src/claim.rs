//! Identifies the VM that a call creates.

use std::fmt;

/// The owner of a VM, by its description. The description is written in the same call that creates the
/// VM, so that a call whose answer was lost is settled by reading it back.
pub trait Claim: fmt::Debug + Send + Sync {
    /// The description of the VM to create.
    fn description(&self) -> String;

    /// Whether a VM with this description is the one to create.
    fn holds(&self, description: &str) -> bool;

    /// The owner of a VM with another description: the rest of the sentence "it is `NAME`".
    fn other(&self, description: &str) -> String;
}
