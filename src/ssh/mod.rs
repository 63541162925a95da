//! Commands on the nodes, over SSH.
//!
//! A [`Remote`] is a reachable node: it opens a connection for the first command, runs commands
//! concurrently over it, and opens a new one after a loss. Both keys are known beforehand: k8sha
//! put the node's host key in its seed, so it must match exactly, and k8sha logs in with its own
//! key, or otherwise with one of the operator's. A [`Jump`] host is a route to nodes that are not
//! reached directly. The types of the SSH library stay inside this module.

mod attach;
mod command;
mod dial;
mod error;
#[cfg(test)]
pub(crate) mod fake;
mod hostkey;
mod jump;
mod key;
mod known_hosts;
mod line;
mod login;
mod remote;
mod session;
mod sudo;

pub use attach::{Ended, Input, Modes, Size, Terminal, Work};
pub use command::{Command, Output, quote};
pub use error::Error;
pub use hostkey::{HostKey, HostKeys};
pub use jump::Jump;
pub use key::{Identity, KeyPair};
pub use known_hosts::Known;
pub use login::Keys;
pub use remote::{Remote, Target};

pub(crate) use crate::secrets::forms as mask;

#[cfg(test)]
mod tests {
    mod attached;
    mod commands;
    mod floods;
    mod jumps;
}
