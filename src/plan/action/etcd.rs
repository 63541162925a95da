//! An etcd beside the masters, ours or another's.

use std::fmt;

use serde::Serialize;

use super::Act;
use crate::cluster::NodeName;

/// Plant the certificates of a member of our etcd.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EtcdMember {
    /// The node.
    pub node: NodeName,
}

impl fmt::Display for EtcdMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("plant etcd's certificates")
    }
}

impl Act for EtcdMember {}

/// See every member of our etcd healthy: form the cluster, or bring lost members back.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EtcdForm;

impl fmt::Display for EtcdForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("form the etcd cluster, or bring its members back")
    }
}

impl Act for EtcdForm {}

/// Give a master the client certificate of now.
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

/// Copy the etcd files to the master that runs `kubeadm init`, and prove every member.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Etcd {
    /// The master.
    pub node: NodeName,
    /// Whether our own keys in it are those of an unfinished `kubeadm init` that goes on.
    pub resumed: bool,
}

impl fmt::Display for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("copy the etcd files and prove every member")
    }
}

impl Act for Etcd {}

/// Remove our keys from an external etcd.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ForgetEtcd {
    /// Whether a cluster is made on it at once, which needs every member.
    pub again: bool,
}

impl fmt::Display for ForgetEtcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("remove our keys from etcd")
    }
}

impl Act for ForgetEtcd {}
