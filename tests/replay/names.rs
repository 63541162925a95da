//! Maps names of the recording to names of the simulator: UPIDs, tickets, secrets, digests.

use std::time::{SystemTime, UNIX_EPOCH};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

/// Characters that a browser's `encodeURIComponent` does not encode, as in the recorded client.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, COMPONENT).to_string()
}

/// Recorded names and the simulator's.
#[derive(Default)]
pub struct Names {
    pairs: Vec<(String, String)>,
}

impl Names {
    /// Adds a pair.
    pub fn learn(&mut self, recorded: &str, simulated: &str) {
        self.pairs.retain(|(known, _)| known != recorded);
        self.pairs.push((recorded.to_owned(), simulated.to_owned()));
        // The longest first: a name may be a part of another.
        self.pairs.sort_by_key(|(known, _)| std::cmp::Reverse(known.len()));
    }

    /// Whether a recorded name has one in the simulator.
    pub fn knows(&self, recorded: &str) -> bool {
        self.pairs.iter().any(|(known, _)| known == recorded)
    }

    /// Whether a simulated name is in use.
    pub fn is_taken(&self, simulated: &str) -> bool {
        self.pairs.iter().any(|(_, taken)| taken == simulated)
    }

    /// A recorded text with the simulator's names, percent-encoded where the recorded ones were.
    pub fn translate(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (recorded, simulated) in &self.pairs {
            text = text.replace(recorded, simulated);
            text = text.replace(&encoded(recorded), &encoded(simulated));
        }
        text
    }

    /// Learns the expiry time in a request: one that was in the future when it was recorded is as far
    /// in the future now.
    pub fn learn_expiry(&mut self, exchange: &Value) {
        let Some(recorded) = exchange["form"]["expire"].as_u64() else { return };
        let Some(ahead) = recorded.checked_sub(exchange["t"].as_f64().unwrap() as u64) else {
            return;
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        self.learn(&recorded.to_string(), &(now + ahead).to_string());
    }

    /// Learns the names in an answer: a task, a ticket, a token's secret, a process.
    pub fn learn_from(&mut self, recorded: &Value, simulated: &Value) {
        let (recorded, simulated) = (&recorded["data"], &simulated["data"]);
        if let (Some(old), Some(new)) = (recorded.as_str(), simulated.as_str())
            && old.starts_with("UPID:")
            && new.starts_with("UPID:")
        {
            self.learn(old, new);
        }
        for key in ["ticket", "CSRFPreventionToken", "value"] {
            if let (Some(old), Some(new)) = (recorded[key].as_str(), simulated[key].as_str()) {
                self.learn(old, new);
            }
        }
        if let (Some(old), Some(new)) = (recorded["pid"].as_u64(), simulated["pid"].as_u64()) {
            self.learn(&format!("pid={old}"), &format!("pid={new}"));
        }
    }
}
