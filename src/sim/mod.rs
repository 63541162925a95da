//! The embedded Proxmox VE: a simulator at the wire.

pub mod lab;
pub mod pve;
pub mod site;
pub mod store;
pub mod world;
