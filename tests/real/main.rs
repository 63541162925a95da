//! k8sha against the real software that Debian packages: OpenSSH, sudo, HAProxy, keepalived,
//! cloud-init, netplan, dnsmasq, dig, etcd, containerd, shellcheck; and against kubeadm, built by
//! `tests/kubernetes`.
//!
//!     K8SHA_REAL=1 cargo test --test real -- --ignored --test-threads=1
//!
//! as root, with the packages that `ci/prerequisites.sh` installs. The machine itself is not changed:
//! programs run in their own namespaces, with k8sha's files in the places where a node has them, and
//! end with the test.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail by panicking")]

mod balancers;
mod built;
mod cell;
mod clash;
mod client;
mod configs;
mod containerd;
mod dns;
mod dns_on_node;
mod etcd;
mod etcd_role;
mod failover;
#[path = "../kit/hostile.rs"]
mod hostile;
mod idle;
mod jump;
mod keys;
mod kubeadm;
mod lab;
mod loopback;
mod machine;
mod masters;
mod needs;
mod neighbours;
mod openssh;
mod profiles;
mod reload;
mod routes;
mod scripts;
mod seeds;
mod shell;
mod sshd;
mod standin;
#[path = "../../crates/lab/src/standin.rs"]
#[allow(dead_code, reason = "of the lab, this tier needs the files only")]
mod standin_files;
mod sudo;
mod values;
mod wait;
