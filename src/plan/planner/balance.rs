//! Plans the load balancers' configuration.

use super::Draft;
use crate::cluster::{Node, NodeName, Role};
use crate::plan::action::{self, StepId};

impl Draft<'_> {
    /// Updates the load balancers that exist already: a new one has its files from cloud-init.
    ///
    /// This is part of both `provision` and `bootstrap`: the files belong to the machine, and
    /// `bootstrap` must not let masters join that the load balancers do not know. It comes before
    /// the check of the VIP, and so before init and joins: until a master is ready, haproxy's own
    /// check keeps it out.
    ///
    /// The load balancers are updated one after the other, so that one can always hold the VIP. If
    /// one fails, the next keeps its files.
    pub(super) fn balance(&mut self) {
        let cluster = self.cluster;
        let mut before: Option<StepId> = None;
        for node in cluster.with_role(Role::LoadBalancer) {
            let files = self.outdated(node);
            if !self.part.covers(&node.host) || self.ours(node).is_none() || files.is_empty() {
                self.steps.done(StepId::Balance(node.name.clone()));
                continue;
            }
            let name: NodeName = node.name.clone();
            let mut needs = vec![StepId::NodeDns(name.clone())];
            needs.extend(before.take());
            let action = action::Balance { node: name, files };
            before = Some(self.steps.add(&node.name, action, &needs));
        }
    }

    /// The files of a machine that differ. A machine that was off, or did not answer, may have any:
    /// it is queried when its step runs.
    fn outdated(&self, node: &Node) -> Vec<String> {
        let found = self.inventory.balancers.get(&node.name);
        let wanted = self.specs[&node.name].kept.iter();
        wanted
            .filter(|(path, hash)| found.and_then(|found| found.get(*path)) != Some(*hash))
            .map(|(path, _)| path.clone())
            .collect()
    }
}
