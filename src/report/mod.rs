//! The output of a run for users and programs: events while it runs, a report at its end.
//!
//! One reporter owns the terminal. Data goes to stdout, everything else to stderr.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

mod json;
pub mod log;
mod plain;
pub mod screen;
pub mod summary;
mod term;
pub mod time;

pub use k8sha_base::event;

use event::Event;

/// How many of a step's last lines are shown when it fails.
const TAIL: usize = 20;

/// How often slow steps are checked.
const TICK: Duration = Duration::from_secs(1);

/// How progress is shown on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Nothing.
    Quiet,
    /// A row per node, redrawn; for terminals.
    Rows,
    /// A line per event.
    Lines {
        /// Whether the machines' output is shown too.
        output: bool,
    },
    /// A JSON object per line.
    Json,
}

/// Shows events one by one. Events for the user are escaped first: see [`Event::for_a_person`].
trait Show: Send {
    fn show(&mut self, event: &Event);
    /// Called regularly, so that slow steps can be reported.
    fn tick(&mut self) {}
    fn end(&mut self) {}
}

/// The reporter: the receiving end of a run's events.
pub struct Reporter {
    events: UnboundedSender<Event>,
    task: JoinHandle<Tails>,
}

/// The last lines that machines printed, by step.
pub type Tails = BTreeMap<String, Vec<String>>;

impl Reporter {
    /// Starts showing events.
    pub fn start(style: Style) -> Self {
        let (events, receiver) = unbounded_channel();
        let show: Box<dyn Show> = match style {
            Style::Quiet => Box::new(Nothing),
            Style::Rows => Box::new(ForAPerson(term::Rows::new())),
            Style::Lines { output } => Box::new(ForAPerson(plain::Lines::new(output))),
            Style::Json => Box::new(json::Json),
        };
        Self { events, task: tokio::spawn(pump(receiver, show)) }
    }

    /// The sender for events.
    pub fn events(&self) -> UnboundedSender<Event> {
        self.events.clone()
    }

    /// Waits until everything sent so far is shown, and returns the last lines of each step.
    pub async fn end(self) -> Tails {
        drop(self.events);
        self.task.await.unwrap_or_default()
    }
}

async fn pump(mut receiver: UnboundedReceiver<Event>, mut show: Box<dyn Show>) -> Tails {
    let mut tails: BTreeMap<String, VecDeque<String>> = BTreeMap::new();
    let mut ticks = tokio::time::interval(TICK);
    loop {
        let event = tokio::select! {
            event = receiver.recv() => event,
            _ = ticks.tick() => {
                show.tick();
                continue;
            }
        };
        let Some(event) = event else { break };
        tracing::info!(target: "k8sha::event", event = %serde_json::to_string(&event).unwrap_or_default());
        if let Event::Output { step, line } = &event {
            let tail = tails.entry(step.clone()).or_default();
            if tail.len() == TAIL {
                tail.pop_front();
            }
            tail.push_back(line.clone());
        }
        show.show(&event);
    }
    show.end();
    tails.into_iter().map(|(step, tail)| (step, tail.into())).collect()
}

/// Forwards events in the form for users.
struct ForAPerson<S>(S);

impl<S: Show> Show for ForAPerson<S> {
    fn show(&mut self, event: &Event) {
        self.0.show(&event.for_a_person());
    }

    fn tick(&mut self) {
        self.0.tick();
    }

    fn end(&mut self) {
        self.0.end();
    }
}

struct Nothing;

impl Show for Nothing {
    fn show(&mut self, _event: &Event) {}
}

/// A duration for the user: `0.4 s`, `12 s`, `3 min 05 s`.
pub fn duration(seconds: f64) -> String {
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match (whole / 60, whole % 60) {
        (0, seconds) => format!("{seconds} s"),
        (minutes, seconds) => format!("{minutes} min {seconds:02} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_naturally() {
        for (seconds, want) in [
            (0.04, "0.0 s"),
            (9.94, "9.9 s"),
            (9.96, "10 s"),
            (59.6, "1 min 00 s"),
            (185.0, "3 min 05 s"),
        ] {
            assert_eq!(duration(seconds), want);
        }
    }
}
