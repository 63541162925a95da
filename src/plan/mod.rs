//! What will be done, as data: every choice made, nothing done.
//!
//! [`planner::plan`] is pure: the same cluster and the same [`inventory::Inventory`] give the same
//! [`Plan`], byte for byte. The executor chooses nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde::Serialize;

use compare::{Class, Difference};

use crate::cluster::{HostName, NodeName, Role, VmId};

pub mod card;
pub mod compare;
pub mod conflicts;
pub mod display;
pub mod documents;
mod draft;
pub mod first_start;
pub mod halt;
pub mod id;
pub mod inventory;
pub mod life;
pub mod machines;
pub mod planner;
pub mod prerequisites;
pub mod queue;
pub mod recognise;
pub mod settings;
pub mod spec;
pub mod survey;
pub mod teardown;
pub mod template;

/// A job: steps, each with what it needs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// The cluster's name.
    pub cluster: String,
    /// How the Proxmox hosts belong together, as found.
    pub topology: String,
    /// What becomes of each VM.
    pub vms: Vec<PlannedVm>,
    /// What to do, in an order in which each step comes after what it needs.
    pub steps: Vec<Step>,
    /// Things to know that change nothing about the steps.
    pub notices: Vec<String>,
    /// Where what runs is not as the profile asks, and no step changes that.
    pub differences: Vec<Difference>,
    /// What does not work right now; the run waits for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unwell: Vec<Difference>,
    /// Why it has to be looked again after these steps, before the rest can be planned.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub look_again: Vec<String>,
}

/// A VM of the plan: where it is, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlannedVm {
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
    pub disposition: Disposition,
}

/// What becomes of a VM.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "disposition", rename_all = "lowercase")]
pub enum Disposition {
    /// It is not there and will be.
    Created,
    /// It is as asked.
    Kept,
    /// It is as asked but for being off, and will be switched on.
    Started,
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
        /// The operating system's name.
        os: String,
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
        /// The size that its disk is grown to, in GiB, so that its clones need not grow theirs.
        disk_gib: Option<u32>,
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
    /// Take the seed out of the drive of a machine that has booted, and delete its file: it
    /// holds the private host key of the machine.
    Eject {
        /// The node.
        node: NodeName,
        /// Every file that is or may be a seed of the machine.
        seeds: BTreeSet<StoredSeed>,
    },
    /// Delete a seed of this creation whose node has no row any more.
    DeleteSeed {
        /// The seed.
        seed: StoredSeed,
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
    /// Copy the etcd files to the master that runs `kubeadm init`, and prove every member.
    Etcd {
        /// The master.
        node: NodeName,
        /// Whether our own keys in it are those of an unfinished `kubeadm init` that goes on.
        resumed: bool,
    },
    /// `kubeadm init`.
    Init {
        /// The master: nothing lives, and everything that could tell was asked.
        node: NodeName,
        /// Whether it goes on with what an earlier run of it there has left.
        resumed: bool,
    },
    /// Record which cluster this is, in the state folder and inside the cluster.
    Mark {
        /// The master through which.
        via: NodeName,
        /// The pod network that is installed by now.
        cni: Option<String>,
    },
    /// Make the cluster forget a machine that is gone: its etcd member and its Node object.
    Forget {
        /// The node whose machine it was.
        node: NodeName,
        /// The master through which.
        via: NodeName,
        /// The name of its Node object.
        name: String,
        /// Its machine id in that object; empty where it has none.
        machine_id: String,
        /// The addresses at which its member of a stacked etcd may be listed.
        members: Vec<Ipv4Addr>,
        /// Why it counts as gone.
        reason: String,
    },
    /// `kubeadm reset` of what our own unfinished join has left.
    Reset {
        /// The node.
        node: NodeName,
        /// The master through which the cluster is asked whether it serves it.
        via: NodeName,
        /// Why.
        reason: String,
    },
    /// See that token and certificate key are alive, and renew them if not.
    Keys {
        /// The master through which.
        via: NodeName,
    },
    /// `kubeadm join`.
    Join {
        /// The node.
        node: NodeName,
        /// The master through which.
        via: NodeName,
        /// How many of these joins may run at once, where there is a limit.
        #[serde(skip_serializing_if = "Option::is_none")]
        at_once: Option<usize>,
    },
    /// Label a worker.
    Label {
        /// The node.
        node: NodeName,
        /// The master through which.
        via: NodeName,
    },
    /// Fetch the admin kubeconfig.
    Kubeconfig {
        /// The master from which.
        via: NodeName,
    },
    /// Install the pod network.
    Cni {
        /// The master through which.
        via: NodeName,
    },
    /// See that the cluster is what was asked for.
    Verify {
        /// The master through which.
        via: NodeName,
    },
    /// Remove our keys from an external etcd.
    ForgetEtcd {
        /// Whether a cluster is made on it at once, which needs every member.
        again: bool,
    },
    /// Stop and remove a VM of ours.
    Destroy {
        /// The node that its mark names.
        node: NodeName,
        /// The host.
        host: HostName,
        /// The VMID.
        vmid: VmId,
        /// The creation id in its mark.
        creation: String,
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

/// A seed ISO on a storage.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct StoredSeed {
    /// The host that sees the storage.
    pub host: HostName,
    /// The volume id.
    pub volume: String,
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
                | Action::Keys { .. }
                | Action::Verify { .. }
        )
    }
}

impl Plan {
    /// The steps that change something.
    pub fn writes(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.action.writes())
    }

    /// Everything that is not as the profile asks: what the steps change, then what they do not.
    pub fn all_differences(&self) -> Vec<Difference> {
        let follow = |on: &str, what: String, have: String, want: String| Difference {
            on: on.to_owned(),
            what,
            have,
            want,
            class: Class::Followed,
            blocks: false,
            next: "`k8sha up`".to_owned(),
        };
        let mut all = Vec::new();
        for vm in &self.vms {
            let name = vm.node.as_str();
            match &vm.disposition {
                Disposition::Created => {
                    all.push(follow(name, "its VM".into(), "absent".into(), "one".into()));
                }
                // The mark in the notes follows whatever else is changed.
                Disposition::Changed { changes } => all.extend(
                    changes
                        .iter()
                        .filter(|change| changes.len() == 1 || change.key != "description")
                        .map(|change| {
                            let Change { key, from, to } = change.clone();
                            follow(name, key, from, to)
                        }),
                ),
                Disposition::Kept
                | Disposition::Started
                | Disposition::Destroyed
                | Disposition::Absent => {}
            }
        }
        let told = |on: &str| all.iter().any(|one| one.on == on);
        let steps: Vec<Difference> = self
            .writes()
            .filter(|step| !told(&step.on))
            .map(|step| follow(&step.on, step.action.to_string(), "due".into(), "it".into()))
            .collect();
        all.extend(steps);
        all.extend(self.differences.iter().cloned());
        all.extend(self.unwell.iter().cloned());
        all
    }

    /// The master through which the cluster is seen at the end.
    pub fn via(&self) -> Option<&NodeName> {
        self.steps.iter().find_map(|step| match &step.action {
            Action::Verify { via } => Some(via),
            _ => None,
        })
    }

    /// Whether nothing would be changed, and nothing is waited for: a machine that was not reached is
    /// not as asked, whatever it is.
    pub fn is_settled(&self) -> bool {
        let waits = |step: &Step| matches!(step.action, Action::Boot { .. });
        self.look_again.is_empty()
            && !self.steps.iter().any(|step| step.action.writes() || waits(step))
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
