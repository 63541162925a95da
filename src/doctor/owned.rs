//! Whose the VMs on our VMIDs are: the same judgement as before a run. Pure.

use std::collections::BTreeMap;

use super::finding::{Finding, Severity};
use super::host::Seen;
use crate::cluster::{Cluster, HostName, Node};
use crate::plan::conflicts::conflicts;
use crate::plan::inventory::{HostState, Inventory, OurVm, TemplateState, VmState, own_mark};
use crate::plan::planner::{Part, Specs};
use crate::plan::spec;
use crate::proxmox::wire::VmConfig;

/// What stands in the way of making the table's VMs.
pub(super) fn check(
    cluster: &Cluster,
    creation: &str,
    seen: &BTreeMap<HostName, Seen>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut inventory = Inventory::default();
    let all = seen;
    for (host, seen) in seen {
        let mut state = HostState::default();
        for (os, source) in &cluster.proxmox.hosts[host].templates {
            let template = match seen.configs.get(&source.vmid()) {
                Some(config) if underway(config) => {
                    findings.push(making(host, source.vmid(), config));
                    continue;
                }
                Some(config) => TemplateState::of(config),
                // One template on a storage that both hosts see.
                None if at_home(cluster, host, os) != host => {
                    let home = all.get(at_home(cluster, host, os));
                    let config = home.and_then(|home| home.configs.get(&source.vmid()));
                    config.map_or(TemplateState::Absent, TemplateState::of)
                }
                None if elsewhere(seen, host, source.vmid()).is_some() => {
                    let (other, name) = elsewhere(seen, host, source.vmid()).unwrap_or_default();
                    TemplateState::Foreign { name: format!("{name} on {other}") }
                }
                None => TemplateState::Absent,
            };
            state.templates.insert(os.clone(), template);
        }
        inventory.hosts.insert(host.clone(), state);
    }
    for node in &cluster.nodes {
        let Some(home) = seen.get(&node.host) else { continue };
        // In one Proxmox VE cluster a VMID may be taken on another host than the row's.
        let found = home.configs.get(&node.vmid).map(|config| (&node.host, home, config));
        let found = found.or_else(|| {
            let (other, _) = elsewhere(home, &node.host, node.vmid)?;
            let (host, there) = seen.get_key_value(&HostName(other))?;
            Some((host, there, there.configs.get(&node.vmid)?))
        });
        match found {
            Some((host, _, config)) if underway(config) => {
                findings.push(making(host, node.vmid, config));
            }
            Some((host, there, config)) => {
                let state = judge(cluster, node, host, there, config);
                inventory.vms.insert(node.name.clone(), state);
            }
            None => {
                let state = match elsewhere(home, &node.host, node.vmid) {
                    Some((other, name)) => VmState::Foreign {
                        host: HostName(other),
                        name,
                        why: "it is on a host that the profile does not name".to_owned(),
                    },
                    None => VmState::Absent,
                };
                inventory.vms.insert(node.name.clone(), state);
            }
        }
    }
    let row = |node: &Node| (node.name.clone(), spec::node_spec(cluster, node, "", creation));
    let specs: Specs = cluster.nodes.iter().map(row).collect();
    let part = Part::all();
    findings.extend(conflicts(cluster, &specs, &inventory, &part).into_iter().map(|conflict| {
        Finding::new(Severity::Error, conflict.on, conflict.text, vec![conflict.hint])
    }));
    findings
}

fn judge(
    cluster: &Cluster,
    node: &Node,
    host: &HostName,
    there: &Seen,
    config: &VmConfig,
) -> VmState {
    match own_mark(cluster, node, config) {
        Err(why) => VmState::Foreign {
            host: host.clone(),
            name: config.name().unwrap_or("without a name").to_owned(),
            why,
        },
        Ok(mark) => {
            let runs = there.vms.iter().any(|vm| vm.vmid == node.vmid && vm.status == "running");
            VmState::Ours(Box::new(OurVm::new(host, mark, config.clone(), runs)))
        }
    }
}

/// The host on which a host's template lives: another one's where both name the same on one storage.
fn at_home<'a>(cluster: &'a Cluster, host: &'a HostName, os: &str) -> &'a HostName {
    let own = &cluster.proxmox.hosts[host];
    let same = |other: &crate::cluster::Host| {
        other.storage == own.storage && other.templates.get(os) == own.templates.get(os)
    };
    let first = cluster.proxmox.hosts.iter().find(|(_, other)| same(other));
    first.map_or(host, |(name, _)| name)
}

/// Where else in the Proxmox VE cluster a VMID is taken, and by what.
fn elsewhere(seen: &Seen, host: &HostName, vmid: crate::cluster::VmId) -> Option<(String, String)> {
    let found = seen.all.iter().find(|vm| vm.vmid == vmid && vm.node != host.0)?;
    Some((found.node.clone(), found.name.clone()))
}

fn underway(config: &VmConfig) -> bool {
    matches!(config.lock(), Some("clone" | "create"))
}

fn making(host: &HostName, vmid: crate::cluster::VmId, config: &VmConfig) -> Finding {
    let what = format!(
        "VM {vmid} is locked ({}): it is being made, or its making was cut off",
        config.lock().unwrap_or_default()
    );
    let fix = vec![
        "pvenode task list --source active     (if nothing makes it any more:)".to_owned(),
        format!("qm unlock {vmid} && qm destroy {vmid}"),
    ];
    Finding::new(Severity::Warning, host, what, fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::fixture;

    /// What is found where one VM is, on the VMID of the first master.
    fn found(config: &[(&str, &str)]) -> Vec<Finding> {
        let cluster = fixture();
        let node = cluster.first_master();
        let config = config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let mut seen: BTreeMap<HostName, Seen> =
            cluster.proxmox.hosts.keys().map(|host| (host.clone(), Seen::default())).collect();
        let home = seen.get_mut(&node.host).unwrap();
        home.configs.insert(node.vmid, VmConfig(config.collect()));
        check(&cluster, "now", &seen)
    }

    fn description(creation: &str) -> String {
        let cluster = fixture();
        spec::node_spec(&cluster, cluster.first_master(), "", creation).description
    }

    #[test]
    fn a_clone_that_hangs_is_no_stranger() {
        let found = found(&[("lock", "clone"), ("description", " qmclone temporary file")]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].severity, Severity::Warning);
        assert!(found[0].what.contains("is locked (clone)"), "{}", found[0].what);
        assert!(found[0].fix[1].starts_with("qm unlock 1101"), "{:?}", found[0].fix);
    }

    #[test]
    fn our_own_vm_is_well_unless_it_is_locked_or_of_another_making() {
        let disk = ("scsi0", "local-lvm:vm-1101-disk-0,size=20G");
        assert_eq!(found(&[disk, ("description", &description("now"))]), []);
        let locked = found(&[disk, ("description", &description("now")), ("lock", "backup")]);
        assert!(locked[0].what.contains("is locked (backup)"), "{locked:?}");
        let old = found(&[disk, ("description", &description("then"))]);
        assert!(old[0].what.contains("of another creation"), "{old:?}");
    }
}
