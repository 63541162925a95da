//! Waits for a condition, never for a fixed time.

use std::thread;
use std::time::{Duration, Instant};

/// The polling interval.
const PAUSE: Duration = Duration::from_millis(20);

/// Polls until `found` returns something.
///
/// # Panics
/// After `limit`, with the awaited condition and the output of `told`.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut found: impl FnMut() -> Option<T>,
    told: impl Fn() -> String,
) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}\n{}", told());
        thread::sleep(PAUSE);
    }
}
