//! Turns what the run's own look finds on k8sha's machines into findings: the same list that
//! `plan`, `up` and `status` show. Pure.

use super::finding::{Finding, Severity};
use crate::plan::compare::Difference;
use crate::plan::conflicts::Conflict;

/// Conflicts that block a run, and drift from the profile.
pub fn findings(conflicts: &[Conflict], differences: &[Difference]) -> Vec<Finding> {
    let conflicts = conflicts.iter().map(|conflict| {
        let severity = if conflict.underway { Severity::Warning } else { Severity::Error };
        let fix = conflict.hint.lines().map(str::to_owned).collect();
        Finding::new(severity, &conflict.on, &conflict.text, fix)
    });
    let differences = differences.iter().map(|difference| {
        let severity = if difference.blocks { Severity::Error } else { Severity::Warning };
        let text = format!("{} ({})", difference.told(), difference.class);
        Finding::new(severity, &difference.on, text, vec![difference.next.clone()])
    });
    conflicts.chain(differences).collect()
}
