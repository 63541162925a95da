//! Conflicts that block a plan: VMs and other objects that k8sha did not create, or that are not
//! where the profile puts them.

use super::halt;
use super::inventory::{Inventory, Making, OurVm, Stray, StrayReason, TemplateState, VmState};
use super::planner::{Part, Specs};
use super::recognise::UNMARKED;
use super::spec;
use super::survey::Machine;
use super::template::flaws;
use crate::cluster::{Cluster, HostName, NodeName, Role, TemplateSource, VmId};

/// Why nothing can be planned: a conflict with something that k8sha did not create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The node or host.
    pub on: String,
    /// The conflict.
    pub text: String,
    /// The fix, one command per line.
    pub hint: String,
    /// Whether it may resolve by itself, because a task is still creating something.
    pub underway: bool,
}

impl Conflict {
    /// A conflict that remains until the user resolves it.
    pub fn new(on: impl ToString, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { on: on.to_string(), text: text.into(), hint: hint.into(), underway: false }
    }
}

/// Returns all conflicts.
pub fn conflicts(
    cluster: &Cluster,
    specs: &Specs,
    inventory: &Inventory,
    part: &Part,
) -> Vec<Conflict> {
    let mut found = Vec::new();
    for node in cluster.nodes.iter().filter(|node| part.covers(&node.host)) {
        // If the keys are older than this command, the name had a machine before.
        let made_before = !inventory.new_keys.hosts.contains(&node.name);
        match inventory.vms.get(&node.name) {
            Some(VmState::Foreign { host, name, why }) => found.push(Conflict {
                underway: false,
                on: node.name.to_string(),
                text: match former(inventory, host, node.vmid) {
                    Some(was) => format!(
                        "VM {} on {host} was created as `{was}`, and no row has that name",
                        node.vmid
                    ),
                    None => {
                        format!(
                            "VM {} on {host} is `{name}`, which k8sha did not create: {why}",
                            node.vmid
                        )
                    }
                },
                hint: match former(inventory, host, node.vmid) {
                    Some(was) => format!(
                        "rename the row back to `{was}`: machines cannot be renamed. For a new \
                         machine, add a separate row with another `vmid` and address, and keep the \
                         old row"
                    ),
                    None if name == node.name.as_str() && why == UNMARKED && made_before => {
                        unmarked(specs, node)
                    }
                    None if name == node.name.as_str() && why != UNMARKED => format!(
                        "it has the name of this row: if `cluster.name` was changed, set it back; \
                         otherwise give {} another `vmid` and address, or change the VMID of that \
                         VM",
                        node.name
                    ),
                    None => format!(
                        "give {} another `vmid` in the profile, or change the VMID of that VM; \
                         k8sha never changes it",
                        node.name
                    ),
                },
            }),
            Some(VmState::Underway { host, vmid, lock, making, empty }) => {
                found.push(underway(&node.name, host, (*vmid, *empty), lock, making));
            }
            Some(VmState::Ours(vm)) if vm.mark.creation != specs[&node.name].mark.creation => {
                found.push(Conflict {
                    underway: false,
                    on: node.name.to_string(),
                    text: match inventory.new_keys.creation {
                        true => format!(
                            "VM {} has k8sha's mark (creation `{}`), but this state folder has \
                             created nothing: the VM's SSH host key is not known here",
                            node.vmid, vm.mark.creation
                        ),
                        false => format!(
                            "VM {} has k8sha's mark, but of another creation (`{}`, this state \
                             folder has `{}`): its SSH host key is not known here",
                            node.vmid, vm.mark.creation, specs[&node.name].mark.creation
                        ),
                    },
                    hint: "run on the machine that created it, or with a copy of that state \
                           folder: `--state DIR`"
                        .to_owned(),
                });
            }
            // A VM that has booted is complete, whatever its lock.
            Some(VmState::Ours(vm))
                if vm.making.is_some() && !vm.running() && vm.mark.read.is_none() =>
            {
                let lock = vm.lock.as_deref().unwrap_or_default();
                let making = vm.making.as_ref();
                let told = |making| underway(&node.name, &vm.host, (vm.vmid, true), lock, making);
                found.extend(making.map(told));
            }
            Some(VmState::Ours(vm)) if vm.lock.is_some() => found.push(Conflict {
                underway: false,
                on: node.name.to_string(),
                text: format!(
                    "VM {} is locked ({}) and no task of k8sha is working on it",
                    node.vmid,
                    vm.lock.as_deref().unwrap_or_default()
                ),
                hint: format!(
                    "check what holds the lock in the task list of {}; if nothing does, `qm unlock \
                     {}` there and run again",
                    node.host, node.vmid
                ),
            }),
            Some(VmState::Ours(vm)) if vm.disk_bytes.is_none() => found.push(Conflict {
                underway: false,
                on: node.name.to_string(),
                text: format!("VM {} has no disk `{}`: it was detached", node.vmid, spec::DISK),
                hint: attach(vm),
            }),
            Some(VmState::Ours(vm)) if vm.config.get("template").is_some_and(|it| it == "1") => {
                found.push(Conflict::new(
                    &node.name,
                    format!("VM {} was converted to a template, which cannot be started", vm.vmid),
                    format!(
                        "a template cannot be converted back: run `qm destroy {}` on {}, then \
                         `k8sha up` recreates the VM",
                        vm.vmid, vm.host
                    ),
                ));
            }
            Some(VmState::Ours(vm)) if vm.halted.is_some() => found.push(Conflict::new(
                &node.name,
                format!(
                    "VM {} is powered on but does not run: QEMU reports `{}`",
                    vm.vmid,
                    vm.halted.as_deref().unwrap_or_default()
                ),
                halt::fix(vm.vmid, &vm.host, vm.halted.as_deref().unwrap_or_default()),
            )),
            Some(VmState::Ours(vm)) if part.bootstrap && !part.provision && !vm.running() => {
                found.push(Conflict {
                    underway: false,
                    on: node.name.to_string(),
                    text: format!("VM {} is not running", node.vmid),
                    hint: "`k8sha provision` starts it".to_owned(),
                });
            }
            Some(VmState::Absent) | None if part.bootstrap && !part.provision => {
                found.push(Conflict {
                    underway: false,
                    on: node.name.to_string(),
                    text: format!("VM {} does not exist", node.vmid),
                    hint: "`k8sha provision` creates it".to_owned(),
                });
            }
            _ => {}
        }
    }
    for (name, said) in &inventory.taken {
        let Some(node) = cluster.node(name) else { continue };
        found.push(Conflict::new(
            name,
            format!("its address {} is in use, but its VM does not exist: {said}", node.ip),
            "find out which machine has the address (`k8sha doctor` identifies VMs of these \
             hosts); two machines with the same address break each other's connections",
        ));
    }
    found.extend(identity(inventory, specs));
    found.extend(lost_keys(cluster, inventory));
    if !part.provision {
        return found;
    }
    for (host, state) in inventory.hosts.iter().filter(|(host, _)| part.covers(host)) {
        for (os, template) in &state.templates {
            if let TemplateState::Underway { vmid, lock, making, empty } = template {
                if needs_template(cluster, inventory, part, host, os) {
                    found.push(underway(host, host, (*vmid, *empty), lock, making));
                }
                continue;
            }
            let Some(source) = cluster.proxmox.hosts[host].templates.get(os) else { continue };
            let problem = match (source, template) {
                (TemplateSource::Ours(_), TemplateState::Foreign { name })
                | (TemplateSource::Ours(_), TemplateState::Theirs { name, .. }) => Some((
                    format!("is `{name}`, which has no k8sha mark"),
                    "give the template another VMID in the profile, or set `mine: true` to clone \
                     that one as it is",
                )),
                (TemplateSource::Theirs(_), TemplateState::Absent) => Some((
                    "does not exist".to_owned(),
                    "create that template, or remove `mine: true` and k8sha creates one",
                )),
                (TemplateSource::Theirs(_), TemplateState::Foreign { name }) => Some((
                    format!("is `{name}`, which is not a template"),
                    "convert it to a template, or use another VMID",
                )),
                (TemplateSource::Ours(_), TemplateState::Ours { spec, .. })
                    if *spec != template_spec(cluster, os)
                        && needs_template(cluster, inventory, part, host, os) =>
                {
                    Some((
                        format!("was created from another image (spec {spec})"),
                        "give the new template another VMID in the profile (`templates`); the old \
                         one is kept, because VMs may depend on it",
                    ))
                }
                _ => None,
            };
            if let Some((text, hint)) = problem {
                found.push(Conflict {
                    underway: false,
                    on: host.to_string(),
                    text: format!("template {} ({os}) {text}", source.vmid()),
                    hint: hint.to_owned(),
                });
            } else if needs_template(cluster, inventory, part, host, os) {
                let settings = template.settings().into_iter();
                let flaws = settings.flat_map(|settings| flaws(source.vmid(), settings));
                found.extend(flaws.map(|flaw| Conflict {
                    underway: false,
                    on: host.to_string(),
                    text: format!("template {} ({os}) {}", source.vmid(), flaw.what),
                    hint: flaw.fix.join("\n"),
                }));
            }
        }
    }
    found
}

/// The fix for a VM without a mark that has the name of a row whose machine this state folder
/// created: its notes were deleted. A VM that k8sha did not create must not get the mark, so the
/// user has to check first.
fn unmarked(specs: &Specs, node: &crate::cluster::Node) -> String {
    let block = specs.get(&node.name).map(|spec| spec.mark.block()).unwrap_or_default();
    format!(
        "this state folder has created a machine with that name. If it is this VM, and its notes \
         were deleted, restore them (Summary, Notes) as follows; another `vmid` would create a \
         second machine at {}. If it is a different VM, change its VMID:\n{block}",
        node.ip
    )
}

/// The fix for a detached disk: Proxmox VE keeps it as unused.
fn attach(vm: &OurVm) -> String {
    let unused = vm.config.iter().find(|(key, _)| key.starts_with("unused"));
    let (vmid, host, disk) = (vm.vmid, &vm.host, spec::DISK);
    match unused {
        Some((_, volume)) => format!(
            "qm set {vmid} --{disk} {volume} --boot order={disk}     (on {host}, then run again)"
        ),
        None => format!(
            "attach its disk again; if the disk is lost, remove VM {vmid} on {host} (`qm stop \
             {vmid} && qm destroy {vmid}`), and `k8sha up` recreates the VM"
        ),
    }
}

/// A VM that is being cloned or created, or whose creation was interrupted; `empty` says whether it
/// is safe to remove.
fn underway(
    on: impl ToString,
    host: &HostName,
    (vmid, empty): (VmId, bool),
    lock: &str,
    making: &Making,
) -> Conflict {
    let clear = format!("qm unlock {vmid} && qm destroy {vmid}     (on {host}, then run again)");
    let clear = match empty {
        true => clear,
        false => format!(
            "qm config {vmid}     (check who created it; if it can be \
             removed:)\n{clear}"
        ),
    };
    let (text, hint) = match making {
        Making::Runs { task } => (
            format!("VM {vmid} is being created (lock `{lock}`) by the task {task}"),
            format!(
                "run again when it has finished: `pvenode task log '{task}'` on {host} shows \
                 its progress"
            ),
        ),
        Making::CutOff => (
            format!(
                "VM {vmid} is incomplete: it has the lock `{lock}`, and no task is working on it"
            ),
            clear,
        ),
        Making::Unseen => (
            format!(
                "VM {vmid} has the lock `{lock}` of a VM that is being created, and no task \
                 visible to k8sha is working on it"
            ),
            format!(
                "pvenode task list --source active     (on {host}; if no task is creating \
                 it:)\n{clear}"
            ),
        ),
    };
    let underway = matches!(making, Making::Runs { .. });
    Conflict { on: on.to_string(), text, hint, underway }
}

/// The name under which k8sha created a VM on this VMID, if no row has that name now.
fn former<'a>(inventory: &'a Inventory, host: &HostName, vmid: VmId) -> Option<&'a NodeName> {
    let on = |stray: &&Stray| stray.vm.vmid == vmid && stray.vm.host == *host;
    let stray = inventory.strays.iter().find(on)?;
    (stray.why == StrayReason::NoRow).then_some(&stray.node)
}

/// Keys that machines were created with and that the state folder no longer has.
fn lost_keys(cluster: &Cluster, inventory: &Inventory) -> Vec<Conflict> {
    let new = &inventory.new_keys;
    let ours = |name| match inventory.vms.get(name) {
        Some(VmState::Ours(vm)) if vm.mark.creation == inventory.creation => Some(vm),
        _ => None,
    };
    let mut found = Vec::new();
    let machines: Vec<_> = cluster.nodes.iter().filter(|node| ours(&node.name).is_some()).collect();
    if new.operator
        && machines.len() > 1
        && machines.iter().all(|node| new.hosts.contains(&node.name))
    {
        return vec![Conflict::new(
            "state folder",
            format!(
                "the folder `ssh` is missing, with the key that logs in to {} machines and their \
                 host keys",
                machines.len()
            ),
            "restore that folder from a backup: the machines keep running, but k8sha cannot log in \
             without it",
        )];
    }
    for name in &new.hosts {
        let Some(vm) = ours(name) else { continue };
        found.push(Conflict::new(
            name,
            format!(
                "VM {} on {} was created with an SSH host key that the state folder no longer has \
                 (`ssh/host-{name}`)",
                vm.vmid, vm.host
            ),
            format!(
                "restore that file from a backup; without it k8sha cannot verify the machine's \
                 identity. Without a backup: drain it, remove VM {} on {}, and `k8sha up` \
                 recreates it. Remove one machine at a time, and run `k8sha up` before the next: \
                 without a majority of its masters or etcd members the cluster is lost",
                vm.vmid, vm.host
            ),
        ));
    }
    let answered = inventory.survey.machines.values().any(|it| matches!(it, Machine::Seen(_)));
    if new.operator && !machines.is_empty() && !answered {
        found.push(Conflict::new(
            "state folder",
            format!(
                "the key that logs in to {} machines is missing (`ssh/operator`)",
                machines.len()
            ),
            "restore that file from a backup, or pass a key that `access.authorized_keys` \
             contained when the machines were created: `--identity FILE`",
        ));
    }
    let foreign: Vec<&str> = inventory
        .etcd
        .iter()
        .filter(|(_, member)| member.foreign)
        .map(|(name, _)| name.as_str())
        .collect();
    if !foreign.is_empty() && !new.etcd {
        found.push(Conflict::new(
            "state folder",
            format!(
                "the etcd CA (`etcd/ca.pem`) is not the one that these members trust: {}",
                foreign.join(", ")
            ),
            "restore the folder `etcd` from a backup; a different CA would lock out the API \
             servers and the members",
        ));
    }
    let members = machines.iter().filter(|node| node.role == Role::Etcd).count();
    if new.etcd && members > 0 {
        found.push(Conflict::new(
            "state folder",
            format!(
                "the key of the etcd CA is missing (`etcd/ca.pem`); {members} members trust it"
            ),
            "restore the folder `etcd` from a backup; a different CA would lock out the API \
             servers and the members",
        ));
    }
    found
}

/// Checks whether the running cluster is the one that this state folder created.
fn identity(inventory: &Inventory, specs: &Specs) -> Vec<Conflict> {
    let survey = &inventory.survey;
    let mut found = Vec::new();
    let mut conflict = |on: &str, text: String| {
        let hint =
            "find out which cluster is the right one; k8sha changes neither. To use another state \
             folder, pass `--state`"
                .to_owned();
        found.push(Conflict::new(on, text, hint));
    };
    let known_ca = survey.known.as_ref().map(|known| known.ca.as_str());
    let ca =
        survey.api.as_ref().map(|api| api.ca.as_str()).filter(|ca| !ca.is_empty()).or(known_ca);
    for (name, machine) in &survey.machines {
        let Machine::Seen(seen) = machine else { continue };
        if let (Some(ca), Some(own)) = (ca, &seen.ca)
            && own != ca
        {
            conflict(
                name.as_str(),
                format!("it trusts the CA {own}, but the cluster's CA is {ca}"),
            );
        }
    }
    let Some(api) = &survey.api else { return found };
    if let Some(known) = &survey.known {
        if known.ca != api.ca {
            let text =
                format!("the cluster's CA is {}, this state folder has {}", api.ca, known.ca);
            conflict("cluster", text);
        }
        if known.uid != api.uid {
            let text = format!(
                "the UID of kube-system is {}, this state folder has {}: the cluster's data was \
                 replaced",
                api.uid, known.uid
            );
            conflict("cluster", text);
        }
    }
    let creation =
        specs.values().next().map(|spec| spec.mark.creation.as_str()).unwrap_or_default();
    if let Some(mark) = api.mark.as_ref().filter(|mark| mark.creation != creation) {
        let text = format!(
            "the mark in the cluster has `{}`, creation `{}`; this state folder has creation \
             `{creation}`",
            mark.cluster, mark.creation
        );
        conflict("cluster", text);
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
