//! The only mapping from errors to exit codes. The matches name every variant, so a new kind of
//! error must be added here.

use std::error::Error as StdError;

use crate::error::{Exit, Failure};
use crate::{cloudinit, dns, kubeadm, proxmox, ssh};

/// An adapter's error: it has an exit code and may suggest what to try next.
pub trait Fault: StdError + Clone + Send + Sync + 'static {
    /// The row of the table that it belongs to.
    fn row(&self) -> &'static Row;

    /// The next thing to try.
    fn hint(&self) -> Option<String>;
}

/// A row of the table.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// The adapter.
    pub of: &'static str,
    /// The kinds of errors, in words.
    pub what: &'static str,
    /// How the program exits.
    pub exit: Exit,
}

const fn row(exit: Exit, of: &'static str, what: &'static str) -> Row {
    Row { of, what, exit }
}

static TEMPLATE: Row =
    row(Exit::Usage, "cloud-init", "an invalid template, or one that renders an invalid document");
static MANIFEST: Row = row(Exit::Usage, "pod network", "a manifest with an unknown variable");
static PROXMOX: Row = row(
    Exit::Proxmox,
    "Proxmox VE",
    "no answer, an untrusted certificate, a missing privilege, a refusal, a failed task, a VM that k8sha did not create",
);
static SSH: Row =
    row(Exit::Node, "SSH", "no connection, another host key, no login, a failed command");
static PHASE_CUT: Row = row(Exit::Node, "kubeadm", "the connection was lost while a phase ran");
static PHASE: Row = row(
    Exit::Kubernetes,
    "kubeadm",
    "kubeadm, etcd, the API, a load balancer or a command on a node failed or took too long",
);
static NAMES: Row = row(Exit::Dns, "DNS", "no resolver for the profile's name servers");
static FILE: Row = row(Exit::Local, "files", "a kubeconfig or key cannot be read or written");

/// Every row, by exit code.
#[cfg(test)]
static TABLE: [&Row; 8] = [&TEMPLATE, &MANIFEST, &PROXMOX, &SSH, &PHASE_CUT, &PHASE, &NAMES, &FILE];

/// An adapter's error as a failure that keeps it as its source.
pub fn failure<E: Fault>(doing: impl Into<String>, error: &E) -> Failure {
    Failure::caused(error.row().exit, doing, error.clone()).hint(error.hint())
}

impl Fault for proxmox::Error {
    fn row(&self) -> &'static Row {
        use proxmox::Error as E;
        match self {
            E::Refused(_)
            | E::Unauthorized { .. }
            | E::Forbidden(_)
            | E::Unreachable { .. }
            | E::Certificate(_)
            | E::Untrusted { .. }
            | E::NoAnswer { .. }
            | E::UnknownOutcome { .. }
            | E::Odd(_)
            | E::Task(_)
            | E::EndlessTask(_)
            | E::NotOurs { .. }
            | E::CutOff(_)
            | E::StillLocked { .. }
            | E::Decode { .. }
            | E::Setup { .. }
            | E::WrongHost { .. }
            | E::NoSuchHost { .. } => &PROXMOX,
        }
    }

    fn hint(&self) -> Option<String> {
        self.hint()
    }
}

impl Fault for ssh::Error {
    fn row(&self) -> &'static Row {
        use ssh::Error as E;
        match self {
            E::Unreachable { .. }
            | E::HostKey { .. }
            | E::Jump { .. }
            | E::AuthRefused { .. }
            | E::SudoPassword { .. }
            | E::Lost { .. }
            | E::NoStatus { .. }
            | E::TooMuch { .. }
            | E::Timeout { .. }
            | E::Refused { .. }
            | E::Failed { .. }
            | E::BadKey { .. } => &SSH,
        }
    }

    fn hint(&self) -> Option<String> {
        self.hint()
    }
}

impl Fault for kubeadm::Error {
    fn row(&self) -> &'static Row {
        use kubeadm::Error as E;
        match self {
            E::Ssh { source, .. } if source.is_transient() => &PHASE_CUT,
            E::File { .. } | E::Kubeconfig { .. } => &FILE,
            E::Manifest { .. } => &MANIFEST,
            E::Ssh { .. }
            | E::Etcd(_)
            | E::Config(_)
            | E::Unit { .. }
            | E::UnitGone { .. }
            | E::TooLong { .. }
            | E::Unread { .. }
            | E::AnotherCluster { .. }
            | E::Incomplete { .. }
            | E::Balancer { .. }
            | E::Refused { .. }
            | E::Authority { .. }
            | E::VipNowhere { .. }
            | E::VipTwice { .. }
            | E::NotFresh { .. }
            | E::NotLitter { .. }
            | E::OtherMachine { .. }
            | E::StillReports { .. }
            | E::Drain { .. }
            | E::Endpoint { .. } => &PHASE,
        }
    }

    fn hint(&self) -> Option<String> {
        self.hint()
    }
}

impl Fault for cloudinit::Error {
    fn row(&self) -> &'static Row {
        &TEMPLATE
    }

    fn hint(&self) -> Option<String> {
        self.hint()
    }
}

impl Fault for dns::Error {
    fn row(&self) -> &'static Row {
        &NAMES
    }

    fn hint(&self) -> Option<String> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cause::cause;

    const FENCE: &str = "```exits\n";

    /// The exit codes as the README shows them, each with the adapters' errors that end in it.
    fn shown() -> String {
        let mut text = String::new();
        for exit in Exit::ALL {
            text += &format!("{:>3}  {}\n", exit as u8, exit.words());
            for row in TABLE.iter().filter(|row| row.exit == exit) {
                text += &format!("       {}: {}\n", row.of, row.what);
            }
        }
        text
    }

    #[test]
    fn the_readme_has_the_table_as_it_is() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        let text = std::fs::read_to_string(path).unwrap();
        let (before, rest) = text.split_once(FENCE).expect("the README has the table");
        let (there, after) = rest.split_once("```").unwrap();
        if std::env::var_os("UPDATE_GOLDENS").is_some() {
            std::fs::write(path, format!("{before}{FENCE}{}```{after}", shown())).unwrap();
            return;
        }
        assert_eq!(there, shown(), "UPDATE_GOLDENS=1 writes it again");
    }

    #[test]
    fn a_failure_keeps_what_caused_it_and_what_that_had_as_its_cause() {
        let lost = ssh::Error::Lost { node: "m1".into(), command: "kubeadm init".into() };
        let phase = kubeadm::Error::Ssh { doing: "look".into(), source: Box::new(lost.clone()) };
        let failure = failure("initialise the cluster", &phase);
        assert_eq!(failure.exit, Exit::Node);
        assert_eq!(failure.said, phase.to_string());
        assert_eq!(failure.causes(), [phase.to_string(), lost.to_string()]);
        let kept = failure.clone();
        let source = kept.source().and_then(|error| error.downcast_ref::<kubeadm::Error>());
        assert!(matches!(source, Some(kubeadm::Error::Ssh { .. })), "{source:?}");
    }

    #[test]
    fn a_command_that_failed_on_a_node_is_no_lost_connection() {
        let source = ssh::Error::BadKey { what: "host key", cause: cause("x") };
        let phase = kubeadm::Error::Ssh { doing: "look".into(), source: Box::new(source) };
        assert_eq!(phase.row(), &PHASE);
    }
}
