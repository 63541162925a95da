//! The profile against what runs: every difference, with what becomes of it. Pure.
//!
//! `plan`, `up`, `status` and `doctor` all show this one list. What runs is the truth: nothing here
//! guesses from what could not be seen.

use std::fmt;
use std::net::Ipv4Addr;

use serde::Serialize;

use super::inventory::{Inventory, Stray, StrayReason, TemplateState};
use super::planner::{Part, Specs};
use super::settings;
use super::spec;
use super::survey::{Api, KubeNode, Seen, StackedMember};
use crate::cluster::{CloneMode, Cluster, Role};

mod machine;
mod place;
mod unwell;

pub use machine::image;
pub(super) use place::storage_of;
pub use unwell::unwell;

/// What becomes of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// `up` changes it now.
    Followed,
    /// Only a new machine will have it; the present one keeps what it has.
    NewMachine,
    /// Nothing follows it.
    NotFollowed,
}

/// Something that is not as the profile asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The node, or what else it is about.
    pub on: String,
    /// The setting, by the profile's name where it has one.
    pub what: String,
    /// What is there.
    pub have: String,
    /// What the profile asks for.
    pub want: String,
    /// What becomes of it.
    pub class: Class,
    /// Whether nothing at all is done while it stands: acting on the rest would do harm.
    pub blocks: bool,
    /// What to do about it.
    pub next: String,
}

impl Difference {
    /// What differs, without what it is about.
    pub fn told(&self) -> String {
        let Self { what, have, want, .. } = self;
        format!("{what} is {have}, the profile asks for {want}")
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
            Class::Followed => "followed now",
            Class::NewMachine => "needs a new machine",
            Class::NotFollowed => "not followed",
        })
    }
}

/// Every difference that `up` does not follow by itself, and those that it does not know how to.
///
/// What `up` makes, starts or joins is in its plan.
pub fn differences(
    cluster: &Cluster,
    specs: &Specs,
    inventory: &Inventory,
    part: &Part,
) -> Vec<Difference> {
    let mut found = Vec::new();
    for node in cluster.nodes.iter().filter(|node| part.covers(&node.host)) {
        if let Some(vm) = inventory.ours(&node.name) {
            found.extend(machine::differences(cluster, specs, node, vm, inventory));
        }
    }
    found.extend(inventory.strays.iter().map(|one| stray(cluster, one)));
    found.extend(templates(cluster, inventory));
    // What another cluster has is none of ours to compare; that it answers is a conflict.
    if !inventory.is_anothers_api() {
        cluster_settings(cluster, inventory, &mut found);
        registered(cluster, inventory, &mut found);
    }
    found
}

/// Templates of ours that the next clone would wait for, or that lie where it should not.
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
                    "one that can be cloned",
                    format!("see what holds it (`pvenode task list --source active`){unlock}"),
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
                         (`templates`), which makes a new one: a linked clone lies where its \
                         template lies"
                    ),
                );
            }
        }
    }
    found
}

/// A VM with our mark that no row takes.
fn stray(cluster: &Cluster, stray: &Stray) -> Difference {
    let Stray { node, why, vm } = stray;
    let where_ = format!("VM {} on {}", vm.vmid, vm.host);
    let (have, want, next) = match why {
        StrayReason::NoRow => (
            format!("{where_}, made as `{node}`"),
            "no such machine".to_owned(),
            format!(
                "put its row back; k8sha does not remove machines yet. To remove it yourself: \
                 `kubectl drain` and `kubectl delete node`, its etcd member if it is a master, then \
                 `qm stop {0} && qm destroy {0}` on {1}",
                vm.vmid, vm.host
            ),
        ),
        StrayReason::Twin => (
            format!("{where_} as well"),
            "one VM".to_owned(),
            format!(
                "two VMs carry the mark of `{node}`: find out which one is right, and remove the other \
                 one or the mark in its description"
            ),
        ),
        StrayReason::OtherCreation => (
            format!("{where_} of another creation (`{}`)", vm.mark.creation),
            "this state folder's own".to_owned(),
            format!(
                "it belongs to a cluster `{}` that another state folder made: run with that folder \
                 (`--state`), or give this cluster another name",
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

/// What `kubeadm init` fixed for the whole cluster.
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
                "set `version: {have}`: k8sha does not upgrade yet. A node that joins now would have \
                 another version than the API servers"
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

/// The Node objects and etcd members, against the table.
fn registered(cluster: &Cluster, inventory: &Inventory, found: &mut Vec<Difference>) {
    let Some(api) = &inventory.survey.api else { return };
    let version = format!("v{}", cluster.kubernetes.version);
    let running = api.settings.get(settings::VERSION);
    for (name, known) in &api.nodes {
        let row = cluster.nodes.iter().find(|node| node.fqdn == *name);
        // Kubelets of the version that the cluster runs are told with the cluster's.
        let told = running.is_some_and(|running| known.kubelet == format!("v{running}"));
        if row.is_some() && known.kubelet != version && !known.kubelet.is_empty() && !told {
            found.push(Difference {
                on: name.clone(),
                what: "kubelet".into(),
                have: known.kubelet.clone(),
                want: version.clone(),
                class: Class::NotFollowed,
                blocks: true,
                next: "bring the node to the cluster's version by hand, or correct `version`: k8sha does \
                       not upgrade yet"
                    .into(),
            });
        }
        if row.is_none() && !is_machine_of_ours(inventory, known) {
            found.push(Difference {
                on: name.clone(),
                what: "Node object".into(),
                have: if known.ready { "Ready" } else { "NotReady" }.into(),
                want: "no such row".into(),
                class: Class::NotFollowed,
                blocks: false,
                next: format!(
                    "if it is not needed: `kubectl delete node {name}`; k8sha leaves it alone"
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
                "no such master",
                format!("if its machine is gone for good: {}", removal(cluster, api, listed)),
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
                    "it was removed, and a removed member does not come back: drain {0}, remove its VM \
                     in Proxmox VE and run `k8sha up`, which makes the machine again",
                    node.name
                ),
            );
        }
    }
}

/// The command that removes a member of a stacked etcd, through the member beside the master that
/// answered. etcdctl is in its image, and kubeadm's files are mounted there (kubernetes
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

/// Whether a Node object was registered by a machine that another line of the list is about.
fn is_machine_of_ours(inventory: &Inventory, known: &KubeNode) -> bool {
    inventory.survey.machines.values().any(|machine| match machine {
        super::survey::Machine::Seen(seen) => {
            !seen.machine_id.is_empty() && seen.machine_id == known.machine_id
        }
        _ => false,
    })
}
