//! Events as JSON lines on stderr.

use super::event::Event;
use super::{Show, screen};

pub(super) struct Json;

impl Show for Json {
    fn show(&mut self, event: &Event) {
        screen::say_json(event);
    }
}
