//! Events as plain lines on stderr, for logs and pipes.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Instant;

use super::event::Event;
use super::{Show, duration};

pub(super) struct Lines {
    started: Instant,
    output: bool,
    about: BTreeMap<String, (String, String)>,
}

impl Lines {
    pub(super) fn new(output: bool) -> Self {
        Self { started: Instant::now(), output, about: BTreeMap::new() }
    }

    fn line(&self, step: &str, text: &str) {
        let on = self.about.get(step).map_or(step, |(on, _)| on.as_str());
        let at = self.started.elapsed().as_secs_f64();
        let _ = writeln!(std::io::stderr().lock(), "{at:7.1}  {on:<14} {text}");
    }
}

impl Show for Lines {
    fn show(&mut self, event: &Event) {
        match event {
            Event::Started { step, on, what } => {
                self.about.insert(step.clone(), (on.clone(), what.clone()));
                if self.output {
                    self.line(step, what);
                }
            }
            Event::Progress { step, text } if self.output => self.line(step, text),
            Event::Output { step, line } if self.output => self.line(step, &format!("| {line}")),
            Event::Progress { .. } | Event::Output { .. } => {}
            Event::Retrying { step, what, attempt, error, .. } => {
                self.line(step, &format!("{what}: {error}; trying again ({attempt})"));
            }
            Event::Finished { step, changed, seconds } => {
                let what = self.about.get(step).map_or("", |(_, what)| what.as_str());
                let note = if *changed == Some(false) { " (it was so already)" } else { "" };
                self.line(step, &format!("{what}: done in {}{note}", duration(*seconds)));
            }
            Event::Failed { step, error, seconds } => {
                let what = self.about.get(step).map_or("", |(_, what)| what.as_str());
                self.line(step, &format!("{what}: FAILED after {}: {error}", duration(*seconds)));
            }
            Event::Notice { text } => {
                let _ = writeln!(std::io::stderr().lock(), "{text}");
            }
        }
    }
}
