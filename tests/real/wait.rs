//! Waiting for what is seen, never for a time.

use std::thread;
use std::time::{Duration, Instant};

/// How often is looked.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks until `found` gives something.
///
/// # Panics
/// After `limit`, with what was waited for and what `told` has to say.
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
