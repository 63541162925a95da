//! What stands in the way of a plan: things that are not ours, or not where the profile has them.

use super::inventory::{Inventory, TemplateState, VmState};
use super::planner::{Part, Specs};
use super::spec;
use crate::cluster::{Cluster, HostName, TemplateSource};

/// Why nothing may be planned: something that is not ours stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The node or host.
    pub on: String,
    /// What stands in the way.
    pub text: String,
    /// What to do about it.
    pub hint: String,
}

/// All that stands in the way.
pub(super) fn conflicts(
    cluster: &Cluster,
    specs: &Specs,
    inventory: &Inventory,
    part: &Part,
) -> Vec<Conflict> {
    let mut found = Vec::new();
    for node in cluster.nodes.iter().filter(|node| part.covers(&node.host)) {
        match inventory.vms.get(&node.name) {
            Some(VmState::Foreign { host, name, why }) => found.push(Conflict {
                on: node.name.to_string(),
                text: format!("VM {} on {host} is `{name}`, which is not ours: {why}", node.vmid),
                hint: format!(
                    "give {} another `vmid` in the profile, or move that VM away; k8sha never \
                     touches it",
                    node.name
                ),
            }),
            Some(VmState::Ours(vm)) if vm.host != node.host.0 => found.push(Conflict {
                on: node.name.to_string(),
                text: format!(
                    "VM {} is on {}, the profile wants it on {}",
                    node.vmid, vm.host, node.host
                ),
                hint: format!(
                    "migrate it (`qm migrate {} {}` on {}) or change `pve` in the profile",
                    node.vmid, node.host, vm.host
                ),
            }),
            Some(VmState::Ours(vm)) if vm.creation != specs[&node.name].mark.creation => {
                found.push(Conflict {
                    on: node.name.to_string(),
                    text: format!(
                        "VM {} carries our mark, but of another creation (`{}`, this state folder \
                         knows `{}`): its SSH host key is not known here",
                        node.vmid, vm.creation, specs[&node.name].mark.creation
                    ),
                    hint: "run from the machine (or with the `--state` folder) that made it, or \
                           `k8sha rebuild`"
                        .to_owned(),
                });
            }
            Some(VmState::Ours(vm)) if vm.lock.is_some() => found.push(Conflict {
                on: node.name.to_string(),
                text: format!(
                    "VM {} is locked ({}) and no task of ours is at work on it",
                    node.vmid,
                    vm.lock.as_deref().unwrap_or_default()
                ),
                hint: format!(
                    "see what holds it in the task list of {}; if nothing does, `qm unlock {}` \
                     there and run again",
                    node.host, node.vmid
                ),
            }),
            Some(VmState::Ours(vm)) if vm.disk_bytes.is_none() => found.push(Conflict {
                on: node.name.to_string(),
                text: format!(
                    "VM {} has no disk `{}`: somebody has detached it",
                    node.vmid,
                    spec::DISK
                ),
                hint: "attach it again, or `k8sha rebuild` makes the machine anew".to_owned(),
            }),
            Some(VmState::Ours(vm)) if part.bootstrap && !part.provision && !vm.running => {
                found.push(Conflict {
                    on: node.name.to_string(),
                    text: format!("VM {} does not run", node.vmid),
                    hint: "`k8sha provision` starts it".to_owned(),
                });
            }
            Some(VmState::Absent) | None if part.bootstrap && !part.provision => {
                found.push(Conflict {
                    on: node.name.to_string(),
                    text: format!("VM {} does not exist", node.vmid),
                    hint: "`k8sha provision` makes it".to_owned(),
                });
            }
            _ => {}
        }
    }
    if !part.provision {
        return found;
    }
    for (host, state) in inventory.hosts.iter().filter(|(host, _)| part.covers(host)) {
        for (os, template) in &state.templates {
            let Some(source) = cluster.proxmox.hosts[host].templates.get(os) else { continue };
            let problem = match (source, template) {
                (TemplateSource::Ours(_), TemplateState::Foreign { name })
                | (TemplateSource::Ours(_), TemplateState::Theirs { name }) => Some((
                    format!("is `{name}`, which does not carry our mark"),
                    "give the template another VMID in the profile, or say `mine: true` to clone \
                     that one as it is",
                )),
                (TemplateSource::Theirs(_), TemplateState::Absent) => Some((
                    "does not exist".to_owned(),
                    "make that template, or leave out `mine: true` and k8sha makes one",
                )),
                (TemplateSource::Theirs(_), TemplateState::Foreign { name }) => Some((
                    format!("is `{name}`, which is no template"),
                    "convert it (`qm template`), or name another VMID",
                )),
                (TemplateSource::Ours(_), TemplateState::Ours { spec, .. })
                    if *spec != template_spec(cluster, os)
                        && needs_template(cluster, inventory, part, host, os) =>
                {
                    Some((
                        format!("was made from another image (spec {spec})"),
                        "give the new template another VMID in the profile, or `k8sha destroy` \
                         removes the old one with its cluster",
                    ))
                }
                _ => None,
            };
            if let Some((text, hint)) = problem {
                found.push(Conflict {
                    on: host.to_string(),
                    text: format!("template {} ({os}) {text}", source.vmid()),
                    hint: hint.to_owned(),
                });
            }
        }
    }
    found
}

fn template_spec(cluster: &Cluster, os: &str) -> String {
    cluster.images.get(os).map_or(String::new(), |image| spec::template_spec(os, image))
}

fn needs_template(
    cluster: &Cluster,
    inventory: &Inventory,
    part: &Part,
    host: &HostName,
    os: &str,
) -> bool {
    cluster.nodes.iter().any(|node| {
        node.host == *host
            && node.os == os
            && part.covers(host)
            && matches!(inventory.vms.get(&node.name), None | Some(VmState::Absent))
    })
}
