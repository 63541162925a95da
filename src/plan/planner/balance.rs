//! Planning the load balancers' configuration.

use super::Draft;
use crate::cluster::{Node, NodeName, Role};
use crate::plan::action::{self, StepId};

impl Draft<'_> {
    /// Brings the balancers up to date that are there already: a new one has its files from
    /// cloud-init.
    ///
    /// In every part of the job: what a machine is made of belongs to `provision`, and `bootstrap`
    /// must not let masters join that will not be asked. It comes before the VIP is looked at, and so
    /// before init and joins: until a master is ready, haproxy's own look keeps it out.
    ///
    /// One after the other, for the VIP to have somewhere to be. Where one fails, the next keeps what
    /// it has.
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

    /// The files of a machine that are not as wanted. One that was off, or did not answer, may have
    /// any: it is asked when its turn comes.
    fn outdated(&self, node: &Node) -> Vec<String> {
        let found = self.inventory.balancers.get(&node.name);
        let wanted = self.specs[&node.name].kept.iter();
        wanted
            .filter(|(path, hash)| found.and_then(|found| found.get(*path)) != Some(*hash))
            .map(|(path, _)| path.clone())
            .collect()
    }
}
