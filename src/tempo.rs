//! How fast time passes for whoever waits: as usual, or as fast as a simulated world does.

use std::time::Duration;

use tokio::time::Instant;

/// The pace of a run's waiting. Only pauses and deadlines are scaled, never a connection's limits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tempo {
    speed: f64,
}

impl Default for Tempo {
    fn default() -> Self {
        Self::real()
    }
}

impl Tempo {
    /// Time as everybody knows it.
    pub fn real() -> Self {
        Self { speed: 1.0 }
    }

    /// A world whose clock runs `speed` times as fast as the real one. What is not a positive
    /// number counts as 1.
    pub fn simulated(speed: f64) -> Self {
        Self { speed: if speed.is_finite() && speed > 0.0 { speed } else { 1.0 } }
    }

    /// How many seconds of that world pass in a real one.
    pub fn speed(self) -> f64 {
        self.speed
    }

    /// How long a duration of that world lasts in real time.
    pub fn scaled(self, duration: Duration) -> Duration {
        Duration::from_secs_f64(duration.as_secs_f64() / self.speed)
    }

    /// Waits for a duration of that world.
    pub async fn pause(&self, duration: Duration) {
        tokio::time::sleep(self.scaled(duration)).await;
    }

    /// A point in that world's future.
    pub fn deadline(self, after: Duration) -> Deadline {
        Deadline { at: Instant::now() + self.scaled(after), limit: after }
    }
}

/// The instant at which waiting ends.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Instant,
    limit: Duration,
}

impl Deadline {
    /// Whether the instant is past.
    pub fn passed(self) -> bool {
        Instant::now() >= self.at
    }

    /// How long the wait was allowed to last, in the world's time.
    pub fn limit(self) -> Duration {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_faster_world_waits_less() {
        let start = Instant::now();
        Tempo::simulated(20.0).pause(Duration::from_secs(60)).await;
        assert_eq!(start.elapsed().as_secs(), 3);
        assert!(!Tempo::simulated(20.0).deadline(Duration::from_secs(60)).passed());
    }

    #[test]
    fn a_speed_that_makes_no_sense_is_the_real_one() {
        for speed in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Tempo::simulated(speed), Tempo::real());
        }
    }
}
