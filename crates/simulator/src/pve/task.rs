//! Tasks: long-running work on Proxmox VE, its UPID, its log, and the lock files it waits for.
//!
//! A task goes through stages; each stage sets the time of the next. So a saved unfinished task resumes
//! where it stopped.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::access::Caller;
use super::state::{Datacenter, Lock};
use super::work::Work;
use crate::world::SimTime;

/// A worker process of a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    /// Its id: `UPID:node:pid:pstart:starttime:type:id:user:`.
    pub upid: String,
    /// The node that runs it.
    pub host: String,
    /// Its type, such as `qmclone`.
    pub kind: String,
    /// Its object: a VMID, a file name, or nothing.
    pub id: String,
    /// Its user: `name@realm`.
    pub user: String,
    /// The token with which it was started.
    pub token: Option<String>,
    /// Its process id.
    pub pid: u32,
    /// When its process started, in ticks since the node's boot.
    pub pstart: u64,
    /// When it started, in Unix time.
    pub started: i64,
    /// When it ended, in Unix time.
    pub ended: Option<i64>,
    /// The lines of its log.
    pub log: Vec<String>,
    /// Its work.
    pub work: Work,
    /// Its current stage.
    pub stage: u8,
    /// When its next stage starts; `None` if it has ended.
    pub next: Option<SimTime>,
    /// The lock file that it waits for, and since when.
    pub waiting: Option<(String, SimTime)>,
    /// `OK` or the error's text, if it has ended.
    pub result: Option<String>,
}

/// The result of acquiring a lock file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    /// It is acquired.
    Locked,
    /// Another task holds it: try again then, or when woken.
    Later(SimTime),
    /// It was not released in time.
    Timeout,
}

impl Task {
    /// A task that starts at once. `pid` is the node's next process id.
    pub fn new(
        host: &str,
        kind: &str,
        id: &str,
        caller: &Caller,
        pid: u32,
        (now, unix): (SimTime, i64),
        work: Work,
    ) -> Self {
        // The hosts were booted an hour before the world was created; a tick is 10 ms.
        let pstart = 360_000 + now.0 / 10;
        let user = caller.full();
        let upid = format!("UPID:{host}:{pid:08X}:{pstart:08X}:{unix:08X}:{kind}:{id}:{user}:");
        Self {
            upid,
            host: host.to_owned(),
            kind: kind.to_owned(),
            id: id.to_owned(),
            user: caller.user.clone(),
            token: caller.token.clone(),
            pid,
            pstart,
            started: unix,
            ended: None,
            log: Vec::new(),
            work,
            stage: 0,
            next: Some(now),
            waiting: None,
            result: None,
        }
    }

    /// The user who started it.
    pub fn caller(&self) -> Caller {
        Caller { user: self.user.clone(), token: self.token.clone() }
    }

    /// Ends it.
    pub fn end(&mut self, result: Result<(), String>, unix: i64) {
        let (line, text) = match result {
            Ok(()) => ("TASK OK".to_owned(), "OK".to_owned()),
            Err(text) => (format!("TASK ERROR: {text}"), text),
        };
        self.log.push(line);
        self.result = Some(text);
        self.ended = Some(unix);
        self.next = None;
        self.waiting = None;
    }

    /// The answer of `GET .../status`.
    pub fn status(&self) -> Value {
        let mut value = json!({
            "upid": self.upid, "node": self.host, "pid": self.pid, "pstart": self.pstart,
            "starttime": self.started, "type": self.kind, "id": self.id, "user": self.user,
        });
        if let Some(token) = &self.token {
            value["tokenid"] = json!(token);
        }
        match &self.result {
            None => value["status"] = json!("running"),
            Some(result) => {
                value["status"] = json!("stopped");
                value["exitstatus"] = json!(result);
            }
        }
        value
    }

    /// The entry in a list of tasks: the result is called `status` there.
    pub fn listed(&self) -> Value {
        let mut value = self.status();
        if let Some(object) = value.as_object_mut() {
            object.remove("exitstatus");
            object.remove("status");
        }
        if let (Some(result), Some(ended)) = (&self.result, self.ended) {
            value["status"] = json!(result);
            value["endtime"] = json!(ended);
        }
        value
    }

    /// Tries to acquire a lock file, held for so many seconds at most.
    pub fn lock(
        &mut self,
        dc: &mut Datacenter,
        file: &str,
        shared: bool,
        wait: f64,
        at: SimTime,
    ) -> Got {
        let Some(free) = dc.held(file, shared, &self.upid, at) else {
            if self.waiting.take().is_some() {
                self.log.push(" OK".to_owned());
            }
            let owned = dc.locks.iter().any(|lock| lock.owner == self.upid && lock.file == file);
            if !owned {
                let owner = self.upid.clone();
                dc.locks.push(Lock { file: file.to_owned(), shared, owner, until: None });
            }
            return Got::Locked;
        };
        let since = match &self.waiting {
            Some((_, since)) => *since,
            None => {
                self.log.push("trying to acquire lock...".to_owned());
                self.waiting = Some((file.to_owned(), at));
                at
            }
        };
        let deadline = since.after(wait);
        if at >= deadline {
            self.waiting = None;
            return Got::Timeout;
        }
        Got::Later(free.map_or(deadline, |free| free.min(deadline)))
    }
}

impl Datacenter {
    /// The task that holds a lock file: `None` no task, `Some(None)` one without a known end,
    /// `Some(Some(when))` one that releases it then.
    fn held(
        &mut self,
        file: &str,
        shared: bool,
        owner: &str,
        at: SimTime,
    ) -> Option<Option<SimTime>> {
        self.locks.retain(|lock| lock.until.is_none_or(|until| until > at));
        let others = self.locks.iter().filter(|lock| lock.file == file && lock.owner != owner);
        let mut blocking = others.filter(|lock| !(shared && lock.shared)).peekable();
        blocking.peek()?;
        Some(blocking.filter_map(|lock| lock.until).min())
    }

    /// Whether a task holds a lock file that cannot be shared.
    pub fn is_locked(&self, file: &str, at: SimTime) -> bool {
        let live = |lock: &&Lock| lock.until.is_none_or(|until| until > at);
        self.locks.iter().filter(live).any(|lock| lock.file == file)
    }

    /// Releases an owner's lock files (all, or one) and wakes the tasks that wait for them.
    pub fn release(&mut self, owner: &str, file: Option<&str>, at: SimTime) {
        let gone = |lock: &Lock| lock.owner == owner && file.is_none_or(|file| lock.file == file);
        let freed: Vec<_> =
            self.locks.iter().filter(|lock| gone(lock)).map(|lock| lock.file.clone()).collect();
        self.locks.retain(|lock| !gone(lock));
        for task in &mut self.tasks {
            let waits = task.waiting.as_ref().is_some_and(|(file, _)| freed.contains(file));
            if waits && task.next.is_some_and(|next| next > at) {
                task.next = Some(at);
            }
        }
    }
}

/// The lock file of a VM's configuration, prefixed with its node.
pub fn vm_lock(host: &str, vmid: u32) -> String {
    format!("{host}:/var/lock/qemu-server/lock-{vmid}.conf")
}

/// The lock of a storage's allocations: a file of the node, or one of the whole cluster.
pub fn storage_lock(host: &str, storage: &str, shared: bool) -> String {
    if shared {
        format!("cfs:storage-{storage}")
    } else {
        format!("{host}:/var/lock/pve-manager/pve-storage-{storage}")
    }
}

/// Proxmox's error if a lock was not released in time.
pub fn timeout_text(file: &str) -> String {
    match file.split_once(':') {
        Some(("cfs", name)) => format!("cfs-lock '{name}' error: got lock request timeout"),
        Some((_, path)) => format!("can't lock file '{path}' - got timeout"),
        None => format!("can't lock file '{file}' - got timeout"),
    }
}
