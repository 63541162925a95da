//! What a failure looks like to the person reading it, and which exit code it ends in.

use std::fmt;

use serde::Serialize;

/// How the program ended; the numbers are its exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// All is as asked.
    Ok = 0,
    /// The cluster is not as asked.
    NotAsAsked = 1,
    /// The command line or the profile is wrong.
    Usage = 2,
    /// Proxmox VE refused or failed.
    Proxmox = 3,
    /// A node could not be reached, or not be trusted.
    Node = 4,
    /// kubeadm, etcd or Kubernetes failed.
    Kubernetes = 5,
    /// A name server is silent or wrong.
    Dns = 6,
    /// A file of ours could not be read or written.
    Local = 7,
    /// The person interrupted.
    Interrupted = 130,
}

/// Something that went wrong: what was being done, where, what the other side said, what to try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// What was being done, such as "clone template 9001 to VM 1101".
    pub doing: String,
    /// The node or host it was done on.
    pub on: Option<String>,
    /// What the other side said, word for word; may have several lines.
    pub said: String,
    /// The next thing to try.
    pub hint: Option<String>,
    /// The exit code that it leads to.
    pub exit: Exit,
}

impl Failure {
    /// A failure of this kind, without a hint.
    pub fn new(exit: Exit, doing: impl Into<String>, said: impl fmt::Display) -> Self {
        let said = said.to_string();
        Self { doing: doing.into(), on: None, said, hint: None, exit }
    }

    /// Says on which node or host.
    #[must_use]
    pub fn on(mut self, on: impl fmt::Display) -> Self {
        self.on = Some(on.to_string());
        self
    }

    /// Says what to try next; `None` leaves what was there.
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
        write!(f, "cannot {}", self.doing)?;
        if let Some(on) = &self.on {
            write!(f, " ({on})")?;
        }
        for line in self.said.trim_end().lines() {
            write!(f, "\n  {line}")?;
        }
        if let Some(hint) = &self.hint {
            for (number, line) in hint.lines().enumerate() {
                write!(f, "\n  {}{line}", if number == 0 { "try: " } else { "     " })?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

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
}
