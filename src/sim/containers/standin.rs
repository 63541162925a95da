//! Stand-ins of kubeadm, kubelet and kubectl (written by another branch).

/// Path in the guest, mode, content.
pub const FILES: &[(&str, u32, &str)] = &[];
