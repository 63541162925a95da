//! Compares the profile with what runs: lists every difference and how it is handled. Pure.
//!
//! `plan`, `up`, `status` and `doctor` all show this one list. Only observed state counts: nothing
//! here is inferred from what could not be read.

use std::fmt;
use std::net::Ipv4Addr;

use serde::Serialize;

use super::inventory::{Inventory, Stray, StrayReason, TemplateState};
use super::planner::{Part, Specs};
use super::removal;
use super::settings;
use super::spec;
use super::survey::{Api, KubeNode, Seen, StackedMember};
use crate::cluster::{CloneMode, Cluster, Node, Role};

mod machine;
mod place;
mod unwell;

pub use machine::image;
pub(super) use place::storage_of;
pub use unwell::unwell;

/// How a difference is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// `up` changes it.
    Followed,
    /// Only a new machine gets it; the existing one keeps its value.
    NewMachine,
    /// k8sha does not change it.
    NotFollowed,
}

/// A difference from the profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The node or other object that differs.
    pub on: String,
    /// The setting, by its name in the profile if it has one.
    pub what: String,
    /// The current value.
    pub have: String,
    /// The value in the profile.
    pub want: String,
    /// How it is handled.
    pub class: Class,
    /// Whether it blocks the whole run, because acting on the rest would do harm.
    pub blocks: bool,
    /// What to do about it.
    pub next: String,
}

impl Difference {
    /// The difference, without the object that differs.
    pub fn told(&self) -> String {
        let Self { what, have, want, .. } = self;
        format!("{what} is {have}, should be {want}")
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.on, self.told())
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Class::Followed => "changed by `up`",
            Class::NewMachine => "needs a new machine",
            Class::NotFollowed => "not changed by k8sha",
        })
    }
}

/// Returns every difference that `up` does not resolve by itself, and those that it cannot resolve.
///
/// What `up` creates, starts or joins is in its plan.
pub fn differences(
    cluster: &Cluster,
    specs: &Specs,
    inventory: &Inventory,
    part: &Part,
) -> Vec<Difference> {
    let mut found = Vec::new();
    let replaced = removal::replaced(cluster, inventory, part).map(|it| it.node.clone());
    let stays = |node: &&Node| part.covers(&node.host) && Some(&node.name) != replaced.as_ref();
    for node in cluster.nodes.iter().filter(stays) {
        if let Some(vm) = inventory.ours(&node.name) {
            found.extend(machine::differences(cluster, specs, node, vm, inventory));
        }
    }
    for one in &inventory.strays {
        let removable = one.why == StrayReason::NoRow
            && removal::is_part_of(part)
            && removal::of(cluster, inventory, one).is_ok();
        // The plan removes it.
        if !removable {
            found.push(stray(cluster, inventory, one));
        }
    }
    found.extend(templates(cluster, inventory));
    // An API of another cluster is not compared; that it answers is a conflict.
    if !inventory.is_anothers_api() {
        cluster_settings(cluster, inventory, &mut found);
        registered(cluster, inventory, part, &mut found);
    }
    found
}

/// k8sha's templates that the next clone would wait for, or that are on the wrong storage.
fn templates(cluster: &Cluster, inventory: &Inventory) -> Vec<Difference> {
    let mut found = Vec::new();
    for (host, state) in &inventory.hosts {
        let Some(settings) = cluster.proxmox.hosts.get(host) else { continue };
        for (os, template) in &state.templates {
            let TemplateState::Ours { lock, settings: config, .. } = template else { continue };
            let mut differs = |what: &str, have: &str, want: &str, next: String| {
                let (have, want) = (have.to_owned(), want.to_owned());
                found.push(Difference {
                    on: host.to_string(),
                    what: format!("{what} of {os}"),
                    have,
                    want,
                    class: Class::NotFollowed,
                    blocks: false,
                    next,
                });
            };
            if let Some(lock) = lock {
                let unlock = settings.templates.get(os).map_or(String::new(), |source| {
                    format!("; if nothing does, `qm unlock {}`", source.vmid())
                });
                differs(
                    "the template",
                    &format!("locked ({lock})"),
                    "unlocked",
                    format!(
                        "check what holds the lock (`pvenode task list --source \
                         active`){unlock}"
                    ),
                );
            }
            let on = config.get(spec::DISK).and_then(|disk| place::storage_of(disk));
            if let (Some(on), CloneMode::Linked) = (on, cluster.proxmox.clone)
                && on != settings.storage
            {
                differs(
                    "storage of the template",
                    on,
                    &settings.storage,
                    format!(
                        "set `storage: {on}` on {host} again; or give the template another VMID \
                         (`templates`), and k8sha creates a new one: a linked clone is on the \
                         storage of its template"
                    ),
                );
            }
        }
    }
    found
}

/// A VM with k8sha's mark that matches no row.
fn stray(cluster: &Cluster, inventory: &Inventory, stray: &Stray) -> Difference {
    let Stray { node, why, vm } = stray;
    let where_ = format!("VM {} on {}", vm.vmid, vm.host);
    let (have, want, next) = match why {
        StrayReason::NoRow => (
            format!("{where_}, created as `{node}`"),
            "absent".to_owned(),
            match removal::of(cluster, inventory, stray) {
                Ok(_) => format!(
                    "`k8sha up --prune={node}` drains and removes it; or restore its row in the \
                     profile"
                ),
                Err(why) if vm.role() == Some(Role::Worker) => format!(
                    "restore its row in the profile; or clear the obstacle ({why}) and run `k8sha up \
                     --prune={node}`, which drains and removes it"
                ),
                Err(why) => format!(
                    "restore its row in the profile: {why}. To remove it manually: {}`qm stop {1} && \
                     qm destroy {1}` on {2}",
                    match vm.role() {
                        Some(Role::Master) => {
                            "`kubectl drain` and `kubectl delete node`, remove its etcd member, then "
                        }
                        Some(Role::Etcd) => "remove its etcd member, then ",
                        _ => "",
                    },
                    vm.vmid,
                    vm.host
                ),
            },
        ),
        StrayReason::Twin => (
            format!("{where_} as well"),
            "one VM".to_owned(),
            format!(
                "two VMs have the mark of `{node}`: find out which one is right, and remove the \
                 other one or the mark in its description"
            ),
        ),
        StrayReason::OtherCreation => (
            format!("{where_} of another creation (`{}`)", vm.mark.creation),
            "of this state folder".to_owned(),
            format!(
                "it belongs to a cluster `{}` that was created with another state folder: use that \
                 folder (`--state`), or give this cluster another name",
                cluster.name
            ),
        ),
    };
    Difference {
        on: node.to_string(),
        what: "machine".into(),
        have,
        want,
        class: Class::NotFollowed,
        blocks: true,
        next,
    }
}

/// The settings that `kubeadm init` fixed for the whole cluster.
fn cluster_settings(cluster: &Cluster, inventory: &Inventory, found: &mut Vec<Difference>) {
    let Some(api) = &inventory.survey.api else { return };
    let wanted = settings::wanted(cluster);
    for (what, want) in &wanted {
        let Some(have) = api.settings.get(*what) else { continue };
        if have == want {
            continue;
        }
        let next = match *what {
            settings::VERSION => format!(
                "set `version: {have}`: k8sha does not upgrade yet, and a node that joins now \
                 would have a different version than the API servers"
            ),
            settings::CNI => {
                format!("set it back to {have}: k8sha does not change a pod network yet")
            }
            _ => format!("set it back to {have}, or `k8sha rebuild` for a new cluster"),
        };
        found.push(Difference {
            on: "cluster".into(),
            what: (*what).to_owned(),
            have: have.clone(),
            want: want.clone(),
            class: Class::NotFollowed,
            blocks: true,
            next,
        });
    }
}

/// Compares the Node objects and etcd members with the table.
fn registered(cluster: &Cluster, inventory: &Inventory, part: &Part, found: &mut Vec<Difference>) {
    let Some(api) = &inventory.survey.api else { return };
    let version = format!("v{}", cluster.kubernetes.version);
    let running = api.settings.get(settings::VERSION);
    // The plan deletes these.
    let leaving: Vec<String> = removal::planned(cluster, inventory, part)
        .into_iter()
        .filter_map(|it| Some(it.object?.name))
        .collect();
    for (name, known) in &api.nodes {
        let row = cluster.nodes.iter().find(|node| node.fqdn == *name);
        // Kubelets of the version that the cluster runs are covered by the cluster's difference.
        let told = running.is_some_and(|running| known.kubelet == format!("v{running}"));
        if row.is_some() && known.kubelet != version && !known.kubelet.is_empty() && !told {
            found.push(Difference {
                on: name.clone(),
                what: "kubelet".into(),
                have: known.kubelet.clone(),
                want: version.clone(),
                class: Class::NotFollowed,
                blocks: true,
                next: "upgrade the node to the cluster's version manually, or correct `version`: \
                       k8sha does not upgrade yet"
                    .into(),
            });
        }
        if row.is_none() && !leaving.contains(name) && !is_machine_of_ours(inventory, known) {
            found.push(Difference {
                on: name.clone(),
                what: "Node object".into(),
                have: if known.ready { "Ready" } else { "NotReady" }.into(),
                want: "absent".into(),
                class: Class::NotFollowed,
                blocks: false,
                next: format!(
                    "if it is not needed: `kubectl delete node {name}`; k8sha does not remove it"
                ),
            });
        }
    }
    let addresses: Vec<Ipv4Addr> = cluster.with_role(Role::Master).map(|node| node.ip).collect();
    let mut member = |have: String, want: &str, next: String| {
        found.push(Difference {
            on: "etcd".into(),
            what: "member".into(),
            have,
            want: want.into(),
            class: Class::NotFollowed,
            blocks: false,
            next,
        });
    };
    for listed in &api.members {
        let known = listed.address.parse().is_ok_and(|at| addresses.contains(&at));
        let moved = inventory.strays.iter().any(|stray| {
            let made = stray.vm.mark.machine.as_ref();
            made.is_some_and(|made| made.address.to_string() == listed.address)
        });
        if !known && !moved {
            member(
                format!("{} at {}", listed.name, listed.address),
                "absent",
                format!("if its machine is permanently lost: {}", removal(cluster, api, listed)),
            );
        }
    }
    for node in cluster.with_role(Role::Master) {
        let serves = inventory.survey.seen(&node.name).is_some_and(Seen::has_control_plane);
        let listed = api.members.iter().any(|one| one.address == node.ip.to_string());
        if serves && !listed && !api.members.is_empty() && api.nodes.contains_key(&node.fqdn) {
            member(
                format!("none at {} ({})", node.ip, node.name),
                "one on each master",
                format!(
                    "it was removed, and a removed member does not rejoin: drain {0}, remove its \
                     VM in Proxmox VE and run `k8sha up`, which recreates the VM",
                    node.name
                ),
            );
        }
    }
}

/// The command that removes a member of a stacked etcd, run in the etcd Pod of the master that
/// answered. The image contains etcdctl, and kubeadm's files are mounted there (kubernetes
/// cmd/kubeadm/app/phases/etcd/local.go, `GetEtcdPodSpec`).
pub(super) fn removal(cluster: &Cluster, api: &Api, member: &StackedMember) -> String {
    let pki = "/etc/kubernetes/pki/etcd";
    let via = cluster.nodes.iter().find(|node| node.name.as_str() == api.via);
    format!(
        "`kubectl -n kube-system exec etcd-{} -- etcdctl --endpoints https://127.0.0.1:2379 --cacert \
         {pki}/ca.crt --cert {pki}/healthcheck-client.crt --key {pki}/healthcheck-client.key member \
         remove {}`",
        via.map_or(api.via.as_str(), |node| node.fqdn.as_str()),
        member.id
    )
}

/// Whether a Node object was registered by a machine that another difference already covers.
fn is_machine_of_ours(inventory: &Inventory, known: &KubeNode) -> bool {
    inventory.survey.machines.values().any(|machine| match machine {
        super::survey::Machine::Seen(seen) => {
            !seen.machine_id.is_empty() && seen.machine_id == known.machine_id
        }
        _ => false,
    })
}
