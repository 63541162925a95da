//! The log file: every event and all library logging, as JSON lines.

use std::path::Path;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt};

use crate::error::{Exit, Failure};
use crate::report::log::{Entry, LogFile};

/// Starts logging to a file (mode 0600) if there is one, and at `-vv` to stderr. `RUST_LOG` chooses
/// what.
///
/// # Errors
/// When the file cannot be made.
pub fn start(path: Option<&Path>, verbose: u8) -> Result<(), Failure> {
    let open = |path: &Path| {
        LogFile::start(path).map_err(|error| {
            Failure::caused(Exit::Local, format!("open the log `{}`", path.display()), error)
                .hint("choose another folder with `--state`".to_owned())
        })
    };
    let file = path.map(open).transpose()?;
    let filter =
        || EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,k8sha=debug"));
    let to_file = file
        .map(|file| fmt::layer().json().with_writer(move || file.entry()).with_filter(filter()));
    let to_screen = (verbose > 1)
        .then(|| fmt::layer().with_ansi(false).with_writer(Entry::on_screen).with_filter(filter()));
    // A second call in one process (a test) keeps the first log.
    let _ = tracing_subscriber::registry().with(to_file).with(to_screen).try_init();
    Ok(())
}
