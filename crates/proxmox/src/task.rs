//! Tasks: their ids (UPIDs), and waiting for a task to end.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use tokio::time::Instant;

use k8sha_base::clock::{Clock, Expired, Wait};
use k8sha_base::event;
use k8sha_base::limits::{self, excerpt, http, span, task};

use super::board::State;
use super::client::{Client, Request};
use super::error::{EndlessTask, Error, TaskFailure};
use super::params::Params;
use super::wire::{TaskLogLine, TaskStatus, TaskSummary};

/// The longest wait between two looks at a long task, besides its node's own pace.
const LONGEST_WAIT: Duration = Duration::from_secs(3);
/// How often a long task's log is read, for its progress.
const LOG_WAIT: Duration = Duration::from_secs(10);

/// The id of a task: `UPID:node:pid:pstart:starttime:type:id:user:`.
///
/// Parsed as Proxmox VE itself does (pve-common src/PVE/Tools.pm, `upid_decode`), but more strictly
/// in fields for which that accepts almost anything: an id goes into the path of a request and onto
/// a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upid {
    /// The node that runs it, which is the one to query.
    pub node: String,
    /// The worker's process id.
    pub pid: u32,
    /// When it was started, in seconds since 1970 by the node's clock.
    pub starttime: u64,
    /// Its type, such as `qmclone`.
    pub kind: String,
    /// Its object; for a clone the source's VMID; may be empty.
    pub id: String,
    /// Its user: `user@realm`, with `!token` for a token.
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
        let fault = || format!("`{}` is not a task id", excerpt(text, 80));
        let is_safe = |byte: u8| byte.is_ascii_graphic() && !b"/\"'`$".contains(&byte);
        let safe = text.bytes().all(is_safe) && !text.contains("..");
        if text.len() > task::UPID_BYTES || !safe {
            return Err(fault());
        }
        let parts: Vec<&str> = text.split(':').collect();
        let ["UPID", node, pid, pstart, starttime, kind, id, user, ""] = parts.as_slice() else {
            return Err(fault());
        };
        let hex = |text: &str, digits: RangeInclusive<usize>| {
            let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
            let number = u64::from_str_radix(text, 16).ok();
            number.filter(|_| is_hex && digits.contains(&text.len())).ok_or_else(fault)
        };
        // Twenty years after its boot a host writes one digit more.
        hex(pstart, 8..=9)?;
        if !is_node(node) || kind.is_empty() || user.is_empty() {
            return Err(fault());
        }
        Ok(Self {
            node: (*node).to_owned(),
            pid: u32::try_from(hex(pid, 8..=8)?).map_err(|_| fault())?,
            starttime: hex(starttime, 8..=8)?,
            kind: (*kind).to_owned(),
            id: (*id).to_owned(),
            user: (*user).to_owned(),
            text: text.to_owned(),
        })
    }
}

/// Whether a text can be the name of a node: a DNS label.
fn is_node(text: &str) -> bool {
    let is_inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(is_inside)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// The result of a successful task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskEnd {
    /// `OK`.
    Ok,
    /// `WARNINGS: n`: done, with warnings in the log.
    Warnings(u32),
}

impl TaskEnd {
    /// Parses an exit status; `None` for a failure.
    pub(super) fn parse(exit: &str) -> Option<Self> {
        match exit.strip_prefix("WARNINGS:") {
            Some(count) => Some(TaskEnd::Warnings(count.trim().parse().unwrap_or(1))),
            None => (exit == "OK").then_some(TaskEnd::Ok),
        }
    }
}

impl Client {
    /// Follows a task to its end, on the node in its id.
    ///
    /// Its progress is reported if its log shows it. A host that does not answer for a while is waited
    /// for: the task continues meanwhile.
    ///
    /// # Errors
    /// [`Error::Task`] with the log's tail if it fails.
    pub async fn follow(&self, upid: &Upid) -> Result<TaskEnd, Error> {
        let limit = task::time(&upid.kind);
        let (first, least) = waits(&upid.kind);
        let mut wait =
            Wait::new(self.clock(), limit, least).at_least(limits::LEAST).slowing(LONGEST_WAIT);
        // By real time, like all limits on answers; the looks themselves come at the node's pace.
        let silence = self.clock().limit(task::SILENCE);
        let hearing = || Wait::new(Clock::real(), silence, Duration::ZERO);
        let mut silent = hearing();
        let began = Instant::now();
        let place = self.board().wait(upid);
        // In a much faster world a log per look would be too many requests.
        let real = |time| self.clock().scaled(time).max(Duration::from_secs(1));
        let mut log = began + real(LOG_WAIT);
        let mut watch = Watch::new(upid, self.clock(), limit);
        self.pause(first).await;
        loop {
            match self.state(&place).await {
                Ok(State::Ended(exit)) => return self.ended(upid, exit).await,
                Ok(State::Running) => silent = hearing(),
                Err(error) if is_unborn(&error) && began.elapsed() < task::BIRTH => {}
                Err(error @ (Error::NoAnswer { .. } | Error::Unreachable { .. })) => {
                    let again = format!("querying the task {} again: {error}", upid.kind);
                    silent.not_yet(error).await.map_err(|expired| expired.seen)?;
                    event::progress(again);
                    continue;
                }
                Err(error) => return Err(error),
            }
            // Short tasks are not worth a second request.
            if log <= Instant::now() {
                log = Instant::now() + real(LOG_WAIT);
                self.turn(&place).await;
                self.tell_progress(&mut watch).await;
            } else {
                watch.tell_wait();
            }
            wait.not_yet(()).await.map_err(|Expired { limit, .. }| {
                let (host, upid) = (self.host().clone(), upid.clone());
                Error::EndlessTask(Box::new(EndlessTask { host, upid, limit }))
            })?;
        }
    }

    async fn ended(&self, upid: &Upid, exit: String) -> Result<TaskEnd, Error> {
        match TaskEnd::parse(&exit) {
            Some(TaskEnd::Ok) => Ok(TaskEnd::Ok),
            Some(end) => {
                let exit = excerpt(&exit, task::LINE);
                event::progress(format!("task {} of `{}` ended with {exit}", upid.kind, upid.id));
                Ok(end)
            }
            None => {
                // The failure is what counts: a log that cannot be read does not hide it.
                let lines = self.whole_log(upid).await.unwrap_or_default();
                let rest = lines.len().saturating_sub(task::TAIL);
                let shown = lines.iter().skip(rest).map(|line| excerpt(&line.t, task::LINE));
                Err(Error::Task(Box::new(TaskFailure {
                    host: self.host().clone(),
                    upid: upid.clone(),
                    exit: excerpt(&exit, http::WORDS),
                    log_tail: shown.collect(),
                })))
            }
        }
    }

    /// Reports the newest percentage in the log, or how long the task has been waited for.
    async fn tell_progress(&self, watch: &mut Watch<'_>) {
        // Progress is optional: a log that cannot be read now is read at the next turn.
        let lines = self.task_log(watch.upid, watch.lines, task::LINES).await.unwrap_or_default();
        watch.lines = lines.last().map_or(watch.lines, |line| line.n);
        match lines.iter().rev().find_map(|line| percentage(&line.t)) {
            Some(percent) => watch.tell(format!("{} {percent}", watch.upid.kind)),
            None => watch.tell_wait(),
        }
    }

    pub(super) async fn task_status(&self, upid: &Upid) -> Result<TaskStatus, Error> {
        let upid_text = upid.to_string();
        self.read_once(Request::get(&["nodes", &upid.node, "tasks", &upid_text, "status"])).await
    }

    async fn whole_log(&self, upid: &Upid) -> Result<Vec<TaskLogLine>, Error> {
        let upid_text = upid.to_string();
        let request = Request::log(&["nodes", &upid.node, "tasks", &upid_text, "log"]);
        self.read(request.query(Params::new().with("start", 0).with("limit", 0))).await
    }

    /// Lines of a task's log, starting at a line.
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
        let request = Request::list(&["nodes", &upid.node, "tasks", &upid_text, "log"]);
        self.read(request.query(Params::new().with("start", start).with("limit", limit))).await
    }

    /// The running tasks of this host of a type. Others' need Sys.Audit.
    ///
    /// # Errors
    /// Those of a reading call.
    pub async fn running_tasks(&self, kind: &str) -> Result<Vec<TaskSummary>, Error> {
        let query = Params::new().with("source", "active").with("typefilter", kind);
        let request = Request::list(&["nodes", self.host().as_str(), "tasks"]).query(query);
        let mut tasks: Vec<TaskSummary> = self.read(request).await?;
        // The list of the active ones keeps some that have just ended.
        tasks.retain(|task| task.kind == kind && task.is_running());
        Ok(tasks)
    }
}

/// The progress reported while a task is followed.
struct Watch<'a> {
    upid: &'a Upid,
    clock: Clock,
    limit: Duration,
    began: Instant,
    told: Option<Instant>,
    lines: u64,
}

impl<'a> Watch<'a> {
    fn new(upid: &'a Upid, clock: Clock, limit: Duration) -> Self {
        Self { upid, clock, limit, began: Instant::now(), told: None, lines: 0 }
    }

    fn tell(&mut self, text: String) {
        self.told = Some(Instant::now());
        event::progress(text);
    }

    /// Reports what is waited for, if nothing was reported for a while.
    fn tell_wait(&mut self) {
        // In a much faster world a line per look would be too much to read.
        let quiet = |since: Instant, time| {
            since.elapsed() > self.clock.scaled(time).max(Duration::from_secs(1))
        };
        let quiet = match self.told {
            Some(told) => quiet(told, limits::TOLD_AGAIN),
            None => quiet(self.began, limits::UNTOLD),
        };
        if quiet {
            let Upid { kind, id, node, .. } = self.upid;
            let so_far = span(self.began.elapsed().mul_f64(self.clock.speed()));
            let most = span(self.limit);
            self.tell(format!("waiting for task {kind} of `{id}` on {node}: {so_far} of {most}"));
        }
    }
}

/// The wait before the first look at a task of this type, and the least one before each further look.
///
/// An estimate of how long such tasks take on a small host, so that most have ended at the first look;
/// a wrong one costs a request or a moment. Tasks that copy an image take seconds, downloads longer.
fn waits(kind: &str) -> (Duration, Duration) {
    let (first, again) = match kind {
        "download" => (4000, 2000),
        "qmcreate" | "qmmove" => (3000, 1000),
        "qmstart" => (1400, 0),
        "qmclone" => (500, 0),
        "imgcopy" => (400, 0),
        _ => (200, 0),
    };
    (Duration::from_millis(first), Duration::from_millis(again))
}

/// The percentage in a log line, such as `8.33%` of `transferred 4.0 MiB of 48.0 MiB (8.33%)`.
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
    fn task_ids_are_parsed() {
        let text = "UPID:pve1:000000E0:000395D6:6B02EB73:qmclone:9000:root@pam!full:";
        let upid: Upid = text.parse().unwrap();
        assert_eq!(upid.to_string(), text);
        assert_eq!((&*upid.node, &*upid.kind, &*upid.id), ("pve1", "qmclone", "9000"));
        assert_eq!((upid.pid, upid.starttime, &*upid.user), (0xe0, 1_795_353_459, "root@pam!full"));
        let copy: Upid =
            "UPID:pve1:000000E0:000395D61:6B02EB73:imgcopy::root@pam:".parse().unwrap();
        assert_eq!(copy.id, "");
        for bad in
            ["", "UPID:pve1", "garbage", &text.replace("E0", "XY"), &text.replace("pve1", "")]
        {
            assert!(bad.parse::<Upid>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_id_that_could_change_the_path_is_rejected() {
        let good = "UPID:pve1:000000E0:000395D6:6B02EB73:download:a..b.img:root@pam!k8sha:";
        for (from, to) in [
            ("a..b.img", "../../access/ticket"),
            ("a..b.img", "x/y"),
            ("a..b.img", "..%2f"),
            ("a..b.img", "x\u{1b}[2J"),
            ("a..b.img", "x y"),
            ("a..b.img", "x'; reboot; '"),
            ("a..b.img", "gr\u{f6}\u{df}e"),
            ("pve1", "."),
            ("pve1", "-pve"),
            ("pve1", "pve1.lan"),
            ("000000E0", "E0"),
            ("000395D6", "+00395D6"),
            ("6B02EB73", "6B02EB73FF"),
            ("root@pam!k8sha", "root@pam\n"),
        ] {
            let bad = good.replace(from, to);
            assert!(bad.parse::<Upid>().is_err(), "{bad}");
        }
        let good = good.replace("a..b", "a.b");
        assert!(good.parse::<Upid>().is_ok());
        let endless = good.replace("a.b.img", &"x".repeat(5_000_000));
        assert!(endless.parse::<Upid>().unwrap_err().len() < 200);
    }

    #[test]
    fn warnings_count_as_success() {
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
