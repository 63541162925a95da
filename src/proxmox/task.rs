//! Tasks: their ids, and following one to its end.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tokio::time::Instant;

use crate::report::event;

use super::client::{Client, Request};
use super::error::{Error, TaskFailure};
use super::params::Params;
use super::wire::{TaskLogLine, TaskStatus, TaskSummary};

/// The first wait between two looks at a task.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// A task that was just begun may not be known yet: its log file is still to be made.
const BIRTH_LIMIT: Duration = Duration::from_secs(2);
/// How long a host may be silent about a task before we give up on it.
const SILENCE_LIMIT: Duration = Duration::from_secs(120);
/// How many lines of a failed task's log are shown.
const TAIL: usize = 15;

/// The id of a task: `UPID:node:pid:pstart:starttime:type:id:user:`.
///
/// Source: pve-common src/PVE/UPID.pm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upid {
    /// The node that runs it, and the one to ask about it.
    pub node: String,
    /// The worker's process id.
    pub pid: u32,
    /// When it was begun, in seconds since 1970 by the node's clock.
    pub starttime: u64,
    /// Its kind, such as `qmclone`.
    pub kind: String,
    /// What it works on; of a clone the source's VMID; may be empty.
    pub id: String,
    /// Who began it: `user@realm`, with `!token` for a token.
    pub user: String,
    text: String,
}

impl fmt::Display for Upid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Upid {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = || format!("`{text}` is not a task id");
        let parts: Vec<&str> = text.split(':').collect();
        let ["UPID", node, pid, pstart, starttime, kind, id, user, ""] = parts.as_slice() else {
            return Err(fault());
        };
        let hex = |text: &str| u64::from_str_radix(text, 16).map_err(|_| fault());
        hex(pstart)?;
        if node.is_empty() || kind.is_empty() || user.is_empty() {
            return Err(fault());
        }
        Ok(Self {
            node: (*node).to_owned(),
            pid: u32::try_from(hex(pid)?).map_err(|_| fault())?,
            starttime: hex(starttime)?,
            kind: (*kind).to_owned(),
            id: (*id).to_owned(),
            user: (*user).to_owned(),
            text: text.to_owned(),
        })
    }
}

/// How a task that succeeded ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskEnd {
    /// `OK`.
    Ok,
    /// `WARNINGS: n`: done, with something in the log to read.
    Warnings(u32),
}

impl TaskEnd {
    /// Reads an exit status; `None` for a failure.
    fn parse(exit: &str) -> Option<Self> {
        match exit.strip_prefix("WARNINGS:") {
            Some(count) => Some(TaskEnd::Warnings(count.trim().parse().unwrap_or(1))),
            None => (exit == "OK").then_some(TaskEnd::Ok),
        }
    }
}

impl Client {
    /// Follows a task to its end, on the node that its id names.
    ///
    /// How far it has come is told as progress where its log says so. A host that does not answer
    /// for a while is waited for: the task goes on without us.
    ///
    /// # Errors
    /// [`Error::Task`] with the log's tail when it fails.
    pub async fn follow(&self, upid: &Upid) -> Result<TaskEnd, Error> {
        let began = Instant::now();
        let mut heard = began;
        let mut wait = FIRST_WAIT;
        let mut lines_seen = 0;
        loop {
            self.pause(wait).await;
            wait = wait.mul_f64(1.5).min(LONGEST_WAIT);
            match self.task_status(upid).await {
                Ok(TaskStatus { status, exitstatus }) => {
                    heard = Instant::now();
                    if status == "stopped" {
                        return self.ended(upid, exitstatus.unwrap_or_default()).await;
                    }
                }
                Err(error) if is_unborn(&error) && began.elapsed() < BIRTH_LIMIT => {}
                Err(error @ (Error::NoAnswer { .. } | Error::Unreachable { .. }))
                    if heard.elapsed() < SILENCE_LIMIT =>
                {
                    event::progress(format!("asking again about the task {}: {error}", upid.kind));
                    continue;
                }
                Err(error) => return Err(error),
            }
            // Short tasks are not worth a second question.
            if wait == LONGEST_WAIT {
                lines_seen = self.tell_progress(upid, lines_seen).await;
            }
        }
    }

    async fn ended(&self, upid: &Upid, exit: String) -> Result<TaskEnd, Error> {
        match TaskEnd::parse(&exit) {
            Some(TaskEnd::Ok) => Ok(TaskEnd::Ok),
            Some(end) => {
                event::progress(format!("task {} of `{}` ended with {exit}", upid.kind, upid.id));
                Ok(end)
            }
            None => {
                // The failure is what counts: a log that cannot be read does not hide it.
                let lines = self.task_log(upid, 0, 0).await.unwrap_or_default();
                let rest = lines.len().saturating_sub(TAIL);
                Err(Error::Task(Box::new(TaskFailure {
                    host: self.host().clone(),
                    upid: upid.clone(),
                    exit,
                    log_tail: lines.into_iter().skip(rest).map(|line| line.t).collect(),
                })))
            }
        }
    }

    /// Tells the newest percentage in the log; answers how many lines have been seen.
    async fn tell_progress(&self, upid: &Upid, seen: u64) -> u64 {
        // Progress is a nicety: a log that cannot be read now is read at the next turn.
        let Ok(lines) = self.task_log(upid, seen, 500).await else { return seen };
        if let Some(percent) = lines.iter().rev().find_map(|line| percentage(&line.t)) {
            event::progress(format!("{} {percent}", upid.kind));
        }
        lines.last().map_or(seen, |line| line.n)
    }

    async fn task_status(&self, upid: &Upid) -> Result<TaskStatus, Error> {
        let upid_text = upid.to_string();
        self.read_once(Request::get(&["nodes", &upid.node, "tasks", &upid_text, "status"])).await
    }

    /// Lines of a task's log, from a line on; a `limit` of 0 means all.
    ///
    /// # Errors
    /// Those of a reading call.
    pub async fn task_log(
        &self,
        upid: &Upid,
        start: u64,
        limit: u32,
    ) -> Result<Vec<TaskLogLine>, Error> {
        let upid_text = upid.to_string();
        let request = Request::get(&["nodes", &upid.node, "tasks", &upid_text, "log"]);
        self.read(request.query(Params::new().with("start", start).with("limit", limit))).await
    }

    /// The tasks of this host that run, of a kind. Others' need Sys.Audit.
    ///
    /// # Errors
    /// Those of a reading call.
    pub async fn running_tasks(&self, kind: &str) -> Result<Vec<TaskSummary>, Error> {
        let query = Params::new().with("source", "active").with("typefilter", kind);
        let request = Request::get(&["nodes", self.host().as_str(), "tasks"]).query(query);
        let mut tasks: Vec<TaskSummary> = self.read(request).await?;
        // The list of the active ones keeps some that have just ended.
        tasks.retain(|task| task.kind == kind && task.is_running());
        Ok(tasks)
    }
}

/// The percentage that a log line speaks of, such as `8.33%` of
/// `transferred 4.0 MiB of 48.0 MiB (8.33%)`.
fn percentage(line: &str) -> Option<&str> {
    let end = line.find('%')?;
    let digits = |c: char| !c.is_ascii_digit() && c != '.';
    let start = line[..end].rfind(digits).map_or(0, |at| at + 1);
    (start < end).then(|| &line[start..=end])
}

fn is_unborn(error: &Error) -> bool {
    matches!(error, Error::Refused(refusal)
        if refusal.status == 400 && refusal.words().contains("no such task"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_ids_are_taken_apart() {
        let text = "UPID:pve1:000000E0:000395D6:6B02EB73:qmclone:9000:root@pam!full:";
        let upid: Upid = text.parse().unwrap();
        assert_eq!(upid.to_string(), text);
        assert_eq!((&*upid.node, &*upid.kind, &*upid.id), ("pve1", "qmclone", "9000"));
        assert_eq!((upid.pid, upid.starttime, &*upid.user), (0xe0, 1_795_353_459, "root@pam!full"));
        let copy: Upid = "UPID:pve1:1:000395D61:6B02EB73:imgcopy::root@pam:".parse().unwrap();
        assert_eq!(copy.id, "");
        for bad in
            ["", "UPID:pve1", "garbage", &text.replace("E0", "XY"), &text.replace("pve1", "")]
        {
            assert!(bad.parse::<Upid>().is_err(), "{bad}");
        }
    }

    #[test]
    fn warnings_are_a_success() {
        assert_eq!(TaskEnd::parse("OK"), Some(TaskEnd::Ok));
        assert_eq!(TaskEnd::parse("WARNINGS: 2"), Some(TaskEnd::Warnings(2)));
        assert_eq!(TaskEnd::parse("clone failed: no space"), None);
        assert_eq!(TaskEnd::parse(""), None);
    }

    #[test]
    fn percentages_are_found_in_log_lines() {
        assert_eq!(percentage("transferred 4.0 MiB of 48.0 MiB (8.33%)"), Some("8.33%"));
        assert_eq!(percentage("     0K ........ ........ 100% 1006M=0s"), Some("100%"));
        assert_eq!(percentage("a % sign"), None);
        assert_eq!(percentage("no sign"), None);
    }
}
