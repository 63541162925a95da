//! Writes logs: each event as a whole, masked and escaped.
//!
//! A log is read with `less`, `cat` or `tail -f`, so it needs the same escaping as a terminal.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::OFlags;

use super::screen;

/// A log file (mode 0600) of one JSON object per line. Each `Entry` is one event.
#[derive(Clone, Debug)]
pub struct LogFile(Arc<Mutex<File>>);

impl LogFile {
    /// Creates the file or appends to it.
    ///
    /// # Errors
    /// If it cannot be opened, or is a link.
    pub fn start(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let options = options.create(true).append(true).mode(0o600);
        let file = options.custom_flags(OFlags::NOFOLLOW.bits() as i32).open(path)?;
        Ok(Self(Arc::new(Mutex::new(file))))
    }

    /// Creates the writer of one event.
    pub fn entry(&self) -> Entry {
        Entry { text: Vec::new(), to: Some(self.clone()) }
    }
}

/// One event for a log file or stderr. It is written only when it is complete, so that a secret
/// that arrives in two pieces is found.
#[derive(Debug)]
pub struct Entry {
    text: Vec<u8>,
    to: Option<LogFile>,
}

impl Entry {
    /// An event for stderr.
    pub fn on_screen() -> Self {
        Self { text: Vec::new(), to: None }
    }
}

impl Write for Entry {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.text);
        let text = text.trim_end_matches('\n');
        if text.is_empty() {
            return;
        }
        match &self.to {
            // Further lines are indented: they must not look like separate events.
            None => screen::say(&text.replace('\n', "\n    | ")),
            Some(LogFile(file)) => {
                let line = format!("{}\n", screen::harmless_json(text));
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                // A full disk must not end the run.
                let _ = file.write_all(line.as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_secret_in_two_pieces_is_masked_and_the_file_is_private() {
        crate::secrets::learn("log-in-two-pieces");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let log = LogFile::start(&path).unwrap();
        let mut entry = log.entry();
        entry.write_all(b"{\"said\":\"log-in-tw").unwrap();
        entry.write_all(b"o-pieces \xc2\x9b\"}\n").unwrap();
        drop(entry);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"said\":\"[masked] \\u009b\"}\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_link_is_no_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), &path).unwrap();
        assert!(LogFile::start(&path).is_err());
    }
}
