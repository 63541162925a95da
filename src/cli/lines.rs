//! The outcome of each step and each node, as lines of the report.

use std::collections::BTreeMap;

use crate::cluster::{Cluster, Role};
use crate::plan::compare::Difference;
use crate::plan::{Action, Disposition, Plan};
use crate::report::summary::{DifferenceLine, EndLine, NodeLine, StepLine};
use crate::run::engine::{End, Outcome};

pub(super) fn steps(plan: &Plan, outcome: &Outcome) -> Vec<StepLine> {
    plan.steps
        .iter()
        .map(|step| StepLine {
            step: step.id.clone(),
            end: match outcome.ends.get(&step.id) {
                Some(End::Done { changed }) => EndLine::Done { changed: *changed },
                Some(End::Failed { .. }) => EndLine::Failed,
                Some(End::Blocked { by }) => EndLine::Blocked { by: by.clone() },
                Some(End::Interrupted) | None => EndLine::Interrupted,
            },
            seconds: outcome.seconds.get(&step.id).copied(),
        })
        .collect()
}

/// Notes on nodes that an interrupted run may have left cordoned.
pub(super) fn cordoned(plan: &Plan, outcome: &Outcome) -> Vec<String> {
    let cut = |id: &str| matches!(outcome.ends.get(id), Some(End::Interrupted));
    let mut notes = Vec::new();
    for step in plan.steps.iter().filter(|step| step.writes()) {
        let (Action::Drain(_) | Action::DeleteNode(_)) = &step.action else { continue };
        if cut(&step.id) && !notes.iter().any(|note: &String| note.starts_with(&step.on)) {
            notes.push(format!(
                "{} may be cordoned: run the same command again to continue, or `up` with its row in the \
                 profile to return it to service",
                step.on
            ));
        }
    }
    notes
}

pub(super) fn differences<'a>(
    found: impl IntoIterator<Item = &'a Difference>,
) -> Vec<DifferenceLine> {
    let line = |one: &Difference| DifferenceLine {
        text: format!("{one} ({})", one.class),
        next: one.next.clone(),
    };
    found.into_iter().map(line).collect()
}

pub(super) fn nodes(cluster: &Cluster, plan: &Plan, outcome: &Outcome) -> Vec<NodeLine> {
    let mut lines = Vec::new();
    for vm in &plan.vms {
        // A machine that leaves has no row.
        let ip = cluster.node(&vm.node).map(|node| node.ip.to_string()).unwrap_or_default();
        let own: Vec<_> = plan.steps.iter().filter(|step| step.on == vm.node.as_str()).collect();
        let ends: BTreeMap<&str, &End> = own
            .iter()
            .filter_map(|step| Some((step.id.as_str(), outcome.ends.get(&step.id)?)))
            .collect();
        let joined = own.iter().find_map(|step| match (&step.action, ends.get(step.id.as_str())) {
            (Action::Init(_), Some(End::Done { .. })) => Some("first control plane"),
            (Action::Balance(_), Some(End::Done { changed: true })) => Some("brought up to date"),
            (Action::EtcdMember(_), Some(End::Done { .. })) => Some("etcd member"),
            (Action::Join(_), Some(End::Done { .. })) => Some(match vm.role {
                Role::Master => "joined as control plane",
                _ => "joined as worker",
            }),
            _ => None,
        });
        let result =
            if let Some((id, _)) = ends.iter().find(|(_, end)| matches!(end, End::Failed { .. })) {
                format!("FAILED at {}", id.split('/').next().unwrap_or(id))
            } else if ends.values().any(|end| **end == End::Interrupted) {
                "interrupted".to_owned()
            } else if ends.values().any(|end| matches!(end, End::Blocked { .. })) {
                "blocked".to_owned()
            } else {
                let made = match vm.disposition {
                    Disposition::Created => "created",
                    Disposition::Changed { .. } => "changed",
                    Disposition::Kept => "kept",
                    Disposition::Started => "started",
                    Disposition::Destroyed => "destroyed",
                    Disposition::Absent => "absent",
                };
                joined.map_or(made.to_owned(), |joined| format!("{made}, {joined}"))
            };
        lines.push(NodeLine {
            node: vm.node.to_string(),
            role: vm.role.to_string(),
            ip,
            host: vm.host.to_string(),
            vmid: vm.vmid.0,
            result,
            seconds: own
                .iter()
                .filter_map(|step| outcome.seconds.get(&step.id))
                .fold(0.0, |sum, seconds| sum + seconds),
        });
    }
    lines
}
