//! The Proxmox VE API: one [`Client`] per host, typed calls, tasks followed to their end.
//!
//! k8sha never guesses the outcome of a write: a write whose answer was lost is settled by reading the
//! state back, and repeated only if nothing happened (see `calls`). Reads are retried automatically.

mod answer;
mod auth;
mod board;
mod body;
mod calls;
mod claim;
mod client;
mod de;
mod error;
mod fleet;
mod hint;
mod id;
mod multipart;
mod params;
mod property;
pub mod rights;
mod shared;
mod task;
pub mod tls;
pub mod wire;

#[cfg(test)]
mod scripted;
#[cfg(test)]
mod tests;

pub use auth::Auth;
pub use calls::{CloneRequest, CreateRequest, is_making};
pub use claim::Claim;
pub use client::Client;
pub use error::{
    CutOff, Denial, EndlessTask, Error, Identity, Odd, OddAnswer, Refusal, Stranger, TaskFailure,
};
pub use fleet::{Fleet, PveCluster, Topology};
pub use id::{CloneMode, HostName, VmId};
pub use params::Params;
pub use property::{Nic, PropertyString, parse_size, print_size, tags};
pub use task::{TaskEnd, Upid};
pub use tls::Trust;
