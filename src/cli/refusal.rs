//! What stands in the way of a run, as one failure.

use crate::error::{Exit, Failure, Point};
use crate::plan::compare::Class;
use crate::plan::planner::Refusal;
use crate::plan::teardown::Obstacle;

/// All that stands in the way as one failure: nothing has been written.
pub(super) fn refused(refusal: &Refusal) -> Failure {
    let conflicts = refusal.conflicts.iter().map(|conflict| Point {
        on: conflict.on.clone(),
        said: conflict.text.clone(),
        hint: conflict.hint.clone(),
    });
    let blocking = refusal.differences.iter().filter(|difference| difference.blocks);
    let differences = blocking.map(|difference| {
        let class = match difference.class {
            // What blocks is not followed now, whatever else is.
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
    Failure::of(Exit::NotAsAsked, "go on; nothing was written", points)
}

/// Told before the first machine goes, not when Proxmox VE refuses one of them.
pub(super) fn obstructed(obstacles: &[Obstacle]) -> Failure {
    let said: Vec<&str> = obstacles.iter().map(|one| one.said.as_str()).collect();
    let mut fix: Vec<&str> = obstacles.iter().map(|one| one.fix.as_str()).collect();
    fix.dedup();
    Failure::new(Exit::Proxmox, "remove the cluster; nothing was removed", said.join("\n"))
        .hint(fix.join("\n"))
}
