//! Decides whether `up` may remove the machines without a row: the user types their names, or gives them
//! with `--prune`. A row that is missing by mistake, as after a bad merge, removes nothing.

use std::collections::BTreeSet;

use crate::cluster::{Cluster, Role};
use crate::error::{Exit, Failure};
use crate::plan::removal::Removal;

/// A machine that would be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rowless {
    /// The name in its mark.
    pub(super) name: String,
    /// Its VM.
    vm: String,
}

/// What remains to be done before they may be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Consent {
    /// Nothing.
    Given,
    /// The user types the names, in any order.
    Ask {
        /// The question.
        question: String,
        /// The names.
        names: BTreeSet<String>,
    },
}

impl Rowless {
    pub(super) fn of(removal: &Removal<'_>) -> Self {
        let vm = format!("VM {} on {}", removal.vm.vmid, removal.vm.host);
        Self { name: removal.node.to_string(), vm }
    }
}

/// Checks `--prune`, if it is given, against the machines that would be removed.
///
/// # Errors
/// If it does not cover all of them.
pub(super) fn consent(
    cluster: &Cluster,
    leaving: &[Rowless],
    prune: Option<&[String]>,
    registered: &BTreeSet<String>,
) -> Result<Consent, Failure> {
    let names: BTreeSet<String> = leaving.iter().map(|one| one.name.clone()).collect();
    let rows: BTreeSet<&str> = cluster.nodes.iter().map(|node| node.name.as_str()).collect();
    let given: BTreeSet<String> = prune.into_iter().flatten().cloned().collect();
    let kept: Vec<&str> = given.iter().map(String::as_str).filter(|it| rows.contains(it)).collect();
    if !kept.is_empty() {
        return Err(refusal(&format!("{} has a row in the profile", kept.join(", ")))
            .hint("remove the rows of the machines to be removed, and name those".to_owned()));
    }
    if let Some(name) = given.difference(&names).find(|name| registered.contains(*name)) {
        let said = format!("{name} has a Node object, but no VM with this cluster's mark");
        return Err(refusal(&said).hint(format!(
            "check in Proxmox VE whether its VM lost the mark in its description or its tag; if the \
             machine is gone: `kubectl delete node {name}.{}`",
            cluster.network.domain
        )));
    }
    if leaving.is_empty() {
        return Ok(Consent::Given);
    }
    let all = listed(leaving);
    let named = flag(&names);
    let Some(prune) = prune else {
        let what = if leaving.len() == 1 { "its name" } else { "their names" };
        let question = format!(
            "The profile has no row for {all}. This drains and removes {} with {}. Type {what} ({}) to \
             continue: ",
            if leaving.len() == 1 { "it" } else { "them" },
            if leaving.len() == 1 { "all its disks" } else { "all their disks" },
            names.iter().cloned().collect::<Vec<_>>().join(" ")
        );
        return Ok(Consent::Ask { question, names });
    };
    if prune.is_empty() {
        let workers = cluster.with_role(Role::Worker).count() + leaving.len();
        if leaving.len() * 3 <= workers {
            return Ok(Consent::Given);
        }
        return Err(refusal(&format!(
            "`--prune` without names covers a third of the {workers} workers at most, and the profile \
             has no row for {all}"
        ))
        .hint(format!("to remove them: `{named}`; otherwise restore their rows")));
    }
    if names.is_subset(&given) {
        return Ok(Consent::Given);
    }
    let missing: Vec<&str> = names.difference(&given).map(String::as_str).collect();
    Err(refusal(&format!(
        "`--prune` does not name {}, for which the profile has no row either",
        missing.join(", ")
    ))
    .hint(format!("to remove all of them: `{named}`; otherwise restore the rows")))
}

/// A note on names that no machine has.
pub(super) fn unknown(leaving: &[Rowless], prune: Option<&[String]>) -> Option<String> {
    let known = |name: &&String| !leaving.iter().any(|one| one.name == **name);
    let unknown: Vec<&str> =
        prune.into_iter().flatten().filter(known).map(String::as_str).collect();
    (!unknown.is_empty()).then(|| {
        format!(
            "there is no machine {}, which `--prune` names: it was removed before, or the name is wrong",
            unknown.join(", ")
        )
    })
}

/// The machines that have no row, for a run that cannot ask.
pub(super) fn unasked(question: &str, names: &BTreeSet<String>) -> Failure {
    let said = question.split(" This drains").next().unwrap_or(question).trim_end_matches('.');
    refusal(&format!("{said}, and standard input is not a terminal to confirm the removal"))
        .hint(format!("to remove them: `{}`; otherwise restore the rows", flag(names)))
}

/// Compares what the user typed with the names.
pub(super) fn matches(typed: &str, names: &BTreeSet<String>) -> bool {
    let typed = typed.split(|c: char| c.is_whitespace() || c == ',').filter(|it| !it.is_empty());
    typed.map(str::to_owned).collect::<BTreeSet<String>>() == *names
}

/// The refusal to remove them.
pub(super) fn refusal(said: &str) -> Failure {
    Failure::new(Exit::NotAsAsked, "remove machines; nothing was changed", said)
}

fn flag(names: &BTreeSet<String>) -> String {
    format!("--prune={}", names.iter().cloned().collect::<Vec<_>>().join(","))
}

fn listed(leaving: &[Rowless]) -> String {
    let one = |it: &Rowless| format!("{} ({})", it.name, it.vm);
    leaving.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fixture;

    fn leaving(names: &[&str]) -> Vec<Rowless> {
        names
            .iter()
            .map(|name| Rowless { name: (*name).into(), vm: "VM 1 on pve1".into() })
            .collect()
    }

    fn given(workers: usize, names: &[&str], prune: Option<&[&str]>) -> Result<Consent, String> {
        let mut cluster = fixture::k8s1();
        let mut row = cluster.nodes[2].clone();
        row.role = Role::Worker;
        for number in 0..workers {
            row.name = crate::cluster::NodeName(format!("w{number}"));
            cluster.nodes.push(row.clone());
        }
        let prune: Option<Vec<String>> =
            prune.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        let registered = BTreeSet::from(["node".to_owned()]);
        consent(&cluster, &leaving(names), prune.as_deref(), &registered)
            .map_err(|failure| failure.said)
    }

    #[test]
    fn without_a_flag_the_user_is_asked_for_all_names() {
        let Ok(Consent::Ask { names, question }) = given(3, &["b", "a"], None) else { panic!() };
        assert_eq!(
            question,
            "The profile has no row for b (VM 1 on pve1), a (VM 1 on pve1). This drains and removes \
             them with all their disks. Type their names (a b) to continue: "
        );
        assert!(matches("b, a\n", &names) && matches("a b", &names));
        for typed in ["", "a", "a b c", "yes", "2"] {
            assert!(!matches(typed, &names), "{typed}");
        }
    }

    #[test]
    fn prune_without_names_covers_a_third_of_the_workers_at_most() {
        assert_eq!(given(2, &["x"], Some(&[])), Ok(Consent::Given));
        assert!(given(1, &["x"], Some(&[])).unwrap_err().contains("a third of the 2 workers"));
        assert!(given(0, &["x"], Some(&[])).is_err());
        assert!(given(3, &["x", "y"], Some(&[])).is_err());
        assert_eq!(given(3, &[], Some(&[])), Ok(Consent::Given));
    }

    #[test]
    fn names_must_cover_every_machine_without_a_row_and_no_row() {
        assert_eq!(given(0, &["x", "y"], Some(&["y", "x"])), Ok(Consent::Given));
        // One of them was removed by an earlier run.
        assert_eq!(given(0, &["x"], Some(&["y", "x"])), Ok(Consent::Given));
        assert!(given(9, &["x", "y"], Some(&["x"])).unwrap_err().contains("does not name y"));
        assert!(given(9, &["x"], Some(&["x", "w1"])).unwrap_err().contains("w1 has a row"));
        assert!(given(9, &[], Some(&["node"])).unwrap_err().contains("node has a Node object"));
        let names = ["x".to_owned(), "y".to_owned()];
        assert!(unknown(&leaving(&["x"]), Some(&names)).unwrap().contains("no machine y,"));
        assert_eq!(unknown(&leaving(&["x", "y"]), Some(&names)), None);
    }
}
