//! Events as plain lines on stderr, for logs and pipes.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::event::Event;
use super::{Show, duration, screen};
use crate::limits;

pub(super) struct Lines {
    started: Instant,
    output: bool,
    about: BTreeMap<String, (String, String)>,
    running: BTreeMap<String, Running>,
}

/// A running step, and its last messages.
struct Running {
    since: Instant,
    told: Option<Instant>,
    /// Its last message, shown or not.
    said: String,
}

impl Lines {
    pub(super) fn new(output: bool) -> Self {
        let (about, running) = (BTreeMap::new(), BTreeMap::new());
        Self { started: Instant::now(), output, about, running }
    }

    fn line(&mut self, step: &str, text: &str) {
        if let Some(running) = self.running.get_mut(step) {
            running.told = Some(Instant::now());
        }
        let on = self.about.get(step).map_or(step, |(on, _)| on.as_str());
        let at = self.started.elapsed().as_secs_f64();
        screen::say(&format!("{at:7.1}  {on:<14} {text}"));
    }

    /// The steps without a message for a while, each with a line about its progress.
    fn silent(&self, now: Instant) -> Vec<(String, String)> {
        let long = |since: Instant, quiet: Duration| now.duration_since(since) >= quiet;
        let silent = self.running.iter().filter(|(_, running)| match running.told {
            Some(told) => long(told, limits::TOLD_AGAIN),
            None => long(running.since, limits::UNTOLD),
        });
        let line = |(step, running): (&String, &Running)| {
            let what = self.about.get(step).map_or("", |(_, what)| what.as_str());
            let so_far = duration(now.duration_since(running.since).as_secs_f64());
            let said = match running.said.as_str() {
                "" => String::new(),
                said => format!(": {said}"),
            };
            (step.clone(), format!("{what}{said} ({so_far} so far)"))
        };
        silent.map(line).collect()
    }
}

impl Show for Lines {
    fn show(&mut self, event: &Event) {
        match event {
            Event::Started { step, on, what } => {
                self.about.insert(step.clone(), (on.clone(), what.clone()));
                let running = Running { since: Instant::now(), told: None, said: String::new() };
                self.running.insert(step.clone(), running);
                if self.output {
                    self.line(step, what);
                }
            }
            Event::Progress { step, text } => {
                if let Some(running) = self.running.get_mut(step) {
                    running.said.clone_from(text);
                }
                if self.output {
                    self.line(step, text);
                }
            }
            Event::Waiting { step, text } => self.line(step, text),
            Event::Output { step, line } if self.output => self.line(step, &format!("| {line}")),
            Event::Output { .. } => {}
            Event::Retrying { step, what, attempt, error, .. } => {
                self.line(step, &format!("{what}: {error}; trying again ({attempt})"));
            }
            Event::Finished { step, changed, seconds } => {
                self.running.remove(step);
                let what = self.about.get(step).map_or("", |(_, what)| what.as_str());
                let note = if *changed == Some(false) { " (no change needed)" } else { "" };
                self.line(step, &format!("{what}: done in {}{note}", duration(*seconds)));
            }
            Event::Failed { step, error, seconds } => {
                self.running.remove(step);
                let what = self.about.get(step).map_or("", |(_, what)| what.as_str());
                self.line(step, &format!("{what}: FAILED after {}: {error}", duration(*seconds)));
            }
        }
    }

    fn tick(&mut self) {
        for (step, text) in self.silent(Instant::now()) {
            self.line(&step, &text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn a_step_that_is_silent_for_five_seconds_says_what_it_waits_for() {
        let mut lines = Lines::new(false);
        let step = || "clone/m1".to_owned();
        let (on, what) = ("m1".to_owned(), "clone template 9001".to_owned());
        lines.show(&Event::Started { step: step(), on, what });
        lines.show(&Event::Progress { step: step(), text: "waiting for task qmclone".to_owned() });
        advance(Duration::from_secs(4)).await;
        assert_eq!(lines.silent(Instant::now()), []);
        advance(Duration::from_secs(1)).await;
        let line = "clone template 9001: waiting for task qmclone (5.0 s so far)";
        assert_eq!(lines.silent(Instant::now()), [(step(), line.to_owned())]);
        lines.tick();
        assert_eq!(lines.silent(Instant::now()), [], "it was just told");
        advance(Duration::from_secs(30)).await;
        assert_eq!(lines.silent(Instant::now()).len(), 1, "and is told again");
        lines.show(&Event::Finished { step: step(), changed: Some(true), seconds: 35.0 });
        assert_eq!(lines.silent(Instant::now() + Duration::from_secs(60)), []);
    }
}
