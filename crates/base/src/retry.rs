//! Retry policies, and the only module that uses the `backoff` crate.
//!
//! A policy is applied only at the edge of an adapter, never around another retry and never around a
//! write whose outcome is unknown: such a write reads its state back first.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use backoff::exponential::{ExponentialBackoff, ExponentialBackoffBuilder};
use tokio::time::Instant;

use crate::event;

/// Tokio's clock, so that limits obey a paused clock too: the crate's own is the system's, under which
/// a paused test would spin for the policy's whole limit in real time.
#[derive(Clone, Copy, Debug, Default)]
struct TokioClock;

impl backoff::Clock for TokioClock {
    fn now(&self) -> std::time::Instant {
        Instant::now().into_std()
    }
}

/// Whether an error is worth a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// A retry cannot help, or is not safe.
    No,
    /// A retry is safe and may help.
    Yes,
}

impl Retry {
    /// [`Retry::Yes`] if the condition holds.
    pub fn when(condition: bool) -> Self {
        if condition { Retry::Yes } else { Retry::No }
    }
}

/// How long and how often an operation is tried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// The wait after the first failure.
    initial: Duration,
    /// The longest wait between two attempts.
    longest: Duration,
    /// The factor by which each wait is longer than the previous one.
    factor: f64,
    /// The random variation of a wait either way, as a fraction; keeps parallel steps from retrying in
    /// lockstep.
    jitter: f64,
    /// No wait starts that would end later than this after the first attempt.
    limit: Duration,
}

impl Policy {
    /// Failed reads and connections: a proxy that restarts, an idle connection that the peer closed.
    /// Short, because a wrong address should be reported soon.
    pub const fn api() -> Self {
        Self {
            initial: Duration::from_millis(250),
            longest: Duration::from_secs(3),
            factor: 2.0,
            jitter: 0.2,
            limit: Duration::from_secs(10),
        }
    }

    /// Locks that another task holds: a storage that copies a disk keeps its lock for minutes.
    pub const fn lock() -> Self {
        Self {
            initial: Duration::from_secs(1),
            longest: Duration::from_secs(10),
            factor: 1.6,
            jitter: 0.3,
            limit: Duration::from_secs(10 * 60),
        }
    }

    /// The same policy with waits divided by `pace`, for a world whose clock runs faster. The limit is
    /// kept: the machine that simulates that world is not faster than any other.
    pub fn paced(self, pace: f64) -> Self {
        let pace = if pace.is_finite() && pace > 0.0 { pace } else { 1.0 };
        Self {
            initial: self.initial.div_f64(pace).max(Duration::from_millis(1)),
            longest: self.longest.div_f64(pace).max(Duration::from_millis(1)),
            ..self
        }
    }

    fn backoff(&self) -> ExponentialBackoff<TokioClock> {
        ExponentialBackoffBuilder::<TokioClock>::new()
            .with_initial_interval(self.initial)
            .with_max_interval(self.longest)
            .with_multiplier(self.factor)
            .with_randomization_factor(self.jitter)
            .with_max_elapsed_time(Some(self.limit))
            .build()
    }
}

/// Runs `op` until it succeeds, fails in a way that `classify` does not retry, or the policy ends.
///
/// Every failure that is followed by a retry is reported as [`event::Event::Retrying`]; `what`
/// completes the sentence "trying again: …". Dropping the future cancels it at once.
///
/// # Errors
/// The last error of `op`.
pub async fn retry<T, E, F, Fut>(
    policy: Policy,
    what: &str,
    mut op: F,
    classify: impl Fn(&E) -> Retry,
) -> Result<T, E>
where
    E: fmt::Display,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let began = Instant::now();
    let mut attempt = 0;
    backoff::future::retry_notify(
        policy.backoff(),
        || {
            let trying = op();
            let classify = &classify;
            async move {
                trying.await.map_err(|error| match classify(&error) {
                    Retry::Yes => backoff::Error::transient(error),
                    Retry::No => backoff::Error::permanent(error),
                })
            }
        },
        |error: E, wait: Duration| {
            attempt += 1;
            tracing::debug!(what, attempt, ?wait, %error, "trying again");
            event::retrying(what, attempt, began.elapsed(), &error);
        },
    )
    .await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::event::{Event, Scope};

    #[tokio::test(start_paused = true)]
    async fn a_transient_error_is_retried_and_reported() {
        let (events, mut told) = unbounded_channel();
        let tries = Cell::new(0);
        let scope = Scope { step: "clone/a".into(), events };
        let done = scope
            .run(retry(
                Policy::lock(),
                "clone VM 101",
                || async {
                    tries.set(tries.get() + 1);
                    if tries.get() < 3 { Err("got timeout") } else { Ok(tries.get()) }
                },
                |_| Retry::Yes,
            ))
            .await;
        assert_eq!(done, Ok(3));
        let mut attempts = Vec::new();
        while let Some(Event::Retrying { step, what, attempt, error, .. }) = told.recv().await {
            assert_eq!((&*step, &*what, &*error), ("clone/a", "clone VM 101", "got timeout"));
            attempts.push(attempt);
        }
        assert_eq!(attempts, [1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_permanent_error_is_not_retried() {
        let tries = Cell::new(0);
        let done: Result<(), _> = retry(
            Policy::api(),
            "read",
            || async {
                tries.set(tries.get() + 1);
                Err("forbidden")
            },
            |_| Retry::No,
        )
        .await;
        assert_eq!((done, tries.get()), (Err("forbidden"), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_policy_ends_at_its_limit_by_the_paused_clock() {
        for policy in [Policy::api(), Policy::lock()] {
            let began = Instant::now();
            let done: Result<(), _> =
                retry(policy, "wait", || async { Err("no") }, |_| Retry::Yes).await;
            assert_eq!(done, Err("no"));
            let spent = began.elapsed();
            assert!(spent <= policy.limit && spent * 2 > policy.limit, "{policy:?} {spent:?}");
        }
    }

    #[test]
    fn a_pace_shortens_waits_but_not_the_limit() {
        let fast = Policy::lock().paced(20.0);
        assert_eq!(fast.initial, Duration::from_millis(50));
        assert_eq!(fast.limit, Policy::lock().limit);
        assert_eq!(Policy::lock().paced(0.0), Policy::lock());
    }
}
