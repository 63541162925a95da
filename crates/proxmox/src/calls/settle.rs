//! Repeats a write until it is known to have taken effect: the only place that repeats writes.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::client::{Client, Request};
use crate::error::Error;
use k8sha_base::cause::cause;
use k8sha_base::clock::Wait;
use k8sha_base::event;
use k8sha_base::limits::{self, excerpt, span, task};
use k8sha_base::retry::{Policy, Retry, retry};

/// The state found after a write whose answer was lost.
#[derive(Debug)]
pub(super) enum Look {
    /// It is done.
    Done,
    /// It is in progress.
    Underway,
    /// There is no trace of it.
    Nothing,
    /// It is incomplete, and no task works on it.
    Left(Box<Error>),
}

/// The wait between two looks.
const LOOK_WAIT: Duration = Duration::from_secs(1);
/// How many consecutive looks must find nothing before it counts as proof: a call may still be in the
/// host's queue after the client stopped waiting for the answer.
pub(super) const LOOKS: u32 = 3;
/// How often a write is repeated after proof that nothing happened, or nothing was sent.
const REPEATS: u32 = 3;

/// A failed attempt, and whether another one is safe.
struct Try {
    error: Error,
    again: Retry,
}

impl fmt::Display for Try {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Shown while a step continues: a failed task's log would hide it.
        let line = self.error.to_string();
        f.write_str(&excerpt(line.lines().next().unwrap_or_default(), task::LINE))
    }
}

impl From<Error> for Try {
    fn from(error: Error) -> Self {
        Self { error, again: Retry::No }
    }
}

impl Client {
    /// Sends a write and follows its task, until it is known to be done.
    ///
    /// A lock timeout means that nothing was done, and the write is tried again. If the outcome is
    /// unknown, `look` decides; only if it has found nothing several times is the write repeated. A
    /// refusal after a repeat (`already exists`, `already running`) may be the result of the first
    /// attempt, so the state is checked as well.
    ///
    /// # Errors
    /// The write's, or the look's.
    pub(super) async fn settle<F, Fut>(&self, request: Request, look: F) -> Result<(), Error>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<Look, Error>>,
    {
        // Atomics only so that the future may move between threads.
        let (tries, repeats) = (AtomicU32::new(0), AtomicU32::new(0));
        let count = |counter: &AtomicU32| counter.fetch_add(1, Ordering::Relaxed) + 1;
        let attempt = || async {
            let is_first = count(&tries) == 1;
            let error = match self.write_and_follow(&request).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if error.is_unknown_outcome() {
                event::progress(format!("{error}; reading the state back"));
                if self.look_back(&request, &look).await? {
                    return Ok(());
                }
                return Err(Try { error, again: Retry::when(count(&repeats) <= REPEATS) });
            }
            if matches!(error, Error::Unreachable { .. } | Error::NoAnswer { .. }) {
                // The write was never sent: the connection or the login before it failed. Another
                // attempt is safe.
                return Err(Try { error, again: Retry::when(count(&repeats) <= REPEATS) });
            }
            if error.is_lock_timeout() {
                return Err(Try { error, again: Retry::Yes });
            }
            let refused = error.words().is_some();
            if refused && (!is_first || error.is_present()) {
                match look().await? {
                    Look::Nothing => {}
                    _ if self.look_back(&request, &look).await? => return Ok(()),
                    _ => {}
                }
            }
            Err(error.into())
        };
        let policy = Policy::lock().paced(self.pace());
        let what = format!("{} at `{}`", request.label, self.host());
        retry(policy, &what, attempt, |failed| failed.again).await.map_err(|failed| failed.error)
    }

    async fn write_and_follow(&self, request: &Request) -> Result<(), Error> {
        let Some(upid) = self.write(request).await? else { return Ok(()) };
        match self.follow(&upid).await {
            Ok(_) => Ok(()),
            // The task was started, and continues whether or not k8sha can follow it.
            Err(error @ (Error::Unreachable { .. } | Error::NoAnswer { .. })) => {
                let (host, call) = (self.host().clone(), request.label.clone());
                Err(Error::UnknownOutcome { host, call, why: cause(error) })
            }
            Err(error) => Err(error),
        }
    }

    /// Looks until the write is known to be done (true) or not to have happened (false).
    async fn look_back<F, Fut>(&self, request: &Request, look: &F) -> Result<bool, Error>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<Look, Error>>,
    {
        let label = &request.label;
        let mut wait = Wait::new(self.clock(), task::UNDERWAY, LOOK_WAIT)
            .at_least(limits::LEAST)
            .telling(|()| {
                event::progress(format!(
                    "its answer was lost; waiting for the work that {label} started"
                ));
            });
        let mut nothing = 0;
        loop {
            let left = match look().await? {
                Look::Done => return Ok(true),
                Look::Underway => {
                    nothing = 0;
                    wait.not_yet(()).await.map_err(|expired| Error::UnknownOutcome {
                        host: self.host().clone(),
                        call: label.clone(),
                        why: cause(format!("it has been in progress for {}", span(expired.limit))),
                    })?;
                    continue;
                }
                Look::Nothing => None,
                Look::Left(error) => Some(*error),
            };
            nothing += 1;
            if nothing == LOOKS {
                return left.map_or(Ok(false), Err);
            }
            self.pause(LOOK_WAIT).await;
        }
    }

    /// [`Look::Underway`] if one of k8sha's tasks of that type works on `id`, else nothing.
    pub(super) async fn look_for_task(&self, kind: &str, id: &str) -> Result<Look, Error> {
        let ours = self.identity().user();
        let running = self.running_tasks(kind).await?;
        let found =
            running.iter().any(|task| task.id == id && task.user.split('!').next() == Some(ours));
        Ok(if found { Look::Underway } else { Look::Nothing })
    }
}
