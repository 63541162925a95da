//! Turns the conflicts that block a run into one failure.

use crate::error::{Exit, Failure, Point};
use crate::plan::compare::Class;
use crate::plan::planner::Refusal;
use crate::plan::teardown::Obstacle;

/// All conflicts as one failure: nothing has been changed.
pub(super) fn refused(refusal: &Refusal) -> Failure {
    let conflicts = refusal.conflicts.iter().map(|conflict| Point {
        on: conflict.on.clone(),
        said: conflict.text.clone(),
        hint: conflict.hint.clone(),
    });
    let blocking = refusal.differences.iter().filter(|difference| difference.blocks);
    let differences = blocking.map(|difference| {
        let class = match difference.class {
            // A blocking difference is not reconciled in this run.
            Class::Followed | Class::NotFollowed => Class::NotFollowed,
            Class::NewMachine => Class::NewMachine,
        };
        Point {
            on: difference.on.clone(),
            said: format!("{} ({class})", difference.told()),
            hint: difference.next.clone(),
        }
    });
    let points = conflicts.chain(differences).collect();
    Failure::of(Exit::NotAsAsked, "continue; nothing was changed", points)
}

/// Reported before the first VM is removed, not when Proxmox VE refuses to remove one.
pub(super) fn obstructed(obstacles: &[Obstacle]) -> Failure {
    let said: Vec<&str> = obstacles.iter().map(|one| one.said.as_str()).collect();
    let mut fix: Vec<&str> = obstacles.iter().map(|one| one.fix.as_str()).collect();
    fix.dedup();
    Failure::new(Exit::Proxmox, "destroy the cluster; nothing was removed", said.join("\n"))
        .hint(fix.join("\n"))
}
