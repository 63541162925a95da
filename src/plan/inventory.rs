//! What exists, as data: the planner's second input. Taken with GET requests and read-only
//! commands only.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::cluster::{Cluster, HostName, Node, NodeName, VmId};
use crate::proxmox::Mark;
use crate::proxmox::wire::VmConfig;

/// What exists of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Inventory {
    /// How the hosts belong together, as a phrase.
    pub topology: String,
    /// Whether the hosts form one Proxmox VE cluster, with one VMID space.
    pub one_cluster: bool,
    /// What each host holds.
    pub hosts: BTreeMap<HostName, HostState>,
    /// The VM on each node's VMID.
    pub vms: BTreeMap<NodeName, VmState>,
    /// What the running nodes say of themselves.
    pub nodes: BTreeMap<NodeName, NodeState>,
    /// The files of load balancers that are kept up to date and in use, and their SHA-256; nothing of
    /// those that could not be asked.
    pub balancers: BTreeMap<NodeName, BTreeMap<String, String>>,
    /// The members of our etcd on the nodes that could be asked.
    pub etcd: BTreeMap<NodeName, EtcdMember>,
    /// Masters whose etcd client certificate is not the one of now.
    pub etcd_outdated: BTreeSet<NodeName>,
    /// The Kubernetes cluster, if the first master has one.
    pub kubernetes: Option<KubernetesState>,
    /// Whether the operator has this cluster's kubeconfig.
    pub kubeconfig: bool,
}

/// What a host holds of ours or of what we need.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct HostState {
    /// Volume ids on the image storage.
    pub images: BTreeSet<String>,
    /// Volume ids on the ISO storage.
    pub isos: BTreeSet<String>,
    /// The VM on each template's VMID, per operating system.
    pub templates: BTreeMap<String, TemplateState>,
    /// VMIDs of clones (ours or others') whose disks hang on a template, by the template's VMID.
    pub linked: BTreeMap<VmId, BTreeSet<VmId>>,
}

/// The VM on a template's VMID.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateState {
    /// None.
    Absent,
    /// A template without our mark.
    Theirs {
        /// Its name.
        name: String,
    },
    /// A VM without our mark that is no template.
    Foreign {
        /// Its name.
        name: String,
    },
    /// Ours.
    Ours {
        /// The cluster that it was made for; others may clone it too.
        cluster: String,
        /// The hash of what it was made from.
        spec: String,
        /// Whether it has been made a template already.
        template: bool,
        /// The lock that Proxmox holds on it.
        lock: Option<String>,
    },
}

/// The VM on a node's VMID.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VmState {
    /// None.
    Absent,
    /// One without our mark, or with the mark of another cluster.
    Foreign {
        /// Where it is.
        host: HostName,
        /// Its name.
        name: String,
        /// Why it is not ours.
        why: String,
    },
    /// Ours.
    Ours(Box<OurVm>),
}

/// A VM with our mark.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct OurVm {
    /// Where it is.
    pub host: String,
    /// Its configuration, as Proxmox prints it.
    pub config: BTreeMap<String, String>,
    /// The size of its boot disk in bytes.
    pub disk_bytes: Option<u64>,
    /// Whether it runs.
    pub running: bool,
    /// The lock that Proxmox holds on it.
    pub lock: Option<String>,
    /// The creation id in its mark.
    pub creation: String,
    /// The spec hash in its mark.
    pub spec: String,
}

/// What a running node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NodeState {
    /// Whether it has finished its first boot: cloud-init is done and the kernel is right.
    pub booted: bool,
    /// Whether its first boot has ended in an error: cloud-init has to run again.
    pub failed: bool,
    /// `uname -r`.
    pub kernel: String,
}

/// A member of our etcd, as its node says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EtcdMember {
    /// Whether it has the certificates that it should have.
    pub planted: bool,
    /// Whether it is healthy, which takes a quorum.
    pub healthy: bool,
}

/// The Kubernetes cluster that the first master has.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct KubernetesState {
    /// Whether `kubeadm init` has run to its end.
    pub initialised: bool,
    /// Registered nodes by their names in Kubernetes.
    pub nodes: BTreeMap<String, KubeNode>,
}

/// A node as the API server lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KubeNode {
    /// Its roles, such as `control-plane`.
    pub roles: BTreeSet<String>,
    /// Whether it is Ready.
    pub ready: bool,
}

impl TemplateState {
    /// What the configuration of the VM on a template's VMID says.
    pub fn of(config: &VmConfig) -> Self {
        let name = config.name().unwrap_or_default().to_owned();
        match config.mark() {
            Some(mark) if mark.node.is_none() => TemplateState::Ours {
                cluster: mark.cluster,
                spec: mark.spec,
                template: config.is_template(),
                lock: config.lock().map(str::to_owned),
            },
            _ if config.is_template() => TemplateState::Theirs { name },
            _ => TemplateState::Foreign { name },
        }
    }
}

/// The mark of the VM on a node's VMID.
///
/// # Errors
/// Why the VM is not that node's.
pub fn own_mark(cluster: &Cluster, node: &Node, config: &VmConfig) -> Result<Mark, String> {
    match config.mark() {
        None => Err("it does not carry our mark".to_owned()),
        Some(mark) if mark.cluster != cluster.name => {
            Err(format!("it belongs to the cluster `{}`", mark.cluster))
        }
        Some(mark) if mark.node.as_ref() != Some(&node.name) => {
            let other = mark.node.map_or("a template".to_owned(), |node| format!("`{node}`"));
            Err(format!("its mark says that it is {other} of this cluster"))
        }
        Some(mark) => Ok(mark),
    }
}

impl OurVm {
    /// A VM of ours as its configuration has it.
    pub fn new(host: &HostName, mark: Mark, config: VmConfig, running: bool) -> Self {
        Self {
            host: host.to_string(),
            disk_bytes: config.disk_size(super::spec::DISK),
            running,
            lock: config.lock().map(str::to_owned),
            creation: mark.creation,
            spec: mark.spec,
            config: config.0,
        }
    }
}
