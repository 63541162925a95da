//! The simulated network between the guests.

pub mod dns;
pub mod lb;
mod reach;
mod serve;

pub use reach::Reach;
pub use serve::{EtcdFiles, GuestEndpoints, connect_target, serve};
