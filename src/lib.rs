//! k8sha: from bare Proxmox VE hosts to a highly available kubeadm cluster, in one command.

pub mod cluster;
pub mod dns;
pub mod kubeadm;
pub mod net;
pub mod report;
pub mod sim;
pub mod ssh;
pub mod tempo;
