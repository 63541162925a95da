//! Steps of an unfinished plan: each need is either planned or already done.

use std::collections::BTreeSet;

use super::action::StepId;
use super::{Action, Step};

/// The steps planned so far.
#[derive(Debug, Default)]
pub(super) struct Steps {
    steps: Vec<Step>,
    planned: BTreeSet<StepId>,
    done: BTreeSet<StepId>,
    unknown: Vec<String>,
}

impl Steps {
    /// Adds the step of an action, to run after its needs. A need that is already done adds no
    /// dependency; one that is neither planned nor done is a bug in k8sha and is reported by
    /// [`Steps::unknown`].
    pub(super) fn add(
        &mut self,
        on: impl ToString,
        action: impl Into<Action>,
        needs: &[StepId],
    ) -> StepId {
        let action = action.into();
        let id = action.id();
        if self.has(&id) {
            self.unknown.push(format!("`{id}` is planned twice"));
        }
        let known = |need: &&StepId| self.has(need) || self.done.contains(*need);
        let unknown: Vec<String> = needs
            .iter()
            .filter(|need| !known(need))
            .map(|need| format!("`{id}` needs `{need}`, which is neither planned nor already done"))
            .collect();
        self.unknown.extend(unknown);
        let mut waits: Vec<String> = Vec::new();
        let mut told = BTreeSet::new();
        for need in needs.iter().filter(|need| self.has(need)) {
            if told.insert(need) {
                waits.push(need.to_string());
            }
        }
        self.steps.push(Step { id: id.to_string(), on: on.to_string(), action, needs: waits });
        self.planned.insert(id.clone());
        id
    }

    /// Records that a step is already done.
    pub(super) fn done(&mut self, id: StepId) {
        self.done.insert(id);
    }

    /// Whether a step is planned.
    pub(super) fn has(&self, id: &StepId) -> bool {
        self.planned.contains(id)
    }

    /// Whether nothing is planned.
    pub(super) fn is_empty(&self) -> bool {
        self.planned.is_empty()
    }

    /// Every step planned so far.
    pub(super) fn all(&self) -> Vec<StepId> {
        self.planned.iter().cloned().collect()
    }

    /// Bugs found in the plan itself.
    pub(super) fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// The steps, each after its needs.
    pub(super) fn into_steps(self) -> Vec<Step> {
        self.steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::NodeName;
    use crate::plan::action;

    fn renew(name: &str) -> action::EtcdClient {
        action::EtcdClient { node: NodeName(name.to_owned()) }
    }

    #[test]
    fn a_need_that_is_done_asks_for_nothing_and_one_that_is_not_known_is_told() {
        let mut steps = Steps::default();
        let clone = |name: &str| StepId::Clone(NodeName(name.to_owned()));
        steps.done(clone("a"));
        let first = steps.add("a", renew("a"), &[clone("a")]);
        steps.add("b", renew("b"), std::slice::from_ref(&first));
        assert!(steps.unknown().is_empty(), "{steps:?}");
        steps.add("c", renew("c"), &[clone("c"), first.clone(), first]);
        steps.add("c", renew("c"), &[]);
        assert_eq!(
            steps.unknown(),
            [
                "`etcd-client/c` needs `clone/c`, which is neither planned nor already done",
                "`etcd-client/c` is planned twice"
            ]
        );
        let needs: Vec<Vec<String>> = steps.into_steps().into_iter().map(|it| it.needs).collect();
        assert_eq!(
            needs[..3],
            [vec![], vec!["etcd-client/a".to_owned()], vec!["etcd-client/a".to_owned()]]
        );
    }
}
