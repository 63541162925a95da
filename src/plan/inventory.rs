//! The existing state, as data: the planner's second input. Collected with GET requests and
//! read-only commands only.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::documents::Changed;
use super::machines::Unseen;
use super::recognise::Found;
use super::survey::Survey;
use crate::cluster::{HostName, NewKeys, NodeName, Role, VmId};
use crate::mark::{Mark, Marked};
use crate::proxmox::is_making;
use crate::proxmox::wire::VmConfig;

/// The existing state of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Inventory {
    /// The creation id in the state folder.
    pub creation: String,
    /// The keys that the state folder did not have when this command began.
    pub new_keys: NewKeys,
    /// How the hosts are clustered, as a phrase.
    pub topology: String,
    /// Whether the hosts form one Proxmox VE cluster, with one VMID space.
    pub one_cluster: bool,
    /// The state of each host.
    pub hosts: BTreeMap<HostName, HostState>,
    /// The VM of each row: found by its mark, on any host and with any VMID.
    pub vms: BTreeMap<NodeName, VmState>,
    /// VMs with this cluster's mark that match no row, or a row that already has another VM.
    pub strays: Vec<Stray>,
    /// Rows whose VMs do not exist but whose addresses answer, and what answered.
    pub taken: BTreeMap<NodeName, String>,
    /// The pool of each row's VM, if the profile sets one and Proxmox VE shows it.
    pub pools: BTreeMap<NodeName, Option<String>>,
    /// Changes in the documents of machines since they were created, if recorded.
    pub documents: BTreeMap<NodeName, Changed>,
    /// The state that the running nodes report.
    pub nodes: BTreeMap<NodeName, NodeState>,
    /// The running nodes that did not answer, and the error.
    pub silent: BTreeMap<NodeName, Silent>,
    /// The files of load balancers that k8sha keeps up to date and that are in use, with their
    /// SHA-256; empty for those that could not be read.
    pub balancers: BTreeMap<NodeName, BTreeMap<String, String>>,
    /// The members of k8sha's etcd on the nodes that answered.
    pub etcd: BTreeMap<NodeName, EtcdMember>,
    /// Masters whose etcd client certificate is not the current one.
    pub etcd_outdated: BTreeSet<NodeName>,
    /// What is known of the Kubernetes cluster.
    pub survey: Survey,
    /// Whether the operator has this cluster's kubeconfig.
    pub kubeconfig: bool,
}

/// The state of a host, limited to k8sha's own objects and what k8sha needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct HostState {
    /// The storages that k8sha can see.
    pub storages: BTreeSet<String>,
    /// Volume ids on the image storage.
    pub images: BTreeSet<String>,
    /// Volume ids on the ISO storage.
    pub isos: BTreeSet<String>,
    /// The VM on each template's VMID, per operating system.
    pub templates: BTreeMap<String, TemplateState>,
    /// Templates with this cluster's mark on VMIDs that the profile does not list for this host.
    pub unnamed_templates: BTreeSet<VmId>,
    /// The ISO images in the drives of every VM with a k8sha mark, of any cluster, by VMID.
    pub attached: BTreeMap<VmId, BTreeSet<String>>,
    /// VMIDs of clones (of any cluster) that were created from a template, by the template's VMID.
    pub linked: BTreeMap<VmId, BTreeSet<VmId>>,
    /// What k8sha could not read of what new VMs need, for lack of privileges.
    pub unseen: BTreeSet<Unseen>,
}

/// The VM on a template's VMID.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateState {
    /// None.
    Absent,
    /// One that is being created, or whose creation was interrupted.
    Underway {
        /// Its VMID.
        vmid: VmId,
        /// The lock that Proxmox holds on it.
        lock: String,
        /// Whether a task is creating it.
        making: Making,
        /// Whether it is still empty: the state in which Proxmox VE begins a VM.
        empty: bool,
    },
    /// A template without k8sha's mark.
    Theirs {
        /// Its name.
        name: String,
        /// Its settings, as Proxmox VE returns them.
        settings: BTreeMap<String, String>,
    },
    /// A VM without k8sha's mark that is not a template.
    Foreign {
        /// Its name.
        name: String,
    },
    /// Created by k8sha.
    Ours {
        /// The cluster that it was created for; others may clone it too.
        cluster: String,
        /// The hash of its sources.
        spec: String,
        /// Whether it has been converted to a template.
        template: bool,
        /// The lock that Proxmox holds on it.
        lock: Option<String>,
        /// Its settings, as Proxmox VE returns them.
        settings: BTreeMap<String, String>,
    },
}

/// The VM on a node's VMID.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VmState {
    /// None.
    Absent,
    /// One without k8sha's mark, or with the mark of another cluster.
    Foreign {
        /// Its host.
        host: HostName,
        /// Its name.
        name: String,
        /// Why it is not this cluster's.
        why: String,
    },
    /// One that is being cloned or created, or whose creation was interrupted.
    Underway {
        /// Its host.
        host: HostName,
        /// Its VMID.
        vmid: VmId,
        /// The lock that Proxmox holds on it.
        lock: String,
        /// Whether a task is creating it.
        making: Making,
        /// Whether it is still empty: the state in which Proxmox VE begins a VM.
        empty: bool,
    },
    /// This cluster's VM, whatever its VMID and host.
    Ours(Box<OurVm>),
}

/// A VM with this cluster's mark that matches no row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stray {
    /// The node that its mark names.
    pub node: NodeName,
    /// Why it matches no row.
    pub why: StrayReason,
    /// The VM.
    pub vm: OurVm,
}

/// Why a VM with this cluster's mark matches no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StrayReason {
    /// The table has no row of that name.
    NoRow,
    /// Another VM has the mark of the same node.
    Twin,
    /// It was created with another state folder, or before a rebuild.
    OtherCreation,
}

/// The hardware of a running VM. Changes of CPU and memory are pending until the VM is stopped and
/// started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Hardware {
    /// Virtual CPUs, if Proxmox VE shows them.
    pub cpus: Option<u64>,
    /// Memory in MiB, if Proxmox VE shows it.
    pub memory_mib: Option<u64>,
    /// The settings with a change that is pending until the next start, with the value in use;
    /// empty if unset.
    pub unapplied: BTreeMap<String, String>,
}

/// A VM with k8sha's mark.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OurVm {
    /// Its host.
    pub host: HostName,
    /// Its VMID.
    pub vmid: VmId,
    /// Its configuration, as Proxmox VE returns it.
    pub config: BTreeMap<String, String>,
    /// The size of its boot disk in bytes.
    pub disk_bytes: Option<u64>,
    /// Its hardware in use; `None` if it is not running.
    pub hardware: Option<Hardware>,
    /// The lock that Proxmox holds on it.
    pub lock: Option<String>,
    /// Whether a task is creating it, if it has the lock of a VM that is being created.
    pub making: Option<Making>,
    /// QEMU's state if it is not running, such as `paused`.
    pub halted: Option<String>,
    /// Its mark.
    pub mark: Mark,
}

/// The state that a running node reports.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NodeState {
    /// Whether its first boot is complete: cloud-init is done and the kernel is the right one.
    pub booted: bool,
    /// Whether its first boot failed: cloud-init has to run again.
    pub failed: bool,
    /// `uname -r`.
    pub kernel: String,
}

/// A running node that does not answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Silent {
    /// The error instead of an answer.
    pub said: String,
    /// The next thing to try, if known.
    pub hint: Option<String>,
}

/// A member of k8sha's etcd, as its node reports it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EtcdMember {
    /// Whether it has the right certificates.
    pub planted: bool,
    /// Whether it trusts a different CA than the state folder's.
    pub foreign: bool,
    /// Whether it is healthy, which requires a quorum.
    pub healthy: bool,
}

/// What is known of the task that is creating a VM, for VMs with such a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Making {
    /// It is running.
    Runs {
        /// Its id.
        task: String,
    },
    /// None is running: the creation was interrupted.
    CutOff,
    /// No task visible to k8sha is running.
    Unseen,
}

/// Whether a VM is still in the state in which Proxmox VE begins one.
pub fn is_empty(config: &VmConfig) -> bool {
    let is_plain = config.get("description").is_none() && config.name().is_none();
    config.is_clone_placeholder() || is_plain
}

impl TemplateState {
    /// Classifies the VM on a template's VMID by its configuration.
    pub fn of(vmid: VmId, config: &VmConfig, making: Option<&Making>) -> Self {
        if let Some(lock) = config.lock().filter(|lock| is_making(lock) && !config.is_template()) {
            let making = making.cloned().unwrap_or(Making::Unseen);
            let (lock, empty) = (lock.to_owned(), is_empty(config));
            return TemplateState::Underway { vmid, lock, making, empty };
        }
        let name = config.name().unwrap_or_default().to_owned();
        match config.mark() {
            Some(mark) if mark.node.is_none() => TemplateState::Ours {
                cluster: mark.cluster,
                spec: mark.spec,
                template: config.is_template(),
                lock: config.lock().map(str::to_owned),
                settings: config.0.clone(),
            },
            _ if config.is_template() => TemplateState::Theirs { name, settings: config.0.clone() },
            _ => TemplateState::Foreign { name },
        }
    }
}

impl TemplateState {
    /// The settings of a template that can be cloned.
    pub fn settings(&self) -> Option<&BTreeMap<String, String>> {
        match self {
            Self::Theirs { settings, .. } | Self::Ours { template: true, settings, .. } => {
                Some(settings)
            }
            _ => None,
        }
    }
}

impl OurVm {
    /// One of k8sha's VMs, as found, with its mark.
    pub fn new(found: Found, mark: Mark) -> Self {
        let Found { host, vmid, running, halted, making, config } = found;
        Self {
            host,
            vmid,
            disk_bytes: config.disk_size(super::spec::DISK),
            hardware: running,
            lock: config.lock().map(str::to_owned),
            making,
            halted,
            mark,
            config: config.0,
        }
    }

    /// Whether it is powered on, even if QEMU has halted it.
    pub fn running(&self) -> bool {
        self.hardware.is_some()
    }

    /// Whether its guest runs, so that k8sha can reach it.
    pub(crate) fn awake(&self) -> bool {
        self.running() && self.halted.is_none()
    }

    /// The role that it was created for, if its mark shows it.
    pub fn role(&self) -> Option<Role> {
        if let Some(machine) = &self.mark.machine {
            return Some(machine.role);
        }
        // Marks of former releases have it only in the line for the user.
        let line = self.config.get("description")?.lines().next()?;
        Role::parse(line.split(' ').next()?)
    }
}

impl Inventory {
    /// The inventory after everything of the cluster except its templates was removed, to plan what
    /// is created next.
    pub fn emptied(&self) -> Self {
        let ours = |state: &VmState| matches!(state, VmState::Ours(_));
        let vms = self.vms.iter().map(|(name, state)| {
            (name.clone(), if ours(state) { VmState::Absent } else { state.clone() })
        });
        Self {
            creation: self.creation.clone(),
            topology: self.topology.clone(),
            one_cluster: self.one_cluster,
            hosts: self.hosts.clone(),
            vms: vms.collect(),
            ..Self::default()
        }
    }

    /// VMs with this cluster's mark that this state folder did not create, each as a phrase.
    pub(crate) fn made_elsewhere(&self) -> Vec<String> {
        let rows = self.vms.values().filter_map(|state| match state {
            VmState::Ours(vm) => Some(vm.as_ref()),
            _ => None,
        });
        let all = rows.chain(self.strays.iter().map(|stray| &stray.vm));
        all.filter(|vm| vm.mark.creation != self.creation)
            .map(|vm| format!("VM {} on {} (creation {})", vm.vmid, vm.host, vm.mark.creation))
            .collect()
    }

    /// Whether the API that answers belongs to another cluster: it has a different CA,
    /// `kube-system` UID or mark.
    pub(crate) fn is_anothers_api(&self) -> bool {
        let Some(api) = &self.survey.api else { return false };
        let known = self.survey.known.as_ref();
        known.is_some_and(|known| known.ca != api.ca || known.uid != api.uid)
            || api.mark.as_ref().is_some_and(|mark| mark.creation != self.creation)
    }

    /// The VM of a row, if k8sha created it.
    pub fn ours(&self, node: &NodeName) -> Option<&OurVm> {
        match self.vms.get(node) {
            Some(VmState::Ours(vm)) => Some(vm),
            _ => None,
        }
    }
}
