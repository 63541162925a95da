//! `k8sha logs NODE [UNIT]`: shows a node's journal, or the log file of cloud-init or kubeadm.

use std::ops::ControlFlow;
use std::time::Instant;

use clap::ValueEnum;
use serde::Serialize;
use tokio::sync::mpsc;

use super::args::Common;
use super::reach;
use super::session::{Session, interrupted};
use crate::cluster::{Cluster, Etcd, Node, Role};
use crate::error::{Exit, Failure};
use crate::exits::failure;
use crate::kubeadm::unit::Unit as Kubeadm;
use crate::limits::ssh;
use crate::report::screen::{self, Stream};
use crate::secrets::forms;
use crate::ssh::{Command, Ended, Error, Remote, Work};

/// The file with the output of cloud-init's modules and the package manager.
const CLOUD_INIT: &str = "/var/log/cloud-init-output.log";
/// Bytes after which an unfinished line is treated as a line.
const LINE: usize = 64 * 1024;
/// Bytes of a log that is printed as one JSON document, which is collected first.
const DOCUMENT: usize = 16 * 1024 * 1024;

/// A source of logs on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Unit {
    /// The kubelet.
    Kubelet,
    /// The container runtime.
    Containerd,
    /// The first boot: packages, kernel, files.
    CloudInit,
    /// The load balancer of the API.
    Haproxy,
    /// The daemon that moves the virtual IP.
    Keepalived,
    /// etcd: a systemd unit, or a static pod on a master.
    Etcd,
    /// The last `kubeadm init` or `kubeadm join` by k8sha.
    Kubeadm,
}

impl Unit {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// The request.
pub(super) struct Wish {
    /// The name of the node.
    pub(super) node: String,
    /// The source; a default by role if `None`.
    pub(super) unit: Option<Unit>,
    /// The number of last lines.
    pub(super) lines: u32,
    /// Whether to print later lines too.
    pub(super) follow: bool,
}

/// A log in JSON.
#[derive(Serialize)]
struct Log {
    node: String,
    unit: String,
    lines: Vec<String>,
}

/// The logs on a node, the default first.
fn units(cluster: &Cluster, node: &Node) -> Vec<Unit> {
    match node.role {
        Role::LoadBalancer => vec![Unit::Haproxy, Unit::Keepalived, Unit::CloudInit],
        Role::Etcd => vec![Unit::Etcd, Unit::CloudInit],
        Role::Master if matches!(cluster.etcd, Etcd::Stacked) => {
            vec![Unit::Kubelet, Unit::Containerd, Unit::Etcd, Unit::Kubeadm, Unit::CloudInit]
        }
        Role::Master | Role::Worker => {
            vec![Unit::Kubelet, Unit::Containerd, Unit::Kubeadm, Unit::CloudInit]
        }
    }
}

pub(super) async fn run(common: &Common, started: Instant, wish: Wish) -> Result<Exit, Failure> {
    if common.json && wish.follow {
        let said = "`--json` prints one document, but `--follow` never ends";
        return Err(Failure::new(Exit::Usage, "follow a log as JSON", said));
    }
    let session = Session::open(common, started, "logs").await?;
    let node = reach::row(&session.cluster, &wish.node, "reach")?;
    let there = units(&session.cluster, node);
    let unit = wish.unit.or_else(|| there.first().copied()).unwrap_or(Unit::CloudInit);
    let doing = format!("read the log of {}", unit.name());
    if !there.contains(&unit) {
        let names: Vec<String> = there.into_iter().map(Unit::name).collect();
        let said = format!("a {} has these logs: {}", node.role, names.join(", "));
        return Err(Failure::new(Exit::Usage, doing, said).on(&node.name));
    }
    let remote = reach::remote(&session, node, &doing)?;
    let fault = |error: Error| failure(&doing, &error).on(&node.name);
    let work = async {
        let command = command(&remote, node, unit, &wish).await.map_err(fault)?;
        let command = command.ok_or_else(|| {
            let said = "no etcd container was ever started on this node";
            Failure::new(Exit::NotAsAsked, &doing, said).on(&node.name)
        })?;
        // A container's own standard error is part of its log.
        let both = unit == Unit::Etcd && node.role == Role::Master;
        read(&remote, &command, both, &session, &wish).await.map_err(|cut| match cut {
            Cut::Ssh(error) => fault(error),
            Cut::Output(error) => Failure::caused(Exit::Local, "write to stdout", error),
            Cut::TooLong => {
                let said = format!("the log has more than {} MiB", DOCUMENT / 1024 / 1024);
                Failure::new(Exit::Node, &doing, said)
                    .on(&node.name)
                    .hint("request fewer `--lines`, or omit `--json`".to_owned())
            }
        })
    };
    let done = tokio::select! {
        biased;
        // The usual way to stop following.
        () = session.cancel.cancelled(), if wish.follow => return Ok(Exit::Interrupted),
        () = session.cancel.cancelled() => Err(interrupted("logs")),
        done = Box::pin(work) => done,
    };
    let lines = done?;
    session.world.verdict()?;
    if common.json {
        super::print_json(&Log { node: node.name.to_string(), unit: unit.name(), lines })?;
    }
    Ok(Exit::Ok)
}

/// The command that prints the log; `None` if there is no container.
async fn command(
    remote: &Remote,
    node: &Node,
    unit: Unit,
    wish: &Wish,
) -> Result<Option<Command>, Error> {
    let count = wish.lines.to_string();
    let journal = |name: &str| {
        let more = if wish.follow { &["-f"][..] } else { &[] };
        let command = Command::sudo("journalctl").args(["-u", name, "-n", &count, "--no-pager"]);
        command.args(["-o", "short-iso"]).args(more.iter().copied())
    };
    let file = |path: &str| {
        let more = if wish.follow { &["-F"][..] } else { &[] };
        Command::sudo("tail").args(["-n", &count]).args(more.iter().copied()).arg(path)
    };
    Ok(Some(match unit {
        Unit::CloudInit => file(CLOUD_INIT),
        Unit::Kubeadm => {
            // A master that was reset and joined has both.
            let joined = Command::sudo("test").args(["-e", Kubeadm::Join.log()]);
            let joined = node.role == Role::Worker || remote.run(&joined).await?.success();
            file(if joined { Kubeadm::Join.log() } else { Kubeadm::Init.log() })
        }
        Unit::Etcd if node.role == Role::Master => {
            // The last one that was started, running or not (cri-tools cmd/crictl/container.go).
            let newest = ["ps", "-a", "--latest", "--quiet", "--name", "^etcd$"];
            let found = remote.run_ok(&Command::sudo("crictl").args(newest)).await?;
            let Some(id) = found.stdout_text().lines().next().map(str::to_owned) else {
                return Ok(None);
            };
            let more = if wish.follow { &["--follow"][..] } else { &[] };
            let command = Command::sudo("crictl").args(["logs", "--tail", &count]);
            command.args(more.iter().copied()).arg(id)
        }
        named => journal(&named.name()),
    }))
}

/// Why a log was not read completely.
enum Cut {
    Ssh(Error),
    Output(std::io::Error),
    TooLong,
}

/// Reads a log from stdout or from both streams and prints it line by line; for JSON it returns the
/// lines.
async fn read(
    remote: &Remote,
    command: &Command,
    both: bool,
    session: &Session,
    wish: &Wish,
) -> Result<Vec<String>, Cut> {
    let (json, mut document) = (session.common.json, Document::default());
    let (mut shown, mut complaints) = (Lines::default(), Vec::new());
    let mut unread = None;
    let mut take = |line: String| {
        if json {
            return document.add(line);
        }
        match screen::print_on(&line) {
            Ok(true) => ControlFlow::Continue(()),
            Ok(false) => ControlFlow::Break(()),
            Err(error) => {
                unread = Some(error);
                ControlFlow::Break(())
            }
        }
    };
    let mut output = |stream, bytes: &[u8]| {
        if stream == Stream::Err {
            let room = ssh::QUOTED.saturating_sub(complaints.len());
            complaints.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        if stream == Stream::Out || both {
            return shown.add(bytes, &mut take);
        }
        ControlFlow::Continue(())
    };
    let (_, input) = mpsc::channel(1);
    let work = Work::Command(command.clone(), None);
    let attached = remote.attach(&work, input, &mut output);
    let ended = if wish.follow {
        attached.await
    } else {
        let limit = session.world.clock().limit(ssh::COMMAND);
        let late =
            Error::Timeout { node: remote.node().to_owned(), command: command.to_string(), limit };
        tokio::time::timeout(limit, attached).await.unwrap_or(Err(late))
    };
    let ended = ended.map_err(Cut::Ssh)?;
    let _ = shown.end(&mut take);
    if let Some(error) = unread {
        return Err(Cut::Output(error));
    }
    if document.size > DOCUMENT {
        return Err(Cut::TooLong);
    }
    match ended {
        Ended::Exit(0) | Ended::BrokenOff => Ok(document.lines),
        ended => Err(Cut::Ssh(Error::Failed {
            node: remote.node().to_owned(),
            command: command.to_string(),
            code: ended.code().unwrap_or_default().into(),
            stderr: forms::mask(String::from_utf8_lossy(&complaints).trim_end()),
            stdout: String::new(),
        })),
    }
}

/// The lines of a log that is printed as JSON.
#[derive(Default)]
struct Document {
    lines: Vec<String>,
    size: usize,
}

impl Document {
    /// Adds a line; `Break` if the document is too large.
    fn add(&mut self, line: String) -> ControlFlow<()> {
        // An empty line takes memory too.
        self.size += line.len() + size_of::<String>();
        self.lines.push(line);
        if self.size > DOCUMENT { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Assembles lines from pieces and masks secrets.
#[derive(Default)]
struct Lines {
    begun: Vec<u8>,
    masked: forms::Lines,
}

impl Lines {
    fn add(
        &mut self,
        piece: &[u8],
        take: &mut impl FnMut(String) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(part);
            if part.ends_with(b"\n") || self.begun.len() > LINE {
                self.end(take)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Ends the current line.
    fn end(&mut self, take: &mut impl FnMut(String) -> ControlFlow<()>) -> ControlFlow<()> {
        if self.begun.is_empty() {
            return ControlFlow::Continue(());
        }
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.begun)).into_owned();
        let line = line.trim_end_matches(['\n', '\r']);
        self.masked.mask(line).map_or(ControlFlow::Continue(()), take)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fixture;

    #[test]
    fn lines_are_put_together_from_pieces_and_a_key_is_masked_across_them() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        let mut take = |line: String| {
            seen.push(line);
            ControlFlow::Continue(())
        };
        for piece in [
            "on",
            "e\r\ntwo abcdef.0123456789ab",
            "cdef\n\n-----BEGIN PRIVATE KEY-----\nMIIE\n",
            "-----END PRIVATE KEY-----\nend",
        ] {
            assert!(lines.add(piece.as_bytes(), &mut take).is_continue());
        }
        assert!(lines.end(&mut take).is_continue());
        assert_eq!(seen, ["one", "two [masked]", "", "[masked]", "end"]);
    }

    #[test]
    fn a_line_without_an_end_takes_no_memory_without_end() {
        let (mut lines, mut count) = (Lines::default(), 0);
        let mut take = |_| {
            count += 1;
            ControlFlow::Continue(())
        };
        for _ in 0..100 {
            assert!(lines.add(&[b'x'; 32 * 1024], &mut take).is_continue());
            assert!(lines.begun.len() <= LINE);
        }
        assert!(count > 30, "{count}");
    }

    #[test]
    fn a_log_as_json_takes_no_memory_without_end() {
        for line in ["", "x", &"x".repeat(LINE)] {
            let mut document = Document::default();
            while document.add(line.to_owned()).is_continue() {
                assert!(document.lines.len() < DOCUMENT, "it takes lines without end");
            }
            let size: usize = document.lines.iter().map(|line| line.len()).sum();
            assert!(size <= DOCUMENT + LINE && document.lines.len() <= DOCUMENT / 24 + 1);
        }
    }

    #[test]
    fn each_role_has_the_logs_of_what_runs_on_it() {
        let mut cluster = fixture::k8s1();
        let names = |cluster: &Cluster, role| {
            let node = cluster.with_role(role).next().unwrap();
            units(cluster, node).into_iter().map(Unit::name).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names(&cluster, Role::LoadBalancer), "haproxy keepalived cloud-init");
        assert_eq!(names(&cluster, Role::Master), "kubelet containerd kubeadm cloud-init");
        cluster.etcd = Etcd::Stacked;
        assert_eq!(names(&cluster, Role::Master), "kubelet containerd etcd kubeadm cloud-init");
    }
}
