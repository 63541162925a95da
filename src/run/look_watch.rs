//! Reports what delays a look: shown after a second, and named if the look exceeds its limit.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, timeout};

use crate::error::{Exit, Failure};
use crate::limits::{self, look, span};
use crate::report::event::{self, Event};

/// What a look waits for. Cheap to clone: the parts of a look run concurrently.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    events: Option<UnboundedSender<Event>>,
    slow: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Watch {
    /// Reports to the scope of the current task.
    pub(super) fn here() -> Self {
        Self { events: event::listener(), slow: Arc::default() }
    }

    /// Runs a part of the look, and reports what it waits for if it takes long, and again every
    /// half minute.
    pub(super) async fn over<F: Future>(&self, on: &str, what: &str, work: F) -> F::Output {
        let began = Instant::now();
        let mut work = std::pin::pin!(work);
        let mut quiet = look::SLOW;
        loop {
            if let Ok(done) = timeout(quiet, &mut work).await {
                self.slow().remove(on);
                return done;
            }
            let so_far = began.elapsed();
            let since = match quiet {
                look::SLOW => String::new(),
                _ => format!(" ({} so far)", span(so_far)),
            };
            self.slow().insert(on.to_owned(), what.to_owned());
            self.say(on, format!("waiting for {what}{since}"));
            quiet = limits::TOLD_AGAIN;
        }
    }

    /// Reports what is waited for.
    pub(super) fn say(&self, on: &str, text: String) {
        if let Some(events) = &self.events {
            // A closed reporter is not an error.
            let _ = events.send(Event::Waiting { step: on.to_owned(), text });
        }
    }

    /// Ends a look that exceeds its limit, naming what it still waits for.
    ///
    /// # Errors
    /// The error of the look, or that it exceeded the limit.
    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        look: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        match timeout(limit, look).await {
            Ok(done) => done,
            Err(_) => Err(self.passed(limit)),
        }
    }

    fn passed(&self, limit: Duration) -> Failure {
        let slow = self.slow();
        let names: Vec<&str> = slow.keys().map(String::as_str).collect();
        let waits = slow.iter().map(|(on, what)| format!("{on}: still waiting for {what}"));
        let said = format!("it did not finish within {}", span(limit));
        let said: Vec<String> = std::iter::once(said).chain(waits).collect();
        let failure = Failure::new(
            Exit::Proxmox,
            "read the state of the hosts and machines",
            said.join("\n"),
        );
        let failure = if names.is_empty() { failure } else { failure.on(names.join(", ")) };
        failure.hint(
            "nothing was changed; `-vv` writes every call to the log, and `k8sha doctor` checks \
             each host separately"
                .to_owned(),
        )
    }

    fn slow(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.slow.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::event::Scope;
    use tokio::sync::mpsc::unbounded_channel;
    use tokio::time::sleep;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn who_answers_late_is_named_after_a_second_and_then_every_half_minute() {
        let (events, mut told) = unbounded_channel();
        let scope = Scope { step: "look".into(), events };
        scope
            .run(async {
                let watch = Watch::here();
                watch.over("pve1", "its answers", sleep(Duration::from_millis(900))).await;
                watch.over("pve2", "its answers", sleep(MINUTE)).await;
            })
            .await;
        let mut texts = Vec::new();
        while let Some(Event::Waiting { step, text }) = told.recv().await {
            texts.push(format!("{step} {text}"));
        }
        assert_eq!(
            texts,
            ["pve2 waiting for its answers", "pve2 waiting for its answers (31 s so far)"]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_without_end_is_ended_and_says_who_kept_it_waiting() {
        let watch = Watch::default();
        let began = Instant::now();
        let looked = watch.within(MINUTE * 5, async {
            watch.over("pve1", "its answers", sleep(MINUTE)).await;
            watch.over("k8s1master1", "its answers by SSH", sleep(MINUTE * 60)).await;
            Ok(())
        });
        let failure = looked.await.unwrap_err();
        assert_eq!(began.elapsed(), MINUTE * 5);
        assert_eq!(failure.on.as_deref(), Some("k8s1master1"));
        assert_eq!(
            failure.said,
            "it did not finish within 5 min\nk8s1master1: still waiting for its answers by SSH"
        );
    }
}
