//! Events: what the run tells whoever watches it.
//!
//! A step runs inside a [`Scope`]. Code far below it (a task that is followed, an SSH command, a
//! retry) says what happens through [`progress`], [`output`] and [`retrying`] without having to be
//! handed anything; outside a scope these do nothing. One [`crate::report`] reporter owns the other
//! end of the channel and with it the terminal.

use std::future::Future;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc::UnboundedSender;

/// One thing that happened, in the order in which it happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A step began.
    Started {
        /// The step's id in the plan, such as `clone/k8s1master1`.
        step: String,
        /// The node or host it belongs to.
        on: String,
        /// What it does, as a phrase.
        what: String,
    },
    /// A step has come so far.
    Progress {
        /// The step's id.
        step: String,
        /// How far, as a phrase.
        text: String,
    },
    /// A line that a machine printed while a step ran; secrets are masked.
    Output {
        /// The step's id.
        step: String,
        /// The line, without its end.
        line: String,
    },
    /// Something failed in a way that is safe to try again, and will be.
    Retrying {
        /// The step's id.
        step: String,
        /// What was being done.
        what: String,
        /// How many tries have failed.
        attempt: u32,
        /// Seconds since the first try.
        elapsed_s: f64,
        /// Why the last try failed.
        error: String,
    },
    /// A step ended well.
    Finished {
        /// The step's id.
        step: String,
        /// Whether it changed anything; `false` where all was as wanted already, `None` where it
        /// can only look.
        changed: Option<bool>,
        /// Seconds that it took.
        seconds: f64,
    },
    /// A step failed.
    Failed {
        /// The step's id.
        step: String,
        /// Why, in one line.
        error: String,
        /// Seconds until then.
        seconds: f64,
    },
    /// Something that the person should know, bound to no step.
    Notice {
        /// The sentence.
        text: String,
    },
}

/// Where a step's words go.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The step's id.
    pub step: String,
    /// The reporter's end.
    pub events: UnboundedSender<Event>,
}

tokio::task_local! {
    static SCOPE: Scope;
}

impl Scope {
    /// Runs a future with this scope as the place where its words go.
    pub async fn run<F: Future>(self, future: F) -> F::Output {
        SCOPE.scope(self, future).await
    }
}

fn send(make: impl FnOnce(String) -> Event) {
    // Nobody listening is no fault: the reporter may have gone at the end of a run.
    let _ = SCOPE.try_with(|scope| {
        let _ = scope.events.send(make(scope.step.clone()));
    });
}

/// Says how far the running step has come.
pub fn progress(text: impl Into<String>) {
    send(|step| Event::Progress { step, text: text.into() });
}

/// Passes on a line that a machine printed. The caller has masked secrets.
pub fn output(line: impl Into<String>) {
    send(|step| Event::Output { step, line: line.into() });
}

/// Says that something failed and will be tried again.
pub fn retrying(what: &str, attempt: u32, elapsed: Duration, error: &dyn std::fmt::Display) {
    send(|step| Event::Retrying {
        step,
        what: what.to_owned(),
        attempt,
        elapsed_s: elapsed.as_secs_f64(),
        error: error.to_string(),
    });
}
