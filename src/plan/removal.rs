//! Decides whether a machine whose row was removed from the table can leave the cluster, and how. Pure.
//!
//! Only workers leave: a master or a member of etcd takes a vote with it. What must hold is checked here
//! before anything is planned, and again by each step before it acts.

use std::net::Ipv4Addr;

use serde::Serialize;

use super::inventory::{Inventory, OurVm, Stray, StrayReason};
use super::planner::{Leaves, Part};
use super::survey::{KubeNode, Machine, Seen, Work};
use crate::cluster::{Cluster, NodeName, Role};

/// How a machine leaves the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Removal<'a> {
    /// The name in its mark.
    pub node: &'a NodeName,
    /// Its VM.
    pub vm: &'a OurVm,
    /// Its Node object; `None` if the cluster has none.
    pub object: Option<Object>,
    /// How to log in to it; `None` if it is off.
    pub login: Option<Login>,
}

/// A Node object and the machine that registered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its name.
    pub name: String,
    /// The machine id in it.
    pub machine_id: String,
}

/// How to log in to a machine as it was created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Login {
    /// Its address.
    pub address: Ipv4Addr,
    /// The user.
    pub user: String,
}

/// Whether a run of this part removes machines without a row: it must see and act on the whole cluster.
pub fn is_part_of(part: &Part) -> bool {
    part.leaves == Leaves::Rowless && part.hosts.is_none() && part.provision && part.bootstrap
}

/// The name of a machine's Node object.
pub fn node_name(cluster: &Cluster, node: &NodeName) -> String {
    format!("{node}.{}", cluster.network.domain)
}

/// Every machine that `up` removes because the table has no row for it.
pub fn all<'a>(cluster: &Cluster, inventory: &'a Inventory) -> Vec<Removal<'a>> {
    let strays = inventory.strays.iter().filter(|stray| stray.why == StrayReason::NoRow);
    strays.filter_map(|stray| of(cluster, inventory, stray).ok()).collect()
}

/// Every machine that leaves the cluster in a run of this part.
pub fn planned<'a>(
    cluster: &Cluster,
    inventory: &'a Inventory,
    part: &'a Part,
) -> Vec<Removal<'a>> {
    match is_part_of(part) {
        true => all(cluster, inventory),
        false => replaced(cluster, inventory, part).into_iter().collect(),
    }
}

/// The machine of the row that is replaced, if it exists and can leave the cluster.
pub fn replaced<'a>(
    cluster: &Cluster,
    inventory: &'a Inventory,
    part: &'a Part,
) -> Option<Removal<'a>> {
    let Leaves::Row(node) = &part.leaves else { return None };
    machine(cluster, inventory, node, inventory.ours(node)?).ok()
}

/// Why the machine of the row that is replaced cannot leave the cluster; `None` also if it is gone.
pub fn obstacle(
    cluster: &Cluster,
    inventory: &Inventory,
    part: &Part,
) -> Option<(NodeName, String)> {
    let Leaves::Row(node) = &part.leaves else { return None };
    let why = machine(cluster, inventory, node, inventory.ours(node)?).err()?;
    Some((node.clone(), why))
}

/// How a machine without a row leaves the cluster.
///
/// # Errors
/// Why k8sha does not remove it, as a clause about the machine.
pub fn of<'a>(
    cluster: &Cluster,
    inventory: &'a Inventory,
    stray: &'a Stray,
) -> Result<Removal<'a>, String> {
    machine(cluster, inventory, &stray.node, &stray.vm)
}

/// How a machine leaves the cluster, whether it has a row or not.
fn machine<'a>(
    cluster: &Cluster,
    inventory: &'a Inventory,
    node: &'a NodeName,
    vm: &'a OurVm,
) -> Result<Removal<'a>, String> {
    if vm.mark.creation != inventory.creation {
        return Err("it was created with another state folder".to_owned());
    }
    match vm.role() {
        Some(Role::Worker) => {}
        Some(role) => return Err(format!("k8sha removes workers only, and it is a {role}")),
        None => return Err("its mark does not show its role".to_owned()),
    }
    let made = vm.mark.machine.as_ref().ok_or("its mark does not show its address")?;
    let twin = |other: &&Stray| {
        other.node == *node && (other.vm.vmid, &other.vm.host) != (vm.vmid, &vm.host)
    };
    if let Some(twin) = inventory.strays.iter().find(twin) {
        return Err(format!("VM {} on {} has its mark as well", twin.vm.vmid, twin.vm.host));
    }
    if let Some(lock) = vm.lock.as_ref().filter(|lock| !lock.is_empty()) {
        return Err(format!("its VM is locked ({lock})"));
    }
    if vm.config.get("protection").is_some_and(|value| value == "1") {
        return Err("its VM has `protection` set".to_owned());
    }
    let Some(api) = &inventory.survey.api else {
        return Err("the cluster's API does not answer, so its pods cannot be evicted".to_owned());
    };
    if inventory.is_anothers_api() {
        return Err("the API that answers belongs to another cluster".to_owned());
    }
    let name = node_name(cluster, node);
    let named = api.nodes.get(&name);
    let object = |known: &KubeNode| {
        Some(Object { name: name.clone(), machine_id: known.machine_id.clone() })
    };
    if named.is_some_and(|known| known.roles.contains("control-plane")) {
        return Err(format!("its Node object `{name}` is of the control plane"));
    }
    // Its pods would be found only under the other name.
    let address = made.address.to_string();
    let seen = inventory.survey.seen(node);
    let other = api.nodes.iter().find(|(other, known)| {
        **other != name
            && match seen {
                Some(seen) => !seen.machine_id.is_empty() && known.machine_id == seen.machine_id,
                None => known.address.as_ref() == Some(&address),
            }
    });
    if let Some((other, _)) = other {
        return Err(format!("the Node object `{other}` is registered for it, not `{name}`"));
    }
    match inventory.survey.machines.get(node) {
        None => Err("it was not queried".to_owned()),
        Some(Machine::Silent { said }) => Err(format!("it runs and cannot be queried ({said})")),
        Some(Machine::Off) => match named {
            Some(known) if known.address.as_ref() != Some(&address) => Err(format!(
                "its Node object `{name}` has the address {}, not {address}",
                known.address.as_deref().unwrap_or("none")
            )),
            _ => Ok(Removal { node, vm, object: named.and_then(object), login: None }),
        },
        Some(Machine::Seen(seen)) => {
            queried(seen, &api.ca)?;
            match named {
                Some(known) if known.machine_id != seen.machine_id => Err(format!(
                    "its Node object `{name}` was registered by another machine ({})",
                    known.machine_id
                )),
                _ => {
                    let login = Login { address: made.address, user: made.user.clone() };
                    let object = named.and_then(object);
                    Ok(Removal { node, vm, object, login: Some(login) })
                }
            }
        }
    }
}

/// What a worker that answers must not have.
fn queried(seen: &Seen, ca: &str) -> Result<(), String> {
    if seen.apiserver || seen.init != Work::None {
        return Err("it has a control plane".to_owned());
    }
    if seen.join == Work::Running {
        return Err("`kubeadm join` is running on it".to_owned());
    }
    match &seen.ca {
        Some(own) if own != ca => Err("it trusts the CA of another cluster".to_owned()),
        _ => Ok(()),
    }
}
