//! kubeadm: what it is told.

pub mod config;
