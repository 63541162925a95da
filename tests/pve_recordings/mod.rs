//! Exchanges with a real Proxmox VE 9.2, if they are present beside the checkout.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Prints a line that is shown even if the test passes: the test runner captures the output of the
/// print macros.
pub fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The folder of the material, which is not part of this repository.
pub fn material() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/reference")
}

/// The recorded exchanges in chronological order; `None`, reported on standard error, if there are
/// none.
pub fn exchanges() -> Option<Vec<Value>> {
    read("exchanges.jsonl")
}

/// Those of the second recording.
#[allow(dead_code, reason = "not every test replays both")]
pub fn more_exchanges() -> Option<Vec<Value>> {
    read("exchanges-2.jsonl")
}

fn read(name: &str) -> Option<Vec<Value>> {
    let file = material().join("pve-recordings").join(name);
    let Ok(text) = std::fs::read_to_string(file) else {
        tell(&format!("SKIPPED: no {name} of a real Proxmox VE beside this checkout"));
        return None;
    };
    Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}
