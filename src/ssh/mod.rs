//! Commands on the nodes, over SSH.
//!
//! A [`Remote`] is a node that can be reached: it opens a connection when the first command asks
//! for one, runs commands side by side over it, and opens a new one after a loss. Both keys are
//! known beforehand: the node's host key was planted by us and must match exactly, and we log in
//! with a key of our own. The types of the SSH library stay inside this module.

mod command;
mod dial;
mod error;
#[cfg(test)]
pub(crate) mod fake;
mod hostkey;
mod key;
pub mod mask;
mod remote;
mod session;
#[cfg(test)]
mod tests;

pub use command::{Command, Output, quote};
pub use error::Error;
pub use hostkey::HostKey;
pub use key::{Identity, KeyPair};
pub use remote::{Remote, Target};
