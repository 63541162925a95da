//! The plan as data: every choice made, nothing executed.
//!
//! [`planner::plan`] is pure: the same cluster and the same [`inventory::Inventory`] give the same
//! [`Plan`], byte for byte. The executor chooses nothing.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use compare::{Class, Difference};

pub(crate) use action::Action;

use crate::cluster::{HostName, NodeName, Role, VmId};

pub(crate) mod action;
pub(crate) mod card;
pub(crate) mod compare;
pub(crate) mod conflicts;
pub(crate) mod display;
pub(crate) mod documents;
mod draft;
pub(crate) mod first_start;
pub(crate) mod halt;
pub mod inventory;
pub(crate) mod length;
pub(crate) mod life;
pub(crate) mod machines;
pub mod planner;
pub(crate) mod prerequisites;
pub(crate) mod queue;
pub(crate) mod recognise;
pub(crate) mod removal;
pub(crate) mod settings;
pub mod spec;
pub(crate) mod survey;
pub(crate) mod teardown;
pub(crate) mod template;
pub(crate) mod times;

/// A plan: steps, each with its needs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// The cluster's name.
    pub cluster: String,
    /// How the Proxmox VE hosts are clustered, as found.
    pub topology: String,
    /// What happens to each VM.
    pub vms: Vec<PlannedVm>,
    /// What to do, in an order in which each step comes after its needs.
    pub steps: Vec<Step>,
    /// Notices that do not affect the steps.
    pub notices: Vec<String>,
    /// Differences from the profile that no step resolves.
    pub differences: Vec<Difference>,
    /// What does not work right now; the run waits for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unwell: Vec<Difference>,
    /// Why k8sha has to look again after these steps, before it can plan the rest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub look_again: Vec<String>,
}

/// A VM of the plan: where it is, and what happens to it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlannedVm {
    /// The node's name.
    pub node: NodeName,
    /// Its role.
    pub role: Role,
    /// Its host.
    pub host: HostName,
    /// Its VMID.
    pub vmid: VmId,
    /// What happens to it.
    #[serde(flatten)]
    pub disposition: Disposition,
}

/// What happens to a VM.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "disposition", rename_all = "lowercase")]
pub enum Disposition {
    /// It does not exist and will be created.
    Created,
    /// It matches the profile.
    Kept,
    /// It matches the profile but is off, and will be started.
    Started,
    /// It exists and these settings will change.
    Changed {
        /// The settings.
        changes: Vec<Change>,
    },
    /// It exists and will be removed.
    Destroyed,
    /// It does not exist and will not be created.
    Absent,
}

/// One setting that will change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The setting, as Proxmox names it.
    pub key: String,
    /// The current value; empty if unset.
    pub from: String,
    /// The new value.
    pub to: String,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Identifies the step in the plan, such as `clone/k8s1master1`.
    pub id: String,
    /// The node or host it is about.
    pub on: String,
    /// What it does.
    pub action: Action,
    /// The ids of the steps that must be done before.
    pub needs: Vec<String>,
}

/// A seed ISO on a storage.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct StoredSeed {
    /// The host that sees the storage.
    pub host: HostName,
    /// The volume id.
    pub volume: String,
}

impl fmt::Display for StoredSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.volume)
    }
}

impl Step {
    /// Whether it can change something; the others are read-only.
    pub fn writes(&self) -> bool {
        self.action.act().writes()
    }
}

impl Plan {
    /// The steps that change something.
    pub fn writes(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.writes())
    }

    /// All differences from the profile: what the steps change, then what they do not.
    pub(crate) fn all_differences(&self) -> Vec<Difference> {
        let follow = |on: &str, what: String, have: String, want: String| Difference {
            on: on.to_owned(),
            what,
            have,
            want,
            class: Class::Followed,
            blocks: false,
            next: "`k8sha up`".to_owned(),
        };
        let leaving = self.vms.iter().filter(|vm| vm.disposition == Disposition::Destroyed);
        let leaving: Vec<&str> = leaving.map(|vm| vm.node.as_str()).collect();
        let mut all = Vec::new();
        for vm in &self.vms {
            let name = vm.node.as_str();
            match &vm.disposition {
                Disposition::Created => {
                    all.push(follow(name, "VM".into(), "absent".into(), "present".into()));
                }
                Disposition::Destroyed => {
                    let have = format!("VM {} on {}", vm.vmid, vm.host);
                    all.push(Difference {
                        // `up` without the names asks for them, on a terminal only.
                        next: format!(
                            "to drain and remove it with its disk: `k8sha up --prune={}`; otherwise \
                             restore its row in the profile",
                            leaving.join(",")
                        ),
                        ..follow(name, "machine".into(), have, "absent".into())
                    });
                }
                // The mark in the notes changes with the other settings.
                Disposition::Changed { changes } => all.extend(
                    changes
                        .iter()
                        .filter(|change| changes.len() == 1 || change.key != "description")
                        .map(|change| {
                            let Change { key, from, to } = change.clone();
                            follow(name, key, from, to)
                        }),
                ),
                Disposition::Kept | Disposition::Started | Disposition::Absent => {}
            }
        }
        let told = |on: &str| all.iter().any(|one| one.on == on);
        let steps: Vec<Difference> = self
            .writes()
            .filter(|step| !told(&step.on))
            .map(|step| follow(&step.on, step.action.to_string(), "pending".into(), "done".into()))
            .collect();
        all.extend(steps);
        all.extend(self.differences.iter().cloned());
        all.extend(self.unwell.iter().cloned());
        all
    }

    /// The master through which the cluster is read at the end.
    pub fn via(&self) -> Option<&NodeName> {
        self.steps.iter().find_map(|step| match &step.action {
            Action::Verify(verify) => Some(&verify.via),
            _ => None,
        })
    }

    /// Whether nothing would be changed and nothing is waited for: a machine that was not reached
    /// does not match the profile, whatever its state.
    pub(crate) fn is_settled(&self) -> bool {
        let waits = |step: &Step| matches!(step.action, Action::Boot(_));
        self.look_again.is_empty() && !self.steps.iter().any(|step| step.writes() || waits(step))
    }

    /// The longest chain of dependent steps: its ids and the sum of its durations in seconds.
    ///
    /// Steps without a duration (they did not run) count as zero.
    pub(crate) fn critical_path(&self, seconds: &BTreeMap<String, f64>) -> (Vec<String>, f64) {
        // Steps come after their needs, so one pass is enough.
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
