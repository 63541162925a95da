//! The whole job on real machines: system containers behind the simulated Proxmox VE.
//!
//!     K8SHA_REAL=1 cargo test -p k8sha-lab --test machines -- --ignored --test-threads=1
//!
//! as root, with the packages that `ci/prerequisites.sh` installs. The first run builds a root file
//! system from Debian packages and keeps it in /var/cache/k8sha.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail by panicking")]

mod boots;
mod life;
mod site;
