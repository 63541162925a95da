//! k8sha: from bare Proxmox VE hosts to a highly available kubeadm cluster, in one command.
//!
//! The house, and how data flows through it:
//!
//! ```text
//! profile   what a person typed        YAML → a Cluster, or all complaints at once
//! cluster   the validated world        pure
//! run::look what exists                GET requests and read-only commands → an Inventory
//! plan      what will be done          pure: Cluster + Inventory → a Plan
//! run       doing it                   each step looks, acts, waits, looks
//! report    what people see of it      events while it goes on, a report at its end
//!
//! doctor    what stands in the way     GET requests, DNS, TCP → findings with their fixes
//! routes    blackholes on the hosts    SSH: looks, plans, acts; nobody else needs it
//! ```
//!
//! Around them stand the adapters: [`proxmox`] (HTTPS), [`ssh`], [`dns`], [`kubeadm`] (over SSH) and
//! [`cloudinit`] (documents and the seed ISO); [`pki`] makes certificates. [`cli`] puts the parts together; it alone knows of
//! [`sim`], the simulated Proxmox VE, which is reached at the wire like a real one.
//!
//! Which part may import which is held by `tests/house.rs`.

pub mod cli;
pub mod cloudinit;
pub mod cluster;
pub mod dns;
pub mod doctor;
pub mod error;
mod files;
pub mod kubeadm;
pub mod net;
pub mod pki;
pub mod plan;
pub mod profile;
pub mod proxmox;
pub mod report;
pub mod retry;
pub mod routes;
pub mod run;
mod settings;
pub mod sim;
pub mod ssh;
pub mod state;
pub mod tempo;
