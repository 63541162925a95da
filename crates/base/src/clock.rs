//! How fast time passes for what waits: as usual, or as fast as a simulated world's.

use std::time::Duration;

use tokio::time::Instant;

/// The shortest time after which a simulated world is given up on.
const LEAST: Duration = Duration::from_secs(10);

/// The pace of a run's waiting. Pauses and deadlines are scaled by the world's speed. A connection's
/// limits are not, since the machine that simulates a world is no faster than any other; a test of
/// those limits shortens them by a haste of its own.
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

    /// A world whose clock runs `speed` times as fast as the real one. What is not a positive
    /// number counts as 1.
    pub fn simulated(speed: f64) -> Self {
        Self { speed: positive(speed), haste: 1.0 }
    }

    /// The same with every limit on a connection divided by `haste`: for a simulated world whose
    /// peers are slow on purpose.
    #[must_use]
    pub fn hurried(self, haste: f64) -> Self {
        Self { haste: positive(haste), ..self }
    }

    /// How many seconds of that world pass in a real one.
    pub fn speed(self) -> f64 {
        self.speed
    }

    /// How long a duration of that world lasts in real time.
    pub fn scaled(self, duration: Duration) -> Duration {
        Duration::from_secs_f64(duration.as_secs_f64() / self.speed)
    }

    /// How long a connection, an answer or a command may take in real time, whatever the world.
    pub fn limit(self, real: Duration) -> Duration {
        Duration::from_secs_f64(real.as_secs_f64() / self.haste)
    }

    /// How long in real time the other side's work may take: as long as that lasts in its world, but
    /// never less than the limit `least`.
    pub fn patience(self, work: Duration, least: Duration) -> Duration {
        self.scaled(work).max(self.limit(least))
    }

    /// Waits for a duration of that world.
    pub async fn pause(&self, duration: Duration) {
        tokio::time::sleep(self.scaled(duration)).await;
    }

    /// When waiting for something ends that should have come by then. In a simulated world it lasts
    /// [`LEAST`] or as long as with real hosts, if that is shorter: a busy machine that simulates may
    /// stand still for seconds, which are minutes there.
    pub fn deadline(self, after: Duration) -> Deadline {
        Deadline { at: Instant::now() + self.patience(after, after.min(LEAST)), limit: after }
    }

    /// A point in that world's future: for what is due then, not for what failed by then.
    pub fn due(self, after: Duration) -> Deadline {
        Deadline { at: Instant::now() + self.scaled(after), limit: after }
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
        Clock::simulated(20.0).pause(Duration::from_secs(60)).await;
        assert_eq!(start.elapsed().as_secs(), 3);
        assert!(!Clock::simulated(20.0).deadline(Duration::from_secs(60)).passed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_machine_that_simulates_fast_has_ten_seconds_and_real_hosts_no_second_more() {
        let lasts = |clock: Clock, after| clock.deadline(after).at - Instant::now();
        let (short, long) = (Duration::from_secs(3), Duration::from_secs(3000));
        for (clock, of_short, of_long) in [
            (Clock::real(), 3, 3000),
            (Clock::simulated(150.0), 3, 20),
            (Clock::simulated(1500.0), 3, 10),
            (Clock::simulated(1500.0).hurried(5.0), 1, 2),
        ] {
            assert_eq!(lasts(clock, short).as_secs_f64().ceil(), f64::from(of_short), "{clock:?}");
            assert_eq!(lasts(clock, long).as_secs_f64().ceil(), f64::from(of_long), "{clock:?}");
        }
        assert_eq!(Clock::simulated(150.0).due(short).at - Instant::now(), short / 150);
    }

    #[test]
    fn a_speed_that_makes_no_sense_is_the_real_one() {
        for speed in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Clock::simulated(speed), Clock::real());
            assert_eq!(Clock::real().hurried(speed), Clock::real());
        }
    }

    #[test]
    fn a_connections_limits_know_haste_and_not_the_worlds_speed() {
        let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
        let fast = Clock::simulated(100.0);
        assert_eq!(fast.limit(minute), minute);
        assert_eq!(fast.hurried(60.0).limit(minute).as_secs(), 1);
        assert_eq!(Clock::real().patience(hour, minute), hour);
        assert_eq!(fast.patience(hour, minute), minute, "36 s would be less");
        assert_eq!(fast.hurried(60.0).patience(hour, minute).as_secs(), 36);
    }
}
