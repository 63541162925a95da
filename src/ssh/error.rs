//! Errors of SSH connections to nodes.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Command, Output};
use crate::cause::Cause;
use crate::limits::{size, span, ssh};
use crate::secrets::forms::mask;

/// How many last lines of standard output a failed command's error quotes.
const QUOTED_LINES: usize = 8;

/// A command that could not be run, or failed. No text in it contains a secret.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// No connection, or the other side does not speak SSH.
    #[error("no SSH connection to `{node}` at {address}: {cause}")]
    Unreachable {
        /// The node.
        node: String,
        /// Its address.
        address: SocketAddr,
        /// The error of the system, the proxy or the other side.
        cause: String,
    },
    /// Another machine answers at the node's address.
    #[error(
        "the host key of `{node}` at {address} does not match the one in its seed: \
         expected {expected}, found {seen}"
    )]
    HostKey {
        /// The node.
        node: String,
        /// Its address.
        address: SocketAddr,
        /// The SHA-256 fingerprint of the expected key.
        expected: String,
        /// The SHA-256 fingerprint of the presented key, or a description of what was presented
        /// instead.
        seen: String,
    },
    /// The jump host is unreachable, is another machine, or refuses the login or the connection.
    #[error("cannot connect through the jump host {jump}: {cause}")]
    Jump {
        /// The jump host, as `user@host:port`.
        jump: String,
        /// The error of the system or the jump host, and its subject.
        cause: String,
        /// The next thing to try.
        fix: String,
        /// Whether a later attempt may succeed.
        transient: bool,
    },
    /// The node refuses the login.
    #[error("`{node}` at {address} refuses user `{user}`: offered {offered}")]
    AuthRefused {
        /// The node.
        node: String,
        /// Its address.
        address: SocketAddr,
        /// The login user.
        user: String,
        /// Every key that was offered, and the result of each.
        offered: String,
    },
    /// The node's sudo rejects the password.
    #[error("sudo on `{node}` refuses the password of user `{user}`: {said}")]
    SudoPassword {
        /// The node.
        node: String,
        /// The login user.
        user: String,
        /// The message of sudo.
        said: String,
    },
    /// The connection ended before the command's exit status came. The command may have run.
    #[error("the connection to `{node}` was lost while `{command}` ran")]
    Lost {
        /// The node.
        node: String,
        /// The command line.
        command: String,
    },
    /// The server closed the command's channel without an exit status. The command may have run.
    #[error("`{command}` on `{node}` ended without an exit status")]
    NoStatus {
        /// The node.
        node: String,
        /// The command line.
        command: String,
    },
    /// The command printed more than its limit; the connection was closed. It may still run.
    #[error(
        "`{command}` on `{node}` printed more than {} on {stream}, which is the limit; \
         the connection was closed",
        size(*.limit)
    )]
    TooMuch {
        /// The node.
        node: String,
        /// The command line.
        command: String,
        /// `standard output` or `standard error`.
        stream: &'static str,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The command exceeded its time limit. It may still run.
    #[error("`{command}` on `{node}` did not end within {}", span(*.limit))]
    Timeout {
        /// The node.
        node: String,
        /// The command line.
        command: String,
        /// The limit.
        limit: Duration,
    },
    /// The node's SSH server accepts the connection but runs no command.
    #[error("`{node}` refuses to run `{command}`: {cause}")]
    Refused {
        /// The node.
        node: String,
        /// The command line.
        command: String,
        /// The server's message.
        cause: String,
    },
    /// The command exited with a status other than 0.
    #[error("`{command}` on `{node}` ended with exit status {code}{}", said(.stderr, .stdout))]
    Failed {
        /// The node.
        node: String,
        /// The command line.
        command: String,
        /// The exit status.
        code: u32,
        /// Standard error, verbatim except for masked secrets.
        stderr: String,
        /// The last lines of standard output.
        stdout: String,
    },
    /// A key that cannot be read or created.
    #[error("unusable SSH key ({what}): {cause}")]
    BadKey {
        /// Which key.
        what: &'static str,
        /// The problem.
        #[source]
        cause: Cause,
    },
}

/// Whether this is sudo or sudo-rs saying that it needs a password but may not ask for one.
fn wants_password(stderr: &str) -> bool {
    ["a password is required", "authentication is required"]
        .iter()
        .any(|text| stderr.contains("sudo: ") && stderr.contains(text))
}

fn said(stderr: &str, stdout: &str) -> String {
    let text = if stderr.trim().is_empty() { stdout } else { stderr };
    match text.trim() {
        "" => String::new(),
        text => format!(": {text}"),
    }
}

/// The end of a text that an error quotes; it contains the actual error.
fn end(text: &str) -> String {
    match text.char_indices().rev().nth(ssh::QUOTED - 1) {
        Some((at, _)) if at > 0 => format!("({at} bytes before this) …{}", &text[at..]),
        _ => text.to_owned(),
    }
}

impl Error {
    pub(super) fn failed(node: &str, command: &Command, output: &Output) -> Self {
        let stdout = output.stdout_text();
        let lines: Vec<&str> = stdout.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(QUOTED_LINES)..).unwrap_or_default();
        Error::Failed {
            node: node.to_owned(),
            command: command.to_string(),
            code: output.code,
            stderr: end(&mask(output.stderr_text().trim_end())),
            stdout: end(&mask(&tail.join("\n"))),
        }
    }

    /// The message of the other side or the system, without the address.
    pub fn cause(&self) -> String {
        match self {
            Error::Unreachable { cause, .. } => cause.clone(),
            Error::AuthRefused { user, .. } => format!("`{user}` may not log in yet"),
            error => error.to_string(),
        }
    }

    /// Whether the same may succeed a moment later: the cause is the network or a booting node.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Unreachable { .. }
            | Error::Lost { .. }
            | Error::NoStatus { .. }
            | Error::Timeout { .. } => true,
            Error::Jump { transient, .. } => *transient,
            _ => false,
        }
    }

    /// The next thing to try.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Error::Unreachable { node, .. } => format!(
                "check the console of `{node}` in Proxmox VE: is it running, and is its address \
                 reachable from here?"
            ),
            Error::HostKey { node, address, .. } => format!(
                "another machine has the address {}, or the state folder's `ssh/host-{node}` has changed \
                 since the machine was created. If its VM was replaced manually, remove that VM, and \
                 `k8sha up` recreates it",
                address.ip()
            ),
            Error::Jump { fix, .. } => fix.clone(),
            Error::SudoPassword { user, .. } => format!(
                "set the password of `{user}` on the nodes in K8SHA_SUDO_PASSWORD or \
                 K8SHA_SUDO_PASSWORD_FILE"
            ),
            Error::AuthRefused { node, user, .. } => format!(
                "the machine has the right host key but rejects k8sha's key: `ssh/operator` in the state \
                 folder has changed since the machine was created, `{user}` lost the key from \
                 `~/.ssh/authorized_keys`, or its first boot has not created that user yet \
                 (/var/log/cloud-init.log on the console of `{node}`)"
            ),
            Error::TooMuch { node, command, .. } => format!(
                "this command should not print that much: run `{command}` on the console of `{node}` to \
                 find the cause;\nthen run the same command again: it checks what was done and resumes \
                 there"
            ),
            Error::Lost { .. } | Error::NoStatus { .. } | Error::Timeout { .. } => {
                "run the same command again: it checks what was done and resumes from there".into()
            }
            Error::Failed { stderr, .. } if wants_password(stderr) => {
                "sudo asks for the login user's password: set it in K8SHA_SUDO_PASSWORD or \
                 K8SHA_SUDO_PASSWORD_FILE,\nor allow passwordless sudo, as k8sha's \
                 cloud-init does: `USER ALL=(ALL) NOPASSWD:ALL`"
                    .into()
            }
            Error::Failed { code: 127, .. } => {
                "the program is not installed: cloud-init did not finish on this node".into()
            }
            Error::Refused { .. } | Error::Failed { .. } | Error::BadKey { .. } => return None,
        })
    }
}
