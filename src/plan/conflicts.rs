//! What stands in the way of a plan: things that are not ours, or not where the profile has them.

use super::halt;
use super::inventory::{Inventory, Making, OurVm, Stray, StrayReason, TemplateState, VmState};
use super::planner::{Part, Specs};
use super::recognise::UNMARKED;
use super::spec;
use super::survey::Machine;
use super::template::flaws;
use crate::cluster::{Cluster, HostName, NodeName, Role, TemplateSource, VmId};

/// Why nothing may be planned: something that is not ours stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The node or host.
    pub on: String,
    /// What stands in the way.
    pub text: String,
    /// What to do about it: a line for each command.
    pub hint: String,
    /// Whether it may pass by itself: something is being made.
    pub underway: bool,
}

impl Conflict {
    /// Something that stays in the way until a person does something about it.
    pub fn new(on: impl ToString, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { on: on.to_string(), text: text.into(), hint: hint.into(), underway: false }
    }
}

/// All that stands in the way.
pub fn conflicts(
    cluster: &Cluster,
    specs: &Specs,
    inventory: &Inventory,
    part: &Part,
) -> Vec<Conflict> {
    let mut found = Vec::new();
    for node in cluster.nodes.iter().filter(|node| part.covers(&node.host)) {
        // A name whose keys are older than this command had a machine once.
        let made_before = !inventory.new_keys.hosts.contains(&node.name);
        match inventory.vms.get(&node.name) {
            Some(VmState::Foreign { host, name, why }) => found.push(Conflict {
                underway: false,
                on: node.name.to_string(),
                text: match former(inventory, host, node.vmid) {
                    Some(was) => format!(
                        "VM {} on {host} was made as `{was}`, a name that no row has",
                        node.vmid
                    ),
                    None => {
                        format!("VM {} on {host} is `{name}`, which is not ours: {why}", node.vmid)
                    }
                },
                hint: match former(inventory, host, node.vmid) {
                    Some(was) => format!(
                        "name the row `{was}` again: a machine is not renamed. A new machine needs a \
                         row of its own, with another `vmid` and address, beside the old row"
                    ),
                    None if name == node.name.as_str() && why == UNMARKED && made_before => {
                        unmarked(specs, node)
                    }
                    None if name == node.name.as_str() && why != UNMARKED => format!(
                        "it is called like this row: if `cluster.name` was changed, set it back; else \
                         give {} another `vmid` and address, or move that VM away",
                        node.name
                    ),
                    None => format!(
                        "give {} another `vmid` in the profile, or move that VM away; k8sha never \
                         touches it",
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
                            "VM {} carries our mark (creation `{}`), and this state folder has made \
                             nothing: its SSH host key is not known here",
                            node.vmid, vm.mark.creation
                        ),
                        false => format!(
                            "VM {} carries our mark, but of another creation (`{}`, this state \
                             folder knows `{}`): its SSH host key is not known here",
                            node.vmid, vm.mark.creation, specs[&node.name].mark.creation
                        ),
                    },
                    hint: "run on the machine that made it, or with a copy of that state folder: \
                           `--state DIR`"
                        .to_owned(),
                });
            }
            // One that has booted is whole, whatever lock it has.
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
                underway: false,
                on: node.name.to_string(),
                text: format!("VM {} has no disk `{}`: it was detached", node.vmid, spec::DISK),
                hint: attach(vm),
            }),
            Some(VmState::Ours(vm)) if vm.config.get("template").is_some_and(|it| it == "1") => {
                found.push(Conflict::new(
                    &node.name,
                    format!("VM {} was made a template, which cannot be started", vm.vmid),
                    format!(
                        "a template does not become a machine again: `qm destroy {}` on {}, then \
                         `k8sha up` makes the machine again",
                        vm.vmid, vm.host
                    ),
                ));
            }
            Some(VmState::Ours(vm)) if vm.halted.is_some() => found.push(Conflict::new(
                &node.name,
                format!(
                    "VM {} is switched on and does not run: QEMU says `{}`",
                    vm.vmid,
                    vm.halted.as_deref().unwrap_or_default()
                ),
                halt::fix(vm.vmid, &vm.host, vm.halted.as_deref().unwrap_or_default()),
            )),
            Some(VmState::Ours(vm)) if part.bootstrap && !part.provision && !vm.running() => {
                found.push(Conflict {
                    underway: false,
                    on: node.name.to_string(),
                    text: format!("VM {} does not run", node.vmid),
                    hint: "`k8sha provision` starts it".to_owned(),
                });
            }
            Some(VmState::Absent) | None if part.bootstrap && !part.provision => {
                found.push(Conflict {
                    underway: false,
                    on: node.name.to_string(),
                    text: format!("VM {} does not exist", node.vmid),
                    hint: "`k8sha provision` makes it".to_owned(),
                });
            }
            _ => {}
        }
    }
    for (name, said) in &inventory.taken {
        let Some(node) = cluster.node(name) else { continue };
        found.push(Conflict::new(
            name,
            format!("its address {} is taken: {said}, and its VM does not exist", node.ip),
            "find out which machine has the address (`k8sha doctor` names a VM of this site); two \
             machines at one address cut each other off",
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
                    "make it a template, or name another VMID",
                )),
                (TemplateSource::Ours(_), TemplateState::Ours { spec, .. })
                    if *spec != template_spec(cluster, os)
                        && needs_template(cluster, inventory, part, host, os) =>
                {
                    Some((
                        format!("was made from another image (spec {spec})"),
                        "give the new template another VMID in the profile (`templates`); the old one \
                         stays, for machines hang on it",
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

/// What to do where a VM without a mark is called as its row, whose machine this state folder has made: its
/// notes were deleted. To a VM that is a stranger's the mark must not go, so a person has to look first.
fn unmarked(specs: &Specs, node: &crate::cluster::Node) -> String {
    let block = specs.get(&node.name).map(|spec| spec.mark.block()).unwrap_or_default();
    format!(
        "this state folder has made a machine of that name. If it is this VM, and its notes were \
         deleted, put this back into them (Summary, Notes); another `vmid` would make a second machine \
         at {}. If it is a stranger's, move it away:\n{block}",
        node.ip
    )
}

/// How a disk that was detached gets back: Proxmox VE keeps it as unused.
fn attach(vm: &OurVm) -> String {
    let unused = vm.config.iter().find(|(key, _)| key.starts_with("unused"));
    let (vmid, host, disk) = (vm.vmid, &vm.host, spec::DISK);
    match unused {
        Some((_, volume)) => format!(
            "qm set {vmid} --{disk} {volume} --boot order={disk}     (on {host}, then run again)"
        ),
        None => format!(
            "attach its disk again; if it is gone, remove VM {vmid} on {host} (`qm stop {vmid} && qm \
             destroy {vmid}`), and `k8sha up` makes the machine again"
        ),
    }
}

/// A VM that is being cloned or created, or whose making was cut off; whether it is empty, so that its
/// removal can do no harm.
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
        false => format!("qm config {vmid}     (see whose it is; if it can go:)\n{clear}"),
    };
    let (text, hint) = match making {
        Making::Runs { task } => (
            format!("VM {vmid} is being made (lock `{lock}`): the task {task} is at work on it"),
            format!("run again when it has ended: `pvenode task log '{task}'` on {host} shows it"),
        ),
        Making::CutOff => (
            format!(
                "VM {vmid} is half made: it keeps the lock `{lock}`, and no task is at work on it"
            ),
            clear,
        ),
        Making::Unseen => (
            format!(
                "VM {vmid} keeps the lock `{lock}` of a VM in the making, and no task that we may \
                 see is at work on it"
            ),
            format!(
                "pvenode task list --source active     (on {host}; if no task makes it any more:)\n\
                 {clear}"
            ),
        ),
    };
    let underway = matches!(making, Making::Runs { .. });
    Conflict { on: on.to_string(), text, hint, underway }
}

/// The name that a machine of ours on this VMID was made with, where no row has it now.
fn former<'a>(inventory: &'a Inventory, host: &HostName, vmid: VmId) -> Option<&'a NodeName> {
    let on = |stray: &&Stray| stray.vm.vmid == vmid && stray.vm.host == *host;
    let stray = inventory.strays.iter().find(on)?;
    (stray.why == StrayReason::NoRow).then_some(&stray.node)
}

/// Keys that machines of ours were made with, and that the state folder has no more.
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
                "the folder `ssh` is gone, with the key that opens {} machines and the keys by which \
                 each is known",
                machines.len()
            ),
            "restore that folder from a backup: the machines run on, and nothing else lets k8sha in",
        )];
    }
    for name in &new.hosts {
        let Some(vm) = ours(name) else { continue };
        found.push(Conflict::new(
            name,
            format!(
                "VM {} on {} was made with an SSH host key that the state folder no longer has \
                 (`ssh/host-{name}`)",
                vm.vmid, vm.host
            ),
            format!(
                "restore that file from a backup; without it the machine cannot be told from \
                 another one at its address. Without a backup: drain it, remove VM {} on {}, and `k8sha \
                 up` makes it again. Remove one machine at a time, and run `k8sha up` before the next: \
                 without a majority of its masters or members of etcd the cluster is lost",
                vm.vmid, vm.host
            ),
        ));
    }
    let answered = inventory.survey.machines.values().any(|it| matches!(it, Machine::Seen(_)));
    if new.operator && !machines.is_empty() && !answered {
        found.push(Conflict::new(
            "state folder",
            format!("the key that opens {} machines is gone (`ssh/operator`)", machines.len()),
            "restore that file from a backup, or give a key that `access.authorized_keys` named \
             when the machines were made: `--identity FILE`",
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
                "the authority of etcd (`etcd/ca.pem`) is another one than these members trust: {}",
                foreign.join(", ")
            ),
            "restore the folder `etcd` from a backup; another authority would lock the API servers \
             and the members out",
        ));
    }
    let members = machines.iter().filter(|node| node.role == Role::Etcd).count();
    if new.etcd && members > 0 {
        found.push(Conflict::new(
            "state folder",
            format!(
                "the key of etcd's authority is gone (`etcd/ca.pem`); {members} members trust it"
            ),
            "restore the folder `etcd` from a backup; another authority would lock the API servers \
             and the members out",
        ));
    }
    found
}

/// Whether what runs is the cluster that this state folder made.
fn identity(inventory: &Inventory, specs: &Specs) -> Vec<Conflict> {
    let survey = &inventory.survey;
    let mut found = Vec::new();
    let mut conflict = |on: &str, text: String| {
        let hint =
            "stop and find out which cluster is the right one; k8sha touches neither. Another \
                    state folder is named with `--state`"
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
            conflict(name.as_str(), format!("it trusts the CA {own}, the cluster's is {ca}"));
        }
    }
    let Some(api) = &survey.api else { return found };
    if let Some(known) = &survey.known {
        if known.ca != api.ca {
            let text =
                format!("the cluster's CA is {}, this state folder knows {}", api.ca, known.ca);
            conflict("cluster", text);
        }
        if known.uid != api.uid {
            let text = format!(
                "the UID of kube-system is {}, this state folder knows {}: the cluster's data is \
                 another one",
                api.uid, known.uid
            );
            conflict("cluster", text);
        }
    }
    let creation =
        specs.values().next().map(|spec| spec.mark.creation.as_str()).unwrap_or_default();
    if let Some(mark) = api.mark.as_ref().filter(|mark| mark.creation != creation) {
        let text = format!(
            "the cluster's own mark says `{}`, creation `{}`; this state folder is of creation \
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
