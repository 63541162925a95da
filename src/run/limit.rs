//! How long a step may take, whatever it waits for.

use std::time::Duration;

use crate::clock::Clock;
use crate::error::{Exit, Failure};
use crate::limits::{span, step};
use crate::plan::Action;

/// The limits of a run's steps, by the pace of its world.
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
    /// How long a step may take: in its own world, and in real time.
    pub(super) fn of(self, action: &Action) -> (Duration, Duration) {
        let limit = if action.act().copies() { step::COPY } else { step::OTHER };
        (limit, self.clock.patience(limit, step::LEAST))
    }
}

/// The failure of a step, told by where it is and what it does, that has passed its limit.
pub(super) fn passed((on, what): &(String, String), limit: Duration) -> Failure {
    let limit = span(limit);
    let said = format!("it did not end within {limit} and is not waited for any longer");
    Failure::new(Exit::NotAsAsked, what.as_str(), said).on(on).hint(
        "something answers, but never comes to an end: `-vv` writes every call to the log;\n\
         what was begun goes on by itself: run the same command again, it looks first and goes on \
         where this one ended"
            .to_owned(),
    )
}
