//! What exists, as data: the planner's second input. Taken with GET requests and read-only
//! commands only.

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

/// What exists of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Inventory {
    /// The creation id that the state folder knows.
    pub creation: String,
    /// The keys that the state folder did not have when this command began.
    pub new_keys: NewKeys,
    /// How the hosts belong together, as a phrase.
    pub topology: String,
    /// Whether the hosts form one Proxmox VE cluster, with one VMID space.
    pub one_cluster: bool,
    /// What each host holds.
    pub hosts: BTreeMap<HostName, HostState>,
    /// The VM of each row: found by its mark, wherever it is and whatever its VMID.
    pub vms: BTreeMap<NodeName, VmState>,
    /// VMs with this cluster's mark that belong to no row, or to a row that has another VM already.
    pub strays: Vec<Stray>,
    /// Rows whose VMs do not exist and whose addresses answer, and what was seen there.
    pub taken: BTreeMap<NodeName, String>,
    /// The pool of each row's VM, where the profile names one and Proxmox tells.
    pub pools: BTreeMap<NodeName, Option<String>>,
    /// What has changed in the documents of machines since they were made, where that is on record.
    pub documents: BTreeMap<NodeName, Changed>,
    /// What the running nodes say of themselves.
    pub nodes: BTreeMap<NodeName, NodeState>,
    /// The running nodes that did not answer, and what was met instead.
    pub silent: BTreeMap<NodeName, Silent>,
    /// The files of load balancers that are kept up to date and in use, and their SHA-256; nothing of
    /// those that could not be asked.
    pub balancers: BTreeMap<NodeName, BTreeMap<String, String>>,
    /// The members of our etcd on the nodes that could be asked.
    pub etcd: BTreeMap<NodeName, EtcdMember>,
    /// Masters whose etcd client certificate is not the one of now.
    pub etcd_outdated: BTreeSet<NodeName>,
    /// What is known of the Kubernetes cluster.
    pub survey: Survey,
    /// Whether the operator has this cluster's kubeconfig.
    pub kubeconfig: bool,
}

/// What a host holds of ours or of what we need.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct HostState {
    /// The storages that we see.
    pub storages: BTreeSet<String>,
    /// Volume ids on the image storage.
    pub images: BTreeSet<String>,
    /// Volume ids on the ISO storage.
    pub isos: BTreeSet<String>,
    /// The VM on each template's VMID, per operating system.
    pub templates: BTreeMap<String, TemplateState>,
    /// Templates with this cluster's mark on VMIDs that the profile does not name for this host.
    pub unnamed_templates: BTreeSet<VmId>,
    /// The ISO images in the drives of every VM with a k8sha mark, of whatever cluster, by VMID.
    pub attached: BTreeMap<VmId, BTreeSet<String>>,
    /// VMIDs of clones (of whatever cluster) that were made from a template, by the template's VMID.
    pub linked: BTreeMap<VmId, BTreeSet<VmId>>,
    /// What it did not let us see of what new VMs need.
    pub unseen: BTreeSet<Unseen>,
}

/// The VM on a template's VMID.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateState {
    /// None.
    Absent,
    /// One that is being created, or whose making was cut off.
    Underway {
        /// Its VMID.
        vmid: VmId,
        /// The lock that Proxmox holds on it.
        lock: String,
        /// Whether a task makes it.
        making: Making,
        /// Whether nothing is in it yet: it is what Proxmox VE begins a VM with.
        empty: bool,
    },
    /// A template without our mark.
    Theirs {
        /// Its name.
        name: String,
        /// Its settings, as Proxmox prints them.
        settings: BTreeMap<String, String>,
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
        /// Its settings, as Proxmox prints them.
        settings: BTreeMap<String, String>,
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
    /// One that is being cloned or created, or whose making was cut off.
    Underway {
        /// Where it is.
        host: HostName,
        /// Its VMID.
        vmid: VmId,
        /// The lock that Proxmox holds on it.
        lock: String,
        /// Whether a task makes it.
        making: Making,
        /// Whether nothing is in it yet: it is what Proxmox VE begins a VM with.
        empty: bool,
    },
    /// Ours, whichever VMID and host it is on.
    Ours(Box<OurVm>),
}

/// A VM with this cluster's mark that no row takes for its own.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stray {
    /// The node that its mark names.
    pub node: NodeName,
    /// Why no row takes it.
    pub why: StrayReason,
    /// The VM.
    pub vm: OurVm,
}

/// Why no row takes a VM with this cluster's mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StrayReason {
    /// The table has no row of that name.
    NoRow,
    /// Another VM carries the mark of the same node.
    Twin,
    /// It was made by another state folder, or before a rebuild.
    OtherCreation,
}

/// What a VM runs with. New settings of CPU and memory are pending until it is switched off and on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Hardware {
    /// Virtual CPUs, where Proxmox says.
    pub cpus: Option<u64>,
    /// Memory in MiB, where Proxmox says.
    pub memory_mib: Option<u64>,
    /// The settings with a change that waits for the next start: what is in use of each until then,
    /// empty where it is unset.
    pub unapplied: BTreeMap<String, String>,
}

/// A VM with our mark.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OurVm {
    /// Where it is.
    pub host: HostName,
    /// Its VMID.
    pub vmid: VmId,
    /// Its configuration, as Proxmox prints it.
    pub config: BTreeMap<String, String>,
    /// The size of its boot disk in bytes.
    pub disk_bytes: Option<u64>,
    /// What it runs with; `None` where it does not run.
    pub hardware: Option<Hardware>,
    /// The lock that Proxmox holds on it.
    pub lock: Option<String>,
    /// Whether a task makes it, where it carries the lock of a VM in the making.
    pub making: Option<Making>,
    /// What QEMU does instead of running, such as `paused`.
    pub halted: Option<String>,
    /// Its mark.
    pub mark: Mark,
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

/// A node that runs and does not answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Silent {
    /// What was met instead of an answer.
    pub said: String,
    /// The next thing to try, where it is known.
    pub hint: Option<String>,
}

/// A member of our etcd, as its node says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EtcdMember {
    /// Whether it has the certificates that it should have.
    pub planted: bool,
    /// Whether it trusts another authority than the state folder's.
    pub foreign: bool,
    /// Whether it is healthy, which takes a quorum.
    pub healthy: bool,
}

/// What is known of the task that makes a VM which carries the lock of one in the making.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Making {
    /// It runs.
    Runs {
        /// Its id.
        task: String,
    },
    /// None runs: the making was cut off.
    CutOff,
    /// None that we may see runs.
    Unseen,
}

/// Whether a VM is no more than what Proxmox VE begins one with.
pub fn is_empty(config: &VmConfig) -> bool {
    let is_plain = config.get("description").is_none() && config.name().is_none();
    config.is_clone_placeholder() || is_plain
}

impl TemplateState {
    /// What the configuration of the VM on a template's VMID says.
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
    /// A VM of ours as it was found, with its mark.
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

    /// Whether it is switched on, be it that QEMU has halted it.
    pub fn running(&self) -> bool {
        self.hardware.is_some()
    }

    /// Whether its guest runs, so that it can be asked.
    pub fn awake(&self) -> bool {
        self.running() && self.halted.is_none()
    }

    /// The role that it was made for, as far as its mark tells.
    pub fn role(&self) -> Option<Role> {
        if let Some(machine) = &self.mark.machine {
            return Some(machine.role);
        }
        // Marks of former releases have it in the line for people only.
        let line = self.config.get("description")?.lines().next()?;
        Role::parse(line.split(' ').next()?)
    }
}

impl Inventory {
    /// What would be there after everything of ours was removed but for the templates, for the plan of
    /// what is made then.
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

    /// VMs with this cluster's mark that this state folder has not made, each as a phrase.
    pub fn made_elsewhere(&self) -> Vec<String> {
        let rows = self.vms.values().filter_map(|state| match state {
            VmState::Ours(vm) => Some(vm.as_ref()),
            _ => None,
        });
        let all = rows.chain(self.strays.iter().map(|stray| &stray.vm));
        all.filter(|vm| vm.mark.creation != self.creation)
            .map(|vm| format!("VM {} on {} (creation {})", vm.vmid, vm.host, vm.mark.creation))
            .collect()
    }

    /// Whether the API that answers is another cluster's: it has another CA, another `kube-system` or
    /// another mark than ours.
    pub fn is_anothers_api(&self) -> bool {
        let Some(api) = &self.survey.api else { return false };
        let known = self.survey.known.as_ref();
        known.is_some_and(|known| known.ca != api.ca || known.uid != api.uid)
            || api.mark.as_ref().is_some_and(|mark| mark.creation != self.creation)
    }

    /// The VM of a row, where it is ours.
    pub fn ours(&self, node: &NodeName) -> Option<&OurVm> {
        match self.vms.get(node) {
            Some(VmState::Ours(vm)) => Some(vm),
            _ => None,
        }
    }
}
