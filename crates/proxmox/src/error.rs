//! Errors of calls to a Proxmox VE host, with the host's words and a hint.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::{HostName, VmId};
use k8sha_base::cause::Cause;
use k8sha_base::limits::span;

use super::task::Upid;

/// An error of a call to a Proxmox VE host.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The host refused the call.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// The host rejected the login.
    #[error("`{host}` rejected the credentials at `{call}`: {reason}")]
    Unauthorized {
        /// The host.
        host: HostName,
        /// The method and path.
        call: String,
        /// The host's words.
        reason: String,
        /// The account that was used, without the secret.
        who: Identity,
    },
    /// The account lacks a privilege.
    #[error(transparent)]
    Forbidden(Box<Denial>),
    /// No connection was established, so nothing was sent.
    #[error("cannot reach `{host}` at {endpoint}: {why}")]
    Unreachable {
        /// The host.
        host: HostName,
        /// Its base address.
        endpoint: String,
        /// The system's error.
        why: String,
    },
    /// The host presented a certificate other than the trusted one.
    #[error(transparent)]
    Certificate(Box<Stranger>),
    /// No trusted certificate is configured, so nothing was sent.
    #[error("no certificate is trusted for `{host}` at {endpoint}; {seen}")]
    Untrusted {
        /// The host.
        host: HostName,
        /// Its base address.
        endpoint: String,
        /// The certificate that the host presents, or why it cannot be read.
        seen: String,
    },
    /// A read got no usable answer; a retry is safe.
    #[error("`{host}` did not answer `{call}`: {why}")]
    NoAnswer {
        /// The host.
        host: HostName,
        /// The method and path.
        call: String,
        /// The status and reason, or the connection's error.
        why: String,
    },
    /// A write was sent, and it is unknown whether it was carried out.
    #[error("`{host}` did not answer `{call}`, which may have taken effect: {why}")]
    UnknownOutcome {
        /// The host.
        host: HostName,
        /// The method and path.
        call: String,
        /// The status and reason, or the connection's error.
        #[source]
        why: Cause,
    },
    /// The answer is not one of Proxmox VE.
    #[error(transparent)]
    Odd(Box<OddAnswer>),
    /// A task failed.
    #[error(transparent)]
    Task(Box<TaskFailure>),
    /// A task does not end.
    #[error(transparent)]
    EndlessTask(Box<EndlessTask>),
    /// The VMID belongs to something other than the VM being created.
    #[error("VM {vmid} on `{host}` was not created by k8sha: {found}")]
    NotOurs {
        /// The host.
        host: HostName,
        /// The VMID.
        vmid: VmId,
        /// A description of it.
        found: String,
    },
    /// A VM was left incomplete.
    #[error(transparent)]
    CutOff(Box<CutOff>),
    /// A VM remained locked.
    #[error("VM {vmid} on `{host}` is still locked ({lock}) after {seconds} s")]
    StillLocked {
        /// The host.
        host: HostName,
        /// The VMID.
        vmid: VmId,
        /// The kind of lock, such as `clone`.
        lock: String,
        /// How long k8sha waited.
        seconds: u64,
    },
    /// The answer is not in the expected format.
    #[error("cannot read the answer of `{host}` to `{call}`: {why}")]
    Decode {
        /// The host.
        host: HostName,
        /// The method and path.
        call: String,
        /// The parser's error.
        why: String,
    },
    /// The client cannot be set up as requested.
    #[error("cannot set up the connection to `{host}`: {why}")]
    Setup {
        /// The host.
        host: HostName,
        /// The reason.
        #[source]
        why: Cause,
    },
    /// The endpoint leads to a Proxmox VE without that node.
    #[error("{endpoint} is not the Proxmox VE node `{host}`: it knows {}", list(known))]
    WrongHost {
        /// The host in the profile.
        host: HostName,
        /// Its base address.
        endpoint: String,
        /// Its nodes.
        known: Vec<String>,
    },
    /// No client was set up for that host.
    #[error("there is no Proxmox VE host `{host}`; the known hosts are {}", list(known))]
    NoSuchHost {
        /// The name.
        host: HostName,
        /// The known names.
        known: Vec<String>,
    },
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// The account of a login, without a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A token's id, `user@realm!name`.
    Token(String),
    /// A user, `user@realm`.
    User(String),
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Token(id) => write!(f, "the token `{id}`"),
            Identity::User(id) => write!(f, "the user `{id}`"),
        }
    }
}

impl Identity {
    /// `user@realm`, with `!name` for a token.
    pub fn id(&self) -> &str {
        match self {
            Identity::Token(id) | Identity::User(id) => id,
        }
    }

    /// `user@realm`.
    pub fn user(&self) -> &str {
        self.id().split('!').next().unwrap_or_default()
    }

    /// The argument for `pveum acl modify`.
    pub fn acl_options(&self) -> String {
        match self {
            Identity::Token(id) => format!("--users '{}' --tokens '{id}'", self.user()),
            Identity::User(id) => format!("--users '{id}'"),
        }
    }
}

/// An answer with a status of 400 or more.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The host.
    pub host: HostName,
    /// The method and path, such as `POST /nodes/pve1/qemu/9000/clone`.
    pub call: String,
    /// The HTTP status. Proxmox VE uses 500 for almost everything.
    pub status: u16,
    /// The HTTP reason phrase: the first line of the error.
    pub reason: String,
    /// The `message` of the body, trimmed; empty if there is none.
    pub message: String,
    /// The errors of individual parameters.
    pub errors: BTreeMap<String, String>,
}

impl Refusal {
    /// The complete error: the message if it has more than the reason, then each parameter's error.
    pub fn words(&self) -> String {
        let mut words = if self.message.starts_with(&self.reason) {
            self.message.clone()
        } else if self.message.is_empty() {
            self.reason.clone()
        } else {
            format!("{}: {}", self.reason, self.message)
        };
        for (parameter, complaint) in &self.errors {
            words.push_str(&format!("; `{parameter}`: {}", complaint.trim()));
        }
        words
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, call, status, .. } = self;
        write!(f, "`{host}` refused `{call}`: {status} {}", self.words())
    }
}

impl std::error::Error for Refusal {}

/// A missing privilege.
#[derive(Clone, Debug, thiserror::Error)]
#[error("`{host}` forbids `{call}` to {who}: {reason}")]
pub struct Denial {
    /// The host.
    pub host: HostName,
    /// The method and path.
    pub call: String,
    /// The path in the access control list, such as `/vms/9000`; empty if unknown.
    pub path: String,
    /// The privileges, any of which suffices; empty if unknown.
    pub privileges: Vec<String>,
    /// The host's words.
    pub reason: String,
    /// The account that was used, without the secret.
    pub who: Identity,
}

/// A certificate that is not the trusted one.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "`{host}` at {endpoint} shows a certificate that is not trusted: expected {expected}, seen {seen}{why}"
)]
pub struct Stranger {
    /// The host.
    pub host: HostName,
    /// Its base address.
    pub endpoint: String,
    /// The expected fingerprint, or the CA in words.
    pub expected: String,
    /// The fingerprint of the presented certificate, as `pvenode cert info` prints it.
    pub seen: String,
    /// The chain verifier's error, with its separator; empty for a pin.
    pub why: String,
}

/// A failed task.
#[derive(Clone, Debug)]
pub struct TaskFailure {
    /// The host that was queried.
    pub host: HostName,
    /// The task.
    pub upid: Upid,
    /// Its exit status: the error's text.
    pub exit: String,
    /// The last lines of its log.
    pub log_tail: Vec<String>,
}

impl fmt::Display for TaskFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, upid, exit, log_tail } = self;
        let id = if upid.id.is_empty() { String::new() } else { format!(" of `{}`", upid.id) };
        write!(f, "task {}{id} failed on `{}`: {exit}", upid.kind, upid.node)?;
        if upid.node != host.0 {
            write!(f, " (asked through `{host}`)")?;
        }
        for line in log_tail {
            write!(f, "\n  {line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for TaskFailure {}

/// An answer that Proxmox VE never gives: another program listens at that address, or is in between.
#[derive(Clone, Debug, thiserror::Error)]
#[error("`{host}` answered `{call}` with {what}{}", carried_out(.written))]
pub struct OddAnswer {
    /// The host.
    pub host: HostName,
    /// Its base address.
    pub endpoint: String,
    /// The method and path.
    pub call: String,
    /// The unexpected part.
    pub what: Odd,
    /// Whether the call writes, so that it may have taken effect nevertheless.
    pub written: bool,
}

impl OddAnswer {
    pub(super) fn hint(&self) -> String {
        let endpoint = &self.endpoint;
        let look = format!("`curl -vk {endpoint}/api2/json/version` shows what answers there");
        match self.what {
            Odd::TooMuch(_) => format!(
                "Proxmox VE never sends that much: {look};\nit is safe to run again: k8sha checks first and repeats nothing"
            ),
            Odd::Redirect { .. } | Odd::NotJson { .. } | Odd::Coded(_) => format!(
                "this is a proxy, a login page or not Proxmox VE: {look};\n\
                 the endpoint must be the host's own, port 8006"
            ),
        }
    }
}

fn carried_out(written: &bool) -> &'static str {
    if *written { "; the request may have taken effect nevertheless" } else { "" }
}

/// The unexpected part of an answer. No text in it is longer than a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Odd {
    /// It is larger than an answer to that call may be, in words; the rest was not read.
    #[error("more than {0}; k8sha stops reading at that limit")]
    TooMuch(String),
    /// A redirect.
    #[error(
        "a redirect ({status}) to `{to}`, which is not followed: the credentials are for this host only"
    )]
    Redirect {
        /// The HTTP status.
        status: u16,
        /// Its target.
        to: String,
    },
    /// It is not JSON.
    #[error("{kind} instead of JSON{}", titled(.title))]
    NotJson {
        /// Its content type.
        kind: String,
        /// The title of the page.
        title: Option<String>,
    },
    /// It is compressed, which was not requested.
    #[error("a body with the content encoding `{0}`, which was not requested")]
    Coded(String),
}

fn titled(title: &Option<String>) -> String {
    title.as_ref().map_or(String::new(), |title| format!(", a page titled \"{title}\""))
}

/// A task that has not ended within the time limit of its type. It continues.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "task {} of `{}` on `{}` did not finish within {}; k8sha stopped waiting, and the task continues as {upid}",
    upid.kind, upid.id, upid.node, span(*.limit)
)]
pub struct EndlessTask {
    /// The host that was queried.
    pub host: HostName,
    /// The task.
    pub upid: Upid,
    /// How long it was followed.
    pub limit: Duration,
}

impl EndlessTask {
    /// How to stop it, and the next step.
    pub(super) fn hint(&self) -> String {
        let Self { upid, .. } = self;
        format!(
            "see what it does: `pvenode task log '{upid}'` on {node};\n\
             to end it: `pvesh delete '/nodes/{node}/tasks/{upid}'` there, or Stop in the GUI's list \
             of tasks;\nthen run the same command again: it looks first, waits for what still runs, \
             and resumes where this one stopped",
            node = upid.node
        )
    }
}

/// A VM whose creation was interrupted: its lock remains, and no task creates it any more.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "VM {vmid} on `{host}` is incomplete: it still has the lock `{lock}`{}, and no task is creating it",
    placeholder_too(.placeholder)
)]
pub struct CutOff {
    /// The host.
    pub host: HostName,
    /// The VMID.
    pub vmid: VmId,
    /// The kind of lock, such as `clone`.
    pub lock: String,
    /// Whether it is still the placeholder with which Proxmox VE starts a clone.
    pub placeholder: bool,
}

fn placeholder_too(placeholder: &bool) -> &'static str {
    if *placeholder { " and Proxmox VE's placeholder (`qmclone temporary file`)" } else { "" }
}

impl Error {
    /// The host's words that determine the next step: a refusal's or a task's.
    pub fn words(&self) -> Option<String> {
        match self {
            Error::Refused(refusal) => Some(refusal.words()),
            Error::Task(failure) => Some(failure.exit.clone()),
            _ => None,
        }
    }

    /// Whether a lock was not acquired in time, so that nothing was done and a retry is right.
    ///
    /// Source: pve-common src/PVE/Tools.pm (`lock_file`), pve-cluster src/PVE/Cluster.pm (`cfs_lock`),
    /// pve-common src/PVE/RESTEnvironment.pm (`fork_worker`). A guest that does not shut down ends in
    /// `got timeout` too, but that is not a lock.
    pub fn is_lock_timeout(&self) -> bool {
        self.words().is_some_and(|words| {
            words.contains("got lock request timeout")
                || words.contains("got no worker upid")
                || (words.contains("got timeout") && !words.contains("quit/powerdown"))
        })
    }

    /// Whether the host reports that it has no VM with that VMID.
    ///
    /// Source: pve-guest-common src/PVE/AbstractConfig.pm, `load_config`.
    pub fn is_absent(&self) -> bool {
        self.words().is_some_and(|words| {
            words.contains("unable to find configuration file")
                || (words.contains("Configuration file") && words.contains("does not exist"))
        })
    }

    /// Whether the host reports that the object exists already.
    pub fn is_present(&self) -> bool {
        self.words()
            .is_some_and(|words| words.contains("already exists") || words.contains("File exists"))
    }

    /// Whether the object had changed since it was read, so that nothing was done.
    ///
    /// Source: qemu-server src/PVE/API2/Qemu.pm, `update_vm_api`.
    pub fn is_modified(&self) -> bool {
        self.words().is_some_and(|words| words.contains("checksum mismatch (file change"))
    }

    /// Whether a write was sent whose outcome is unknown.
    pub fn is_unknown_outcome(&self) -> bool {
        matches!(self, Error::UnknownOutcome { .. })
    }
}
