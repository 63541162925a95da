//! Simulated time, and the clock that derives it from real time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Milliseconds of simulated time since the world was made.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct SimTime(pub u64);

impl SimTime {
    /// This instant plus a simulated duration.
    pub fn after(self, seconds: f64) -> SimTime {
        SimTime(self.0 + (seconds * 1000.0).round() as u64)
    }

    /// Seconds since the world was made.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1000.0
    }
}

/// Converts real time into simulated time.
///
/// With an infinite speed no real time counts: simulated time stands still until a task sleeps,
/// which takes it forward at once, or [`Clock::skip_to`] is called. What happens then depends only
/// on the requests.
#[derive(Clone, Debug)]
pub struct Clock {
    started: Instant,
    from: SimTime,
    speed: f64,
    skipped: Arc<AtomicU64>,
}

impl Clock {
    /// A clock that shows `from` now and runs `speed` times as fast as the real one.
    pub fn new(from: SimTime, speed: f64) -> Self {
        Self { started: Instant::now(), from, speed, skipped: Arc::default() }
    }

    /// The simulated instant.
    pub fn now(&self) -> SimTime {
        let skipped = SimTime(self.from.0 + self.skipped.load(Ordering::Relaxed));
        if self.speed.is_infinite() {
            return skipped;
        }
        skipped.after(self.started.elapsed().as_secs_f64() * self.speed)
    }

    /// Takes the clock forward to an instant, unless it is past it.
    pub fn skip_to(&self, at: SimTime) {
        let missing = at.0.saturating_sub(self.now().0);
        self.skipped.fetch_add(missing, Ordering::Relaxed);
    }

    /// Waits until a simulated instant.
    pub async fn sleep_until(&self, at: SimTime) {
        tokio::time::sleep(self.until(at)).await;
        if self.speed.is_infinite() {
            self.skip_to(at);
        }
    }

    /// Waits for so many simulated seconds.
    pub async fn sleep(&self, seconds: f64) {
        self.sleep_until(self.now().after(seconds)).await;
    }

    /// How long to wait, in real time, until a simulated instant.
    pub fn until(&self, at: SimTime) -> Duration {
        let left = at.seconds() - self.now().seconds();
        Duration::from_secs_f64((left / self.speed).max(0.0))
    }

    /// How long a simulated duration lasts in real time.
    pub fn real(&self, seconds: f64) -> Duration {
        Duration::from_secs_f64((seconds / self.speed).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_clock_of_infinite_speed_is_moved_by_nothing_but_sleeping_and_skipping() {
        let clock = Clock::new(SimTime(500), f64::INFINITY);
        tokio::task::yield_now().await;
        assert_eq!(clock.now(), SimTime(500));
        clock.sleep(3.0).await;
        assert_eq!(clock.clone().now(), SimTime(3_500));
        clock.skip_to(SimTime(10_000));
        clock.skip_to(SimTime(4_000));
        clock.sleep_until(SimTime(9_000)).await;
        assert_eq!(clock.now(), SimTime(10_000));
    }
}
