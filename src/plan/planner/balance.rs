//! Planning the load balancers' configuration.

use super::{Draft, spec};
use crate::cluster::{Node, NodeName, Role};
use crate::plan::Action;

impl Draft<'_> {
    /// Brings the balancers up to date that are there already: a new one has its files from
    /// cloud-init.
    ///
    /// In every part of the job: what a machine is made of belongs to `provision`, and `bootstrap`
    /// must not let masters join that nobody will ask. It comes before the VIP is looked at, and so
    /// before init and joins: until a master is ready, haproxy's own look keeps it out.
    ///
    /// One after the other, for the VIP to have somewhere to be. Where one fails, the next keeps what
    /// it has.
    pub(super) fn balance(&mut self) {
        let cluster = self.cluster;
        let mut before: Option<String> = None;
        for node in cluster.with_role(Role::LoadBalancer) {
            let files = self.outdated(node);
            if !self.part.covers(&node.host) || self.ours(node).is_none() || files.is_empty() {
                continue;
            }
            let name: NodeName = node.name.clone();
            let id = format!("balance/{name}");
            let mut needs = vec![format!("node-dns/{name}")];
            needs.extend(before.replace(id.clone()));
            self.step(id, &node.name, Action::Balance { node: name, files }, &needs);
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

    /// What is to be known of a machine that has booted with other documents than those of now.
    pub(super) fn unread(&self, node: &Node) -> Option<String> {
        let (name, wanted) = (&node.name, &self.specs[&node.name]);
        let drive = self.ours(node).and_then(|vm| vm.config.get(spec::SEED_DRIVE));
        if drive.is_some_and(|drive| spec::lacks_only_kept(drive, &wanted.seed_file)) {
            return None;
        }
        let kept: Vec<&str> =
            wanted.kept.keys().map(|path| path.rsplit('/').next().unwrap_or(path)).collect();
        let but = match kept.as_slice() {
            [] => String::new(),
            names => format!(" (but for {}, which are kept up to date)", names.join(" and ")),
        };
        Some(format!(
            "{name}: its cloud-init documents have changed; a machine that has booted does not read \
             them again{but}, `k8sha rebuild` makes it anew"
        ))
    }
}
