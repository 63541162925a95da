//! Plans the removal of machines without a row, after everything that is added or repaired: one at a
//! time, so that the next one is drained only when the cluster is without the last.

use super::Draft;
use crate::cluster::{Node, NodeName};
use crate::plan::action::{self, StepId};
use crate::plan::removal::{self, Removal};
use crate::plan::{Disposition, PlannedVm};

impl Draft<'_> {
    /// Drains and removes the machines without a row. Nothing is removed while machines have to be
    /// started or reached first.
    pub(super) fn removals(&mut self, via: &NodeName) {
        if !removal::is_part_of(self.part) || !self.look_again.is_empty() {
            return;
        }
        let mut before = self.steps.all();
        let all: Vec<Removal<'_>> = removal::all(self.cluster, self.inventory);
        for Removal { node, vm, object, login } in all {
            let (drain, delete) = (StepId::Drain(node.clone()), StepId::DeleteNode(node.clone()));
            match object {
                Some(object) => {
                    let removal::Object { name, machine_id } = object;
                    if login.is_some() {
                        let action = action::Drain {
                            node: node.clone(),
                            via: via.clone(),
                            name: name.clone(),
                            machine_id: machine_id.clone(),
                        };
                        self.steps.add(node, action, &before);
                    } else {
                        self.steps.done(drain.clone());
                    }
                    let needs = [&before[..], std::slice::from_ref(&drain)].concat();
                    let (node, via) = (node.clone(), via.clone());
                    let action =
                        action::DeleteNode { node: node.clone(), via, name, machine_id, login };
                    before = vec![self.steps.add(&node, action, &needs)];
                }
                None => self.steps.done(delete.clone()),
            }
            let action = action::Destroy {
                node: node.clone(),
                host: vm.host.clone(),
                vmid: vm.vmid,
                creation: vm.mark.creation.clone(),
            };
            self.steps.add(node, action, &[&before[..], &[delete]].concat());
            self.leaving.push(PlannedVm {
                node: node.clone(),
                role: vm.role().unwrap_or(crate::cluster::Role::Worker),
                host: vm.host.clone(),
                vmid: vm.vmid,
                disposition: Disposition::Destroyed,
            });
        }
    }

    /// Returns nodes to service whose removal was started and whose rows are back.
    pub(super) fn uncordon(&mut self, via: &NodeName, rows: &[&Node]) {
        let Some(api) = &self.inventory.survey.api else { return };
        for node in rows {
            let Some(known) = api.nodes.get(&node.fqdn).filter(|known| known.leaving) else {
                continue;
            };
            let seen = self.inventory.survey.seen(&node.name);
            if seen.is_some_and(|seen| seen.machine_id == known.machine_id) {
                let action = action::Uncordon {
                    node: node.name.clone(),
                    via: via.clone(),
                    name: node.fqdn.clone(),
                    machine_id: known.machine_id.clone(),
                };
                self.steps.add(&node.name, action, &[StepId::Vip, StepId::Init]);
            }
        }
    }
}
