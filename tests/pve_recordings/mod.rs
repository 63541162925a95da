//! Exchanges with a real Proxmox VE 9.2, where they lie beside the checkout.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Says something that is seen also when the test passes: the test runner keeps what the print
/// macros print to itself.
pub fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The folder of the material, which is no part of this tree.
pub fn material() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/reference")
}

/// The recorded exchanges in the order in which they happened; `None`, said on standard error,
/// where there are none.
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
