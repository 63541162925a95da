//! Planning the removal of a cluster: only what carries our mark.

use super::inventory::{Inventory, TemplateState, VmState};
use super::{Action, Fate, Plan, Step, VmFate, spec};
use crate::cluster::{Cluster, Etcd, HostName, Role, TemplateSource};

/// How much is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Whether our templates and images stay, for a cluster that is made again at once.
    pub keep_templates: bool,
    /// Whether our keys in an external etcd stay.
    pub keep_etcd: bool,
    /// Whether the cluster is made again at once.
    pub again: bool,
}

/// Plans the removal.
pub fn plan(cluster: &Cluster, inventory: &Inventory, extent: Extent) -> Plan {
    let mut steps: Vec<Step> = Vec::new();
    let mut notices = Vec::new();
    let mut push = |id: String, on: String, action: Action, needs: Vec<String>| {
        let known = |id: &String| steps.iter().any(|step: &Step| step.id == *id);
        let needs = needs.into_iter().filter(known).collect();
        steps.push(Step { id, on, action, needs });
    };
    let ours = |name| matches!(inventory.vms.get(name), Some(VmState::Ours(_)));
    let any_master = cluster.with_role(Role::Master).any(|node| ours(&node.name));
    if matches!(cluster.etcd, Etcd::External { .. }) && !extent.keep_etcd && any_master {
        push(
            "forget-etcd".into(),
            "etcd".into(),
            Action::ForgetEtcd { again: extent.again },
            vec![],
        );
    }
    let mut vms = Vec::new();
    let mut gone: Vec<String> = Vec::new();
    // Load balancers last: as long as a master lives, its API is reached through them.
    let mut rows: Vec<_> = cluster.nodes.iter().collect();
    rows.sort_by_key(|node| std::cmp::Reverse(node.role));
    for node in rows {
        let fate = match inventory.vms.get(&node.name) {
            Some(VmState::Ours(vm)) => {
                let id = format!("destroy/{}", node.name);
                push(
                    id.clone(),
                    node.name.to_string(),
                    Action::Destroy {
                        node: node.name.clone(),
                        host: HostName(vm.host.clone()),
                        vmid: node.vmid,
                    },
                    vec!["forget-etcd".into()],
                );
                gone.push(id);
                Fate::Destroyed
            }
            Some(VmState::Foreign { host, name, why }) => {
                notices
                    .push(format!("VM {} on {host} (`{name}`) stays as it is: {why}", node.vmid));
                Fate::Absent
            }
            _ => Fate::Absent,
        };
        vms.push(VmFate {
            node: node.name.clone(),
            role: node.role,
            host: node.host.clone(),
            vmid: node.vmid,
            fate,
        });
        let prefix = spec::seed_prefix(cluster, node);
        for (host, state) in &inventory.hosts {
            for volume in state.isos.iter().filter(|volume| spec::is_seed(volume, &prefix)) {
                push(
                    format!("remove/{host}/{volume}"),
                    host.to_string(),
                    Action::RemoveVolume { host: host.clone(), volume: volume.clone() },
                    vec![format!("destroy/{}", node.name)],
                );
            }
        }
    }
    if !extent.keep_templates {
        for (name, state) in &inventory.hosts {
            for (os, source) in &cluster.proxmox.hosts[name].templates {
                let TemplateSource::Ours(vmid) = *source else { continue };
                let others: Vec<String> = state
                    .linked
                    .get(&vmid)
                    .into_iter()
                    .flatten()
                    .filter(|clone| {
                        !cluster.nodes.iter().any(|node| node.vmid == **clone && ours(&node.name))
                    })
                    .map(ToString::to_string)
                    .collect();
                if !others.is_empty() {
                    notices.push(format!(
                        "template {vmid} on {name} stays: VM {} still hangs on its disk",
                        others.join(", ")
                    ));
                    continue;
                }
                if let Some(TemplateState::Ours { cluster: maker, .. }) = state.templates.get(os) {
                    if *maker != cluster.name {
                        notices.push(format!(
                            "template {vmid} on {name} stays: it was made for the cluster `{maker}`"
                        ));
                        continue;
                    }
                    push(
                        format!("remove-template/{name}/{os}"),
                        name.to_string(),
                        Action::RemoveTemplate { host: name.clone(), vmid },
                        gone.clone(),
                    );
                }
                let Some(image) = cluster.images.get(os) else { continue };
                let import = &cluster.proxmox.hosts[name].import_storage;
                let volume = format!("{import}:import/{}", spec::image_file(os, image));
                if state.images.contains(&volume) {
                    push(
                        format!("remove/{name}/{volume}"),
                        name.to_string(),
                        Action::RemoveVolume { host: name.clone(), volume },
                        vec![format!("remove-template/{name}/{os}")],
                    );
                }
            }
        }
    }
    Plan {
        cluster: cluster.name.clone(),
        topology: inventory.topology.clone(),
        vms,
        steps,
        notices,
    }
}
