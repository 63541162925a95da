//! The record of step times: read before a run, extended after it. A run never depends on it.

use std::collections::BTreeMap;

use super::session::Session;
use crate::plan::times::Times;
use crate::plan::{Disposition, Plan, PlannedVm, length};
use crate::report::screen;
use crate::report::time::{Expected, Link};
use crate::run::engine::{End, Outcome};

/// The record of earlier runs; an empty one if there is none that can be used.
pub(super) fn recorded(session: &Session) -> Times {
    let speed = session.world.clock().speed();
    let read = match session.state.times() {
        Ok(None) => return Times::new(speed),
        Ok(Some(bytes)) => Times::read(&bytes, speed),
        Err(error) => Err(error.to_string()),
    };
    read.unwrap_or_else(|error| {
        tracing::warn!(%error, "the record of step times is not used and will be replaced");
        Times::new(speed)
    })
}

/// Adds a run to the record and writes it.
pub(super) fn keep(session: &Session, plan: &Plan, outcome: &Outcome, mut times: Times) {
    let done = |(id, end): (&'_ String, &End)| match end {
        End::Done { changed } => Some((id.clone(), (*changed, *outcome.seconds.get(id)?))),
        _ => None,
    };
    let took: BTreeMap<String, (bool, f64)> = outcome.ends.iter().filter_map(done).collect();
    let took = took.iter().map(|(id, took)| (id.as_str(), *took)).collect();
    if !times.learn(plan, &took) {
        return;
    }
    if let Err(error) = session.state.keep_times(&times.bytes()) {
        tracing::warn!(%error, "the step times were not recorded");
    }
}

/// Says how long a plan will take, if the record says enough about it.
pub(super) fn announce(
    session: &Session,
    plan: &Plan,
    times: &Times,
    queue_length: usize,
) -> Option<Expected> {
    if plan.is_settled() {
        return None;
    }
    let forecast = length::forecast(plan, times, queue_length)?;
    let length::Forecast { seconds, runs, unrecorded } = forecast;
    let expected = Expected { seconds, runs, steps: plan.steps.len(), unrecorded };
    if !session.common.quiet && !session.common.json {
        let removed = |vm: &PlannedVm| vm.disposition == Disposition::Destroyed;
        let what = if plan.vms.iter().all(removed) {
            " for the removal"
        } else if !plan.look_again.is_empty() {
            " until k8sha looks again and plans the rest"
        } else {
            ""
        };
        screen::say(&expected.line(what));
    }
    Some(expected)
}

/// The longest chain with the time of each of its steps.
pub(super) fn chain(ids: &[String], outcome: &Outcome) -> Vec<Link> {
    let seconds = |id: &String| outcome.seconds.get(id).copied().unwrap_or_default();
    ids.iter().map(|id| Link { step: id.clone(), seconds: seconds(id) }).collect()
}
