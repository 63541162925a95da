//! Plans how machines leave the cluster: those without a row, or one that is replaced; after everything
//! that is added or repaired, and one at a time: the next one is drained only when the cluster is
//! without the last.

use super::Draft;
use crate::cluster::{Cni, Node, NodeName};
use crate::plan::action::{self, StepId};
use crate::plan::conflicts::Conflict;
use crate::plan::planner::Leaves;
use crate::plan::removal::{self, Removal};
use crate::plan::{Disposition, PlannedVm};

impl Draft<'_> {
    /// Drains and removes the machines that leave the cluster. Nothing is removed while machines have to
    /// be started or reached first, or while another node is not Ready.
    pub(super) fn removals(&mut self, via: &NodeName) {
        if let Some((node, why)) = removal::obstacle(self.cluster, self.inventory, self.part) {
            let text = format!("its machine cannot be replaced: {why}");
            self.refusals.push(Conflict::new(node, text, "fix this first; nothing was changed"));
            return;
        }
        let all = removal::planned(self.cluster, self.inventory, self.part);
        if all.is_empty() || !self.look_again.is_empty() {
            return;
        }
        self.refuse_beside_nodes_that_are_not_ready(&all);
        let mut before = self.steps.all();
        for Removal { node, vm, object, login } in all {
            let delete = StepId::DeleteNode(node.clone());
            let evicted = object.as_ref().filter(|_| login.is_some());
            let action = action::Drain {
                node: node.clone(),
                via: via.clone(),
                name: removal::node_name(self.cluster, node),
                machine_id: evicted.map(|object| object.machine_id.clone()),
            };
            before = vec![self.steps.add(node, action, &before)];
            match object {
                Some(object) => {
                    let removal::Object { name, machine_id } = object;
                    let (node, via) = (node.clone(), via.clone());
                    let action =
                        action::DeleteNode { node: node.clone(), via, name, machine_id, login };
                    before = vec![self.steps.add(&node, action, &before)];
                }
                None => self.steps.done(delete.clone()),
            }
            let action = action::Destroy {
                node: node.clone(),
                host: vm.host.clone(),
                vmid: vm.vmid,
                creation: vm.mark.creation.clone(),
                without: Some(action::Without {
                    via: via.clone(),
                    name: removal::node_name(self.cluster, node),
                }),
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
        if let Leaves::Row(node) = &self.part.leaves {
            self.look_again.push(format!("{node} is created again after it has left the cluster"));
        }
    }

    /// The pods of a drained node need the other nodes.
    fn refuse_beside_nodes_that_are_not_ready(&mut self, leaving: &[Removal<'_>]) {
        let Some(api) = &self.inventory.survey.api else { return };
        // Without a pod network of k8sha's, NotReady says nothing.
        if self.cluster.kubernetes.cni == Cni::None {
            return;
        }
        let leaves = |name: &str| {
            leaving.iter().any(|it| it.object.as_ref().is_some_and(|object| object.name == name))
        };
        let rows = self.cluster.nodes.iter().map(|node| &node.fqdn);
        let ill: Vec<&str> = rows
            .filter(|name| api.nodes.get(*name).is_some_and(|known| !known.ready) && !leaves(name))
            .map(String::as_str)
            .collect();
        if !ill.is_empty() {
            let text = format!(
                "{} NotReady: k8sha drains a node only while all others are Ready",
                if ill.len() == 1 {
                    format!("{} is", ill[0])
                } else {
                    format!("{} are", ill.join(", "))
                }
            );
            let hint =
                "`kubectl describe node` shows why; run the same command again when it is Ready";
            self.refusals.push(Conflict::new("cluster", text, hint));
        }
    }

    /// Returns nodes to service whose removal was started and whose rows are back. A node that was cordoned
    /// by hand stays as it is.
    pub(super) fn uncordon(&mut self, via: &NodeName, rows: &[&Node]) {
        let Some(api) = &self.inventory.survey.api else { return };
        for node in rows.iter().filter(|node| !self.held.contains(&node.name)) {
            let Some(seen) = self.inventory.survey.seen(&node.name) else { continue };
            let known = api.nodes.get(&node.fqdn);
            let own = known.is_none_or(|known| known.machine_id == seen.machine_id);
            if own && (seen.leaving || known.is_some_and(|known| known.leaving)) {
                let action = action::Uncordon {
                    node: node.name.clone(),
                    via: via.clone(),
                    name: node.fqdn.clone(),
                    machine_id: seen.machine_id.clone(),
                };
                self.steps.add(&node.name, action, &[StepId::Vip, StepId::Init]);
            } else if known.is_some_and(|known| known.cordoned) {
                self.notices.push(format!(
                    "{} is cordoned; `kubectl uncordon {}` lets pods start there again",
                    node.name, node.fqdn
                ));
            }
        }
    }
}
