//! Events: progress reported during a run.
//!
//! A step runs inside a [`Scope`]. Code far below it (following a task, an SSH command, a retry)
//! reports through [`progress`], [`output`] and [`retrying`] without any parameter; outside a scope
//! these do nothing. One `report` reporter owns the other end of the channel and the terminal.

use std::future::Future;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc::UnboundedSender;

use crate::secrets::mask;
use crate::text::one_line;

/// An event; events are in the order in which they happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A step started.
    Started {
        /// The step's id in the plan, such as `clone/k8s1master1`.
        step: String,
        /// The node or host it belongs to.
        on: String,
        /// A phrase that describes it.
        what: String,
    },
    /// A step made progress.
    Progress {
        /// The step's id.
        step: String,
        /// The progress, as a phrase.
        text: String,
    },
    /// A line that a machine printed while a step ran; secrets are masked.
    Output {
        /// The step's id.
        step: String,
        /// The line, without its end.
        line: String,
    },
    /// An operation failed in a way that is safe to retry, and will be retried.
    Retrying {
        /// The step's id.
        step: String,
        /// The operation.
        what: String,
        /// The number of failed attempts.
        attempt: u32,
        /// Seconds since the first attempt.
        elapsed_s: f64,
        /// Why the last attempt failed.
        error: String,
    },
    /// A step succeeded.
    Finished {
        /// The step's id.
        step: String,
        /// Whether it changed anything; `false` if everything already was as wanted, `None` if it can
        /// only look.
        changed: Option<bool>,
        /// Its duration in seconds.
        seconds: f64,
    },
    /// A step failed.
    Failed {
        /// The step's id.
        step: String,
        /// Why, in one line.
        error: String,
        /// Its duration in seconds.
        seconds: f64,
    },
    /// A wait takes longer than a user would expect.
    Waiting {
        /// The step's id, or the host or node that is waited for.
        step: String,
        /// The awaited state, as a phrase.
        text: String,
    },
}

impl Event {
    /// The event with secrets masked and its texts safe for a terminal, each on one line: a machine's
    /// output cannot move the cursor, nor pass for a line of k8sha's.
    pub fn for_a_person(&self) -> Self {
        let mut event = self.clone();
        let clean = |text: &mut String| *text = one_line(&mask(text)).into_owned();
        match &mut event {
            Self::Started { step, on, what } => [step, on, what].into_iter().for_each(clean),
            Self::Progress { step, text } | Self::Waiting { step, text } => {
                [step, text].into_iter().for_each(clean);
            }
            Self::Output { step, line } => [step, line].into_iter().for_each(clean),
            Self::Retrying { step, what, error, .. } => {
                [step, what, error].into_iter().for_each(clean);
            }
            Self::Finished { step, .. } => clean(step),
            Self::Failed { step, error, .. } => [step, error].into_iter().for_each(clean),
        }
        event
    }
}

/// The destination of a step's events.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The step's id.
    pub step: String,
    /// The reporter's end of the channel.
    pub events: UnboundedSender<Event>,
}

tokio::task_local! {
    static SCOPE: Scope;
}

impl Scope {
    /// Runs a future with this scope as the destination of its events.
    pub async fn run<F: Future>(self, future: F) -> F::Output {
        SCOPE.scope(self, future).await
    }
}

/// The scope of the current work, if there is one: for spawned work, which leaves its scope.
pub fn listener() -> Option<UnboundedSender<Event>> {
    SCOPE.try_with(|scope| scope.events.clone()).ok()
}

fn send(make: impl FnOnce(String) -> Event) {
    // A closed channel is not an error: the reporter may have ended with the run.
    let _ = SCOPE.try_with(|scope| {
        let _ = scope.events.send(make(scope.step.clone()));
    });
}

/// Reports the progress of the running step.
pub fn progress(text: impl Into<String>) {
    send(|step| Event::Progress { step, text: text.into() });
}

/// Does some work, and reports what is waited for once it has taken longer than `quiet`.
pub async fn untold<F: Future>(quiet: Duration, what: impl Fn() -> String, work: F) -> F::Output {
    let mut work = std::pin::pin!(work);
    match tokio::time::timeout(quiet, &mut work).await {
        Ok(done) => done,
        Err(_) => {
            progress(what());
            work.await
        }
    }
}

/// Passes on a line that a machine printed. The caller has masked secrets.
pub fn output(line: impl Into<String>) {
    send(|step| Event::Output { step, line: line.into() });
}

/// Reports that an operation failed and will be retried.
pub fn retrying(what: &str, attempt: u32, elapsed: Duration, error: &dyn std::fmt::Display) {
    send(|step| Event::Retrying {
        step,
        what: what.to_owned(),
        attempt,
        elapsed_s: elapsed.as_secs_f64(),
        error: error.to_string(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_of_an_event_is_escaped_for_display() {
        crate::secrets::learn("event-secret");
        let hostile = || "a\x1b[2J\u{9b}\u{202e}\nerror: event-secret".to_owned();
        let step = hostile;
        let events = [
            Event::Started { step: step(), on: hostile(), what: hostile() },
            Event::Progress { step: step(), text: hostile() },
            Event::Waiting { step: step(), text: hostile() },
            Event::Output { step: step(), line: hostile() },
            Event::Retrying {
                step: step(),
                what: hostile(),
                attempt: 1,
                elapsed_s: 1.0,
                error: hostile(),
            },
            Event::Finished { step: step(), changed: None, seconds: 1.0 },
            Event::Failed { step: step(), error: hostile(), seconds: 1.0 },
        ];
        for event in events {
            let text = serde_json::to_string(&event.for_a_person()).unwrap();
            assert!(!text.contains("\\nerror:") || text.contains("\\\\nerror:"), "{text}");
            assert!(!text.contains("event-secret"), "{text}");
            for raw in ["\\u001b", "\u{9b}", "\u{202e}"] {
                assert!(!text.contains(raw), "{raw:?} in {text}");
            }
        }
    }
}
