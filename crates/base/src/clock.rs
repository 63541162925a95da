//! The clock of all waiting: real time, or the faster time of a simulation.

use std::time::Duration;

mod wait;

pub use wait::{Expired, Wait};

/// The shortest real time after which a wait in a simulated world is given up.
const LEAST: Duration = Duration::from_secs(10);

/// The pace of a run's waiting. Pauses and the limits of a [`Wait`] are scaled by the world's speed.
/// Limits of connections are not, because the machine that simulates a world is not faster than any
/// other; a test of those limits shortens them by its own haste.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clock {
    speed: f64,
    haste: f64,
}

impl Default for Clock {
    fn default() -> Self {
        Self::real()
    }
}

impl Clock {
    /// Wall-clock time.
    pub fn real() -> Self {
        Self { speed: 1.0, haste: 1.0 }
    }

    /// A world whose clock runs `speed` times as fast as the real one. A value that is not a positive
    /// number counts as 1.
    pub fn simulated(speed: f64) -> Self {
        Self { speed: positive(speed), haste: 1.0 }
    }

    /// The same with every connection limit divided by `haste`: for a simulated world whose peers are
    /// slow on purpose.
    #[must_use]
    pub fn hurried(self, haste: f64) -> Self {
        Self { haste: positive(haste), ..self }
    }

    /// Seconds of that world per real second.
    pub fn speed(self) -> f64 {
        self.speed
    }

    /// The real duration of a duration in that world.
    pub fn scaled(self, duration: Duration) -> Duration {
        Duration::from_secs_f64(duration.as_secs_f64() / self.speed)
    }

    /// The real time limit of a connection, an answer or a command, whatever the world.
    pub fn limit(self, real: Duration) -> Duration {
        Duration::from_secs_f64(real.as_secs_f64() / self.haste)
    }

    /// The real time limit of the peer's work: its duration in its world, but never less than the limit
    /// `least`.
    pub fn patience(self, work: Duration, least: Duration) -> Duration {
        self.scaled(work).max(self.limit(least))
    }

    /// Waits for a duration of that world.
    pub async fn pause(&self, duration: Duration) {
        tokio::time::sleep(self.scaled(duration)).await;
    }
}

/// A world by its speed.
impl From<f64> for Clock {
    fn from(speed: f64) -> Self {
        Self::simulated(speed)
    }
}

fn positive(factor: f64) -> f64 {
    if factor.is_finite() && factor > 0.0 { factor } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn a_faster_world_waits_less() {
        let start = Instant::now();
        Clock::simulated(20.0).pause(Duration::from_secs(60)).await;
        assert_eq!(start.elapsed().as_secs(), 3);
    }

    #[test]
    fn an_invalid_speed_counts_as_real_time() {
        for speed in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Clock::simulated(speed), Clock::real());
            assert_eq!(Clock::real().hurried(speed), Clock::real());
        }
    }

    #[test]
    fn connection_limits_depend_on_haste_and_not_on_the_worlds_speed() {
        let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
        let fast = Clock::simulated(100.0);
        assert_eq!(fast.limit(minute), minute);
        assert_eq!(fast.hurried(60.0).limit(minute).as_secs(), 1);
        assert_eq!(Clock::real().patience(hour, minute), hour);
        assert_eq!(fast.patience(hour, minute), minute, "36 s would be less");
        assert_eq!(fast.hurried(60.0).patience(hour, minute).as_secs(), 36);
    }
}
