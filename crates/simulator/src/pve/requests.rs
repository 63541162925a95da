//! The log of the requests that reached the simulator.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::world::SimTime;

/// A request and its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The contacted node.
    pub host: String,
    /// The method.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// The parameters of the body, without passwords: texts, or lists of texts for a repeated name.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub form: serde_json::Map<String, serde_json::Value>,
    /// The status of the answer; 0 if the connection was closed instead.
    pub status: u16,
    /// When it was answered, in simulated milliseconds.
    pub at: SimTime,
    /// The error of the check against Proxmox's own schema, if it was checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub violation: Option<String>,
}

impl std::fmt::Display for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} on {}", self.method, self.path, self.host)?;
        match &self.violation {
            Some(violation) => write!(f, ": {violation}"),
            None => Ok(()),
        }
    }
}

impl Request {
    /// Whether it could have changed something.
    #[cfg(test)]
    pub(crate) fn is_write(&self) -> bool {
        self.method != "GET"
    }
}

/// Keeps requests in memory, and as lines of JSON in a file if there is a folder.
#[derive(Debug, Default)]
pub struct RequestLog {
    seen: Mutex<(Vec<Request>, Option<File>)>,
}

/// The log's name in a world's folder.
const FILE: &str = "requests.jsonl";

impl RequestLog {
    /// A log that also appends to `requests.jsonl` in a folder.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn open(folder: Option<&Path>) -> io::Result<Self> {
        let file = match folder {
            Some(folder) => {
                Some(OpenOptions::new().create(true).append(true).open(folder.join(FILE))?)
            }
            None => None,
        };
        Ok(Self { seen: Mutex::new((Vec::new(), file)) })
    }

    /// Records a request. Write errors are ignored: the memory has it.
    pub fn keep(&self, request: Request) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(file), Ok(mut line)) = (seen.1.as_mut(), serde_json::to_vec(&request)) {
            line.push(b'\n');
            drop(file.write_all(&line));
        }
        seen.0.push(request);
    }

    /// The requests since the start of the simulator.
    pub fn all(&self) -> Vec<Request> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// The requests in a folder's log, of all starts.
    ///
    /// # Errors
    /// If the file cannot be read, or a line is not a request.
    #[cfg(test)]
    pub(crate) fn read(folder: &Path) -> io::Result<Vec<Request>> {
        let text = std::fs::read_to_string(folder.join(FILE))?;
        text.lines().map(|line| serde_json::from_str(line).map_err(io::Error::from)).collect()
    }
}
