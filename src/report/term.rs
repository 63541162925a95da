//! Events as rows on a terminal: one per node, with its step and the step's duration.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::event::Event;
use super::{Show, duration};

/// A busy row: its current step, and the step's duration.
const BUSY: &str = "{spinner} {prefix:14} {elapsed:>4} {wide_msg}";
/// A waiting row: its last step.
const IDLE: &str = "  {prefix:14}      {wide_msg}";

pub(super) struct Rows {
    screen: MultiProgress,
    rows: BTreeMap<String, Row>,
    steps: BTreeMap<String, (String, String)>,
}

struct Row {
    bar: ProgressBar,
    running: Vec<String>,
}

impl Rows {
    pub(super) fn new() -> Self {
        Self { screen: MultiProgress::new(), rows: BTreeMap::new(), steps: BTreeMap::new() }
    }

    fn row(&mut self, on: &str) -> &mut Row {
        let screen = &self.screen;
        self.rows.entry(on.to_owned()).or_insert_with(|| {
            let bar = screen.add(ProgressBar::no_length());
            bar.set_style(style(BUSY));
            bar.set_prefix(on.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            Row { bar, running: Vec::new() }
        })
    }

    fn ended(&mut self, step: &str, last: &str) {
        let Some((on, _)) = self.steps.get(step).cloned() else { return };
        let steps = self.steps.clone();
        let row = self.row(&on);
        row.running.retain(|running| running != step);
        match row.running.last().and_then(|step| steps.get(step)) {
            Some((_, what)) => row.bar.set_message(what.clone()),
            None => {
                row.bar.set_style(style(IDLE));
                row.bar.set_message(last.to_owned());
            }
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
        .tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ")
}

impl Show for Rows {
    fn show(&mut self, event: &Event) {
        match event {
            Event::Started { step, on, what } => {
                self.steps.insert(step.clone(), (on.clone(), what.clone()));
                let row = self.row(on);
                row.running.push(step.clone());
                row.bar.set_style(style(BUSY));
                row.bar.reset_elapsed();
                row.bar.set_message(what.clone());
            }
            Event::Progress { step, text } => {
                if let Some((on, what)) = self.steps.get(step).cloned() {
                    self.row(&on).bar.set_message(format!("{what}: {text}"));
                }
            }
            Event::Output { .. } => {}
            Event::Retrying { step, what, attempt, error, .. } => {
                let on = self.steps.get(step).map_or(step.as_str(), |(on, _)| on).to_owned();
                let text = format!("{on}: {what}: {error}; trying again ({attempt})");
                let _ = self.screen.println(text);
            }
            Event::Finished { step, seconds, .. } => {
                let what = self.steps.get(step).map_or("", |(_, what)| what.as_str()).to_owned();
                self.ended(step, &format!("✓ {what} ({})", duration(*seconds)));
            }
            Event::Failed { step, error, .. } => {
                let on = self.steps.get(step).map_or(step.as_str(), |(on, _)| on).to_owned();
                let _ = self.screen.println(format!("{on}: FAILED: {error}"));
                self.ended(step, "✗ failed");
            }
            Event::Waiting { step, text } => {
                let on = self.steps.get(step).map_or(step.as_str(), |(on, _)| on);
                let _ = self.screen.println(format!("{on}: {text}"));
            }
        }
    }

    fn end(&mut self) {
        for row in self.rows.values() {
            row.bar.finish_and_clear();
        }
        let _ = self.screen.clear();
    }
}
