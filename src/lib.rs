//! k8sha: builds a highly available kubeadm cluster on Proxmox VE hosts, in one command.
//!
//! The modules, and how data flows through them:
//!
//! ```text
//! profile   the YAML file              YAML → a Cluster, or all complaints at once
//! cluster   the validated model        pure
//! run::look what exists                GET requests and read-only commands → an Inventory
//! plan      what will be done          pure: Cluster + Inventory → a Plan, or the reasons to refuse
//!             recognise  matches VMs to rows by their marks
//!             life       whether a cluster exists: `kubeadm init` needs proof that none does
//!             compare    drift from the profile: one list for plan, up, status and doctor
//! run       execution                  each step looks, acts, waits, looks again
//! report    output                     events during the run, a report at the end
//!
//! doctor    prerequisites              GET requests, DNS, TCP → findings with their fixes
//! routes    blackhole routes on hosts  SSH: looks, plans, acts; independent of the other modules
//! ```
//!
//! The adapters are [`proxmox`] (HTTPS, a crate of its own), [`ssh`], [`dns`],
//! [`kubeadm`] (over SSH) and [`cloudinit`] (documents and the seed ISO); `pki` issues certificates.
//! They share another crate: `cause`, [`clock`], `limits`, `retry`, `secrets`, [`text`].
//! [`cli`] connects the modules. Only [`cli`] knows the simulator (`crates/simulator`), which it reaches
//! over the network like a real Proxmox VE host.
//!
//! All input files are read by `files`, with a size limit per kind. All output goes through
//! `report::screen` or the log, which use `secrets` to mask secrets and [`text`] to escape terminal
//! control characters.
//!
//! `tests/house.rs` checks which module may import which.

use k8sha_base::{cause, hash, limits, secrets, table};
pub use k8sha_base::{clock, text};
pub use k8sha_proxmox as proxmox;

pub mod cli;
pub mod cloudinit;
pub mod cluster;
pub mod dns;
mod doctor;
pub mod error;
mod exits;
mod files;
pub mod kubeadm;
pub mod mark;
pub mod net;
mod pki;
pub mod plan;
pub mod profile;
mod report;
mod routes;
mod run;
mod settings;
pub mod ssh;
pub mod state;
