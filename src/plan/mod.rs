//! What will be done, as data: every choice made, nothing done.
//!
//! [`planner::plan`] is pure: the same cluster and the same [`inventory::Inventory`] give the same
//! [`Plan`], byte for byte. The executor chooses nothing.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cluster::{HostName, NodeName, Role, VmId};

pub mod conflicts;
pub mod display;
pub mod inventory;
pub mod planner;
pub mod premises;
pub mod spec;
pub mod teardown;

/// A job: steps, each with what it needs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// The cluster's name.
    pub cluster: String,
    /// How the Proxmox hosts belong together, as found.
    pub topology: String,
    /// What becomes of each VM.
    pub vms: Vec<VmFate>,
    /// What to do, in an order in which each step comes after what it needs.
    pub steps: Vec<Step>,
    /// Things to know that change nothing about the steps.
    pub notices: Vec<String>,
}

/// What becomes of a VM.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VmFate {
    /// The node's name.
    pub node: NodeName,
    /// Its role.
    pub role: Role,
    /// The host it lives on.
    pub host: HostName,
    /// Its VMID.
    pub vmid: VmId,
    /// What becomes of it.
    #[serde(flatten)]
    pub fate: Fate,
}

/// What becomes of a VM.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "fate", rename_all = "lowercase")]
pub enum Fate {
    /// It is not there and will be.
    Created,
    /// It is as asked.
    Kept,
    /// It is there and these settings will change.
    Changed {
        /// The settings.
        changes: Vec<Change>,
    },
    /// It is there and will be removed.
    Destroyed,
    /// It is not there and stays so.
    Absent,
}

/// One setting that will change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The setting, as Proxmox names it.
    pub key: String,
    /// What it is; empty when unset.
    pub from: String,
    /// What it will be.
    pub to: String,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Names the step in the plan, such as `clone/k8s1master1`.
    pub id: String,
    /// The node or host it is about.
    pub on: String,
    /// What it does.
    pub action: Action,
    /// The ids of the steps that must be done before.
    pub needs: Vec<String>,
}

/// What a step does, with every choice made.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// Ask every name server for every name.
    Dns,
    /// Let a host download a cloud image.
    Image {
        /// The host.
        host: HostName,
        /// The storage that takes it.
        storage: String,
        /// The file's name there.
        file: String,
        /// Where it comes from.
        url: String,
        /// What it must hash to.
        sha256: String,
    },
    /// Make a template of a downloaded image.
    Template {
        /// The host.
        host: HostName,
        /// The template's VMID.
        vmid: VmId,
        /// The operating system's name.
        os: String,
        /// The image's volume id.
        image: String,
        /// The storage of its disk.
        storage: String,
        /// The hash of what it is made from.
        spec: String,
    },
    /// Upload a node's seed ISO.
    Seed {
        /// The node.
        node: NodeName,
        /// The host.
        host: HostName,
        /// The storage that takes it.
        storage: String,
        /// The file's name there.
        file: String,
    },
    /// Clone a template.
    Clone {
        /// The node.
        node: NodeName,
        /// The host that the clone is for.
        host: HostName,
        /// The host that the template lives on; another one only with shared storage.
        home: HostName,
        /// The template.
        source: VmId,
        /// The clone.
        vmid: VmId,
        /// Whether the disk is copied whole.
        full: bool,
        /// The storage of the disk.
        storage: String,
    },
    /// Set a VM's configuration.
    Configure {
        /// The node.
        node: NodeName,
        /// The settings that differ; empty when the VM does not exist yet.
        changes: Vec<Change>,
    },
    /// Grow a VM's disk.
    Grow {
        /// The node.
        node: NodeName,
        /// The size to reach, in GiB.
        to_gib: u32,
    },
    /// Switch a VM on.
    Start {
        /// The node.
        node: NodeName,
    },
    /// Wait until a node is reached with its planted host key, has finished cloud-init and runs
    /// the kernel that was asked for.
    Boot {
        /// The node.
        node: NodeName,
        /// Whether an earlier first boot has failed, so that cloud-init is run again.
        again: bool,
    },
    /// Ask every name server from inside a node.
    NodeDns {
        /// The node.
        node: NodeName,
    },
    /// Bring a load balancer's configuration files up to date, and let their programs read them.
    Balance {
        /// The node.
        node: NodeName,
        /// The files that differ, or all where it could not be asked.
        files: Vec<String>,
    },
    /// See that exactly one load balancer holds the VIP.
    Vip,
    /// Plant the certificates of a member of our etcd.
    EtcdMember {
        /// The node.
        node: NodeName,
    },
    /// See every member of our etcd healthy: form the cluster, or bring lost members back.
    EtcdForm,
    /// Give a master the client certificate of now.
    EtcdClient {
        /// The node.
        node: NodeName,
    },
    /// Copy the etcd files to the first master and prove every member.
    Etcd,
    /// `kubeadm init` on the first master.
    Init,
    /// See that token and certificate key are alive, and renew them if not.
    Keys,
    /// `kubeadm join`.
    Join {
        /// The node.
        node: NodeName,
        /// How many of these joins may run at once, where there is a limit.
        #[serde(skip_serializing_if = "Option::is_none")]
        at_once: Option<usize>,
    },
    /// Label a worker.
    Label {
        /// The node.
        node: NodeName,
    },
    /// Fetch the admin kubeconfig.
    Kubeconfig,
    /// Install the pod network.
    Cni,
    /// See that the cluster is what was asked for.
    Verify,
    /// Remove our keys from an external etcd.
    ForgetEtcd {
        /// Whether a cluster is made on it at once, which needs every member.
        again: bool,
    },
    /// Stop and remove a VM of ours.
    Destroy {
        /// The node.
        node: NodeName,
        /// The host.
        host: HostName,
        /// The VMID.
        vmid: VmId,
    },
    /// Remove a file of ours from a storage.
    RemoveVolume {
        /// The host.
        host: HostName,
        /// The volume id.
        volume: String,
    },
    /// Remove a template of ours.
    RemoveTemplate {
        /// The host.
        host: HostName,
        /// The template's VMID.
        vmid: VmId,
    },
}

impl Action {
    /// Whether it can change something; the others only look.
    pub fn writes(&self) -> bool {
        !matches!(
            self,
            Action::Dns
                | Action::NodeDns { .. }
                | Action::Boot { again: false, .. }
                | Action::Vip
                | Action::Keys
                | Action::Verify
        )
    }

    /// The queue it stands in.
    pub fn queue(&self) -> Option<Queue> {
        match self {
            // Proxmox locks a storage while it allocates there.
            Action::Template { host, storage, .. } | Action::Clone { host, storage, .. } => {
                Some(Queue { name: format!("{host}/{storage}"), length: None })
            }
            Action::Join { at_once: Some(length), .. } => {
                Some(Queue { name: "joins".to_owned(), length: Some(*length) })
            }
            _ => None,
        }
    }
}

/// A queue: of the steps in it only so many are done at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// How many; `None` is what the run is told.
    pub length: Option<usize>,
}

impl Plan {
    /// The steps that change something.
    pub fn writes(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.action.writes())
    }

    /// Whether nothing would be changed.
    pub fn is_settled(&self) -> bool {
        self.writes().next().is_none()
    }

    /// The longest chain of dependent steps: its ids and the sum of its durations in seconds.
    ///
    /// Steps without a duration (they were not run) count as nothing.
    pub fn critical_path(&self, seconds: &BTreeMap<String, f64>) -> (Vec<String>, f64) {
        // Steps come after what they need, so one pass is enough.
        let mut best: BTreeMap<&str, (f64, Option<&str>)> = BTreeMap::new();
        for step in &self.steps {
            let before = step
                .needs
                .iter()
                .filter_map(|id| best.get(id.as_str()).map(|(sum, _)| (*sum, id.as_str())))
                .max_by(|a, b| a.0.total_cmp(&b.0));
            let own = seconds.get(&step.id).copied().unwrap_or_default();
            let (sum, from) = before.map_or((0.0, None), |(sum, id)| (sum, Some(id)));
            best.insert(&step.id, (sum + own, from));
        }
        let last = best.iter().max_by(|a, b| a.1.0.total_cmp(&b.1.0)).map(|(id, _)| *id);
        let total = last.map_or(0.0, |id| best[id].0);
        let mut chain = Vec::new();
        let mut at = last;
        while let Some(id) = at {
            chain.push(id.to_owned());
            at = best[id].1;
        }
        chain.reverse();
        (chain, total)
    }
}
