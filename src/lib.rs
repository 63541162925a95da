//! k8sha: from bare Proxmox VE hosts to a highly available kubeadm cluster, in one command.

pub mod cluster;
pub mod net;
pub mod profile;
pub mod report;
pub mod sim;
