//! The simulated network: what a guest meets when it opens a connection or asks for a name, and how clients
//! outside reach the guests.
//!
//! - `reach`: which guest has an address ([`Guests::at`]), and what a connection to an address and a port
//!   meets ([`Guests::dial`]): a [`Reach`]. Load balancers and etcd members are followed here.
//! - `vip`: VRRP. [`Guests::elect`] decides after every change which guest holds a virtual address.
//! - [`lb`]: what haproxy and keepalived read from their files; `reach` and `vip` act on it.
//! - [`dns`]: what the site's name servers answer ([`Guests::ask`]), and how a guest resolves a name
//!   ([`Guests::resolve`]).
//! - `serve`: the sockets: an HTTP CONNECT proxy that leads where `dial` says, and the name servers.
//!
//! All but `serve` only look at the state of [`Guests`] and wait for nothing. Of the guests the network needs
//! their addresses, files and units; it knows nothing of kubeadm or of Proxmox VE.
//!
//! [`Guests`]: super::Guests
//! [`Guests::at`]: super::Guests::at
//! [`Guests::dial`]: super::Guests::dial
//! [`Guests::elect`]: super::Guests::elect
//! [`Guests::ask`]: super::Guests::ask
//! [`Guests::resolve`]: super::Guests::resolve

pub mod dns;
pub mod lb;
mod reach;
mod serve;
mod vip;

pub use reach::Reach;
pub use serve::{EtcdFiles, GuestEndpoints, connect_target, serve};
