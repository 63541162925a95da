//! The time limit of each step.

use std::time::Duration;

use crate::clock::Clock;
use crate::error::{Exit, Failure};
use crate::limits::{span, step};
use crate::plan::Action;

/// The limits of a run's steps, scaled to real or simulated time.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    clock: Clock,
}

impl From<Clock> for Pace {
    fn from(clock: Clock) -> Self {
        Self { clock }
    }
}

impl Pace {
    /// The limit of a step: in real or simulated time, and in real time.
    pub(super) fn of(self, action: &Action) -> (Duration, Duration) {
        let limit = if action.act().copies() { step::COPY } else { step::OTHER };
        (limit, self.clock.patience(limit, step::LEAST))
    }
}

/// The failure of a step that exceeded its limit, with its place and action.
pub(super) fn passed((on, what): &(String, String), limit: Duration) -> Failure {
    let limit = span(limit);
    let said = format!("it did not finish within {limit}");
    Failure::new(Exit::NotAsAsked, what.as_str(), said).on(on).hint(
        "the other side answers, but does not finish: `-vv` writes every call to the log;\nstarted \
         tasks continue in the background: run the same command again, it checks first and resumes \
         where this run stopped"
            .to_owned(),
    )
}
