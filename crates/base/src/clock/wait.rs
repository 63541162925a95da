//! The only way to wait for what another machine does: look, wait, look again, until it is done or a
//! limit has passed.
//!
//! ```text
//! let mut wait = Wait::new(clock, LIMIT, PAUSE);
//! loop {
//!     match look().await? {
//!         Some(found) => return Ok(found),
//!         None => wait.not_yet("nothing").await.map_err(|expired| …)?,
//!     }
//! }
//! ```
//!
//! It is a value and not a function that takes the look as a closure: rustc cannot yet prove that an
//! async closure which borrows can move between threads (rust-lang/rust#139475).

use std::time::Duration;

use tokio::time::Instant;

use super::{Clock, LEAST};
use crate::limits::{TOLD_AGAIN, UNTOLD};

/// A limit passed before the wanted state was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired<S> {
    /// The last state that was seen.
    pub seen: S,
    /// The limit that passed, in the world's time.
    pub limit: Duration,
}

/// Describes what is waited for, given the last state.
type Tell<'a, S> = Box<dyn FnMut(&S) + Send + 'a>;

/// A wait with a limit, which starts when it is created. Every look that has not found the wanted state
/// ends in [`Wait::not_yet`] or [`Wait::away`], which pause. `S` is the state that such a look has
/// seen.
pub struct Wait<'a, S> {
    clock: Clock,
    pause: Duration,
    slowest: Option<Duration>,
    limit: Duration,
    began: Instant,
    end: Instant,
    away: Option<Duration>,
    away_until: Option<Instant>,
    quiet: Instant,
    tell: Option<Tell<'a, S>>,
}

impl<'a, S> Wait<'a, S> {
    /// A wait of at most `limit`, with a pause between two looks; both are in the world's time. A
    /// simulated world gets ten seconds of real time, or as long as real hosts if that is shorter: a
    /// busy machine that simulates may stall for seconds, which are minutes there.
    pub fn new(clock: Clock, limit: Duration, pause: Duration) -> Self {
        let now = Instant::now();
        Self {
            clock,
            pause,
            slowest: None,
            limit,
            began: now,
            end: now + clock.patience(limit, limit.min(LEAST)),
            away: None,
            away_until: None,
            quiet: now + clock.scaled(UNTOLD),
            tell: None,
        }
    }

    /// Waits for at least this long in real time, whatever the world's speed.
    #[must_use]
    pub fn at_least(self, least: Duration) -> Self {
        Self { end: Instant::now() + self.clock.patience(self.limit, least), ..self }
    }

    /// Pauses longer the longer it has waited: a tenth of that time, up to `slowest` in the world's time.
    /// After a long wait a short delay in noticing the end does not matter.
    #[must_use]
    pub fn slowing(self, slowest: Duration) -> Self {
        Self { slowest: Some(slowest), ..self }
    }

    /// Gives up after as many consecutive looks that ended in [`Wait::away`] as fit into `limit`, in
    /// the world's time.
    #[must_use]
    pub fn away_at_most(self, limit: Duration) -> Self {
        Self { away: Some(limit), ..self }
    }

    /// Reports what is waited for if that takes longer than [`UNTOLD`], and again every [`TOLD_AGAIN`].
    #[must_use]
    pub fn telling(self, tell: impl FnMut(&S) + Send + 'a) -> Self {
        Self { tell: Some(Box::new(tell)), ..self }
    }

    /// Pauses after a look that has seen a state other than the wanted one.
    ///
    /// # Errors
    /// If the limit has passed; it does not pause then.
    pub async fn not_yet(&mut self, seen: S) -> Result<(), Expired<S>> {
        self.away_until = None;
        self.again(seen).await
    }

    /// Pauses after a look that got no answer, or was refused: see [`Wait::away_at_most`].
    ///
    /// # Errors
    /// If one of the two limits has passed; it does not pause then.
    pub async fn away(&mut self, seen: S) -> Result<(), Expired<S>> {
        if let Some(limit) = self.away {
            let (now, patience) = (Instant::now(), self.clock.patience(limit, limit.min(LEAST)));
            if now >= *self.away_until.get_or_insert(now + patience) {
                return Err(Expired { seen, limit });
            }
        }
        self.again(seen).await
    }

    async fn again(&mut self, seen: S) -> Result<(), Expired<S>> {
        let now = Instant::now();
        if now >= self.end {
            return Err(Expired { seen, limit: self.limit });
        }
        if let Some(tell) = self.tell.as_mut().filter(|_| now >= self.quiet) {
            tell(&seen);
            self.quiet = now + self.clock.scaled(TOLD_AGAIN);
        }
        let tenth = |slowest| (now - self.began).div_f64(10.0).min(self.clock.scaled(slowest));
        let pause = self.slowest.map_or(Duration::ZERO, tenth);
        tokio::time::sleep(pause.max(self.clock.scaled(self.pause))).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn up_to<'a>(limit: u64) -> Wait<'a, u64> {
        Wait::new(Clock::real(), seconds(limit), seconds(1))
    }

    enum Look {
        Done,
        NotYet,
        Away,
    }

    /// Looks every second at the state that `say` returns for that second; returns when it ended, and
    /// how.
    async fn poll(
        mut wait: Wait<'_, u64>,
        say: impl Fn(u64) -> Look,
    ) -> (Result<(), Expired<u64>>, u64) {
        let began = Instant::now();
        loop {
            let at = began.elapsed().as_secs();
            let waited = match say(at) {
                Look::Done => return (Ok(()), at),
                Look::NotYet => wait.not_yet(at).await,
                Look::Away => wait.away(at).await,
            };
            if let Err(expired) = waited {
                return (Err(expired), began.elapsed().as_secs());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_succeeds_in_time_and_gives_up_at_its_limit() {
        let comes = |at| if at < 4 { Look::NotYet } else { Look::Done };
        assert_eq!(poll(up_to(9), comes).await, (Ok(()), 4));
        let expired = Expired { seen: 9, limit: seconds(9) };
        assert_eq!(poll(up_to(9), |_| Look::NotYet).await, (Err(expired), 9));
        assert_eq!(poll(up_to(9), |_| Look::Away).await, (Err(expired), 9));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_has_its_own_limit_which_an_answer_resets() {
        let wait = || up_to(60).away_at_most(seconds(10));
        let mute = |at| if at < 5 { Look::NotYet } else { Look::Away };
        assert_eq!(poll(wait(), mute).await, (Err(Expired { seen: 15, limit: seconds(10) }), 15));
        let stutters = |at: u64| if at.is_multiple_of(8) { Look::NotYet } else { Look::Away };
        assert_eq!(
            poll(wait(), stutters).await,
            (Err(Expired { seen: 60, limit: seconds(60) }), 60)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_wait_reports_repeatedly_what_it_waits_for() {
        let mut told = Vec::new();
        let wait = up_to(70).telling(|seen| told.push(*seen));
        assert_eq!(poll(wait, |_| Look::NotYet).await.1, 70);
        assert_eq!(told, [5, 35, 65]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_wait_looks_less_often() {
        let looks = Mutex::new(Vec::new());
        let look = |at| {
            looks.lock().unwrap().push(at);
            Look::NotYet
        };
        assert!(poll(up_to(80).slowing(seconds(4)), look).await.0.is_err());
        let looks = looks.into_inner().unwrap();
        assert_eq!(looks[..11], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        let pauses: Vec<u64> = looks.windows(2).map(|two| two[1] - two[0]).collect();
        assert!(pauses.ends_with(&[4, 4, 4, 4]), "{looks:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_machine_that_simulates_fast_has_ten_seconds_and_real_hosts_no_second_more() {
        let lasts = |clock, limit| Wait::<()>::new(clock, limit, seconds(1)).end - Instant::now();
        let (short, long) = (seconds(3), seconds(3000));
        for (clock, of_short, of_long) in [
            (Clock::real(), 3, 3000),
            (Clock::simulated(150.0), 3, 20),
            (Clock::simulated(1500.0), 3, 10),
            (Clock::simulated(1500.0).hurried(5.0), 1, 2),
        ] {
            assert_eq!(lasts(clock, short).as_secs_f64().ceil(), f64::from(of_short), "{clock:?}");
            assert_eq!(lasts(clock, long).as_secs_f64().ceil(), f64::from(of_long), "{clock:?}");
        }
        let fast = Wait::<()>::new(Clock::simulated(150.0), short, seconds(1));
        assert_eq!(fast.at_least(seconds(30)).end - Instant::now(), seconds(30));
    }
}
