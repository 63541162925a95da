//! k8sha: from bare Proxmox VE hosts to a highly available kubeadm cluster, in one command.
//!
//! The house, and how data flows through it:
//!
//! ```text
//! profile   what a person typed        YAML → a Cluster, or all complaints at once
//! cluster   the validated world        pure
//! run::look what exists                GET requests and read-only commands → an Inventory
//! plan      what will be done          pure: Cluster + Inventory → a Plan, or why there is none
//!             recognise  whose VM is whose row's, by marks
//!             life       whether a cluster lives: `kubeadm init` needs proof that none does
//!             compare    the profile against what runs: one list for plan, up, status and doctor
//! run       doing it                   each step looks, acts, waits, looks
//! report    what people see of it      events while it goes on, a report at its end
//!
//! doctor    what stands in the way     GET requests, DNS, TCP → findings with their fixes
//! routes    blackholes on the hosts    SSH: looks, plans, acts; no other part needs it
//! ```
//!
//! Around them stand the adapters: [`proxmox`] (HTTPS, a crate of its own), [`ssh`], [`dns`],
//! [`kubeadm`] (over SSH) and [`cloudinit`] (documents and the seed ISO); [`pki`] makes certificates.
//! What they all stand on is a crate too: [`clock`], [`limits`], [`retry`], [`secrets`], [`text`].
//! [`cli`] puts the parts together; it alone knows of the simulated Proxmox VE (`crates/simulator`),
//! which is reached at the wire like a real one.
//!
//! What comes in and what goes out has one door each: `files` reads every input file, bounded by its
//! kind; [`report::screen`] and the log print, through [`secrets`], which masks what this run must
//! keep to itself, and [`text`], which escapes what a terminal would obey.
//!
//! Which part may import which is held by `tests/house.rs`.

pub use k8sha_base::{clock, hash, limits, retry, secrets, table, text};
pub use k8sha_proxmox as proxmox;

pub mod cli;
pub mod cloudinit;
pub mod cluster;
pub mod dns;
pub mod doctor;
pub mod error;
pub mod exits;
mod files;
pub mod kubeadm;
pub mod mark;
pub mod net;
pub mod pki;
pub mod plan;
pub mod profile;
pub mod report;
pub mod routes;
pub mod run;
mod settings;
pub mod ssh;
pub mod state;
