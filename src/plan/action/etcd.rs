//! An external etcd, managed by k8sha or by the user.

use std::fmt;

use serde::Serialize;

use super::Act;
use crate::cluster::NodeName;

/// Copy the certificates to a member of k8sha's etcd.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EtcdMember {
    /// The node.
    pub node: NodeName,
}

impl fmt::Display for EtcdMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("copy etcd's certificates")
    }
}

impl Act for EtcdMember {}

/// Make every member of k8sha's etcd healthy: form the cluster, or restore lost members.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EtcdForm;

impl fmt::Display for EtcdForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("form the etcd cluster, or restore its members")
    }
}

impl Act for EtcdForm {}

/// Copy the current client certificate to a master.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EtcdClient {
    /// The node.
    pub node: NodeName,
}

impl fmt::Display for EtcdClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("renew the API server's etcd certificate")
    }
}

impl Act for EtcdClient {}

/// Copy the etcd files to the master that runs `kubeadm init`, and check every member.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Etcd {
    /// The master.
    pub node: NodeName,
    /// Whether the keys in it belong to an unfinished `kubeadm init` of this cluster that resumes.
    pub resumed: bool,
}

impl fmt::Display for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("copy the etcd files and check every member")
    }
}

impl Act for Etcd {}

/// Remove the cluster's keys from an external etcd.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ForgetEtcd {
    /// Whether a cluster is created on it at once, which requires every member.
    pub again: bool,
}

impl fmt::Display for ForgetEtcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("remove the cluster's keys from etcd")
    }
}

impl Act for ForgetEtcd {}
