//! Events as JSON lines on stderr.

use std::io::Write as _;

use super::Show;
use super::event::Event;

pub(super) struct Json;

impl Show for Json {
    fn show(&mut self, event: &Event) {
        if let Ok(line) = serde_json::to_string(event) {
            // A reader that has gone away must not end the run.
            let _ = writeln!(std::io::stderr().lock(), "{line}");
        }
    }
}
