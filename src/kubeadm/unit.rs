//! Runs long commands as transient systemd units: they survive a lost connection, and the next
//! connection finds them again.

use std::time::Duration;

use super::error::Doing;
use super::{Error, files};
use crate::clock::{Clock, Expired, Wait};
use crate::report::event;
use crate::ssh::{self, Command, Remote, mask};

/// The pause between two checks.
const LOOK: Duration = Duration::from_secs(1);
/// How long a node may be unreachable while its unit runs.
const PATIENCE: Duration = Duration::from_secs(120);
/// How many lines from the end of the log an error quotes.
const LAST_LINES: usize = 20;

/// A long-running k8sha command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// `kubeadm init`.
    Init,
    /// `kubeadm join`.
    Join,
}

impl Unit {
    /// The systemd unit's name.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Init => "k8sha-kubeadm-init",
            Unit::Join => "k8sha-kubeadm-join",
        }
    }

    /// The path of its output, on the node.
    pub fn log(self) -> &'static str {
        match self {
            Unit::Init => "/var/log/k8sha/kubeadm-init.log",
            Unit::Join => "/var/log/k8sha/kubeadm-join.log",
        }
    }

    fn start(self, argv: &[String]) -> Command {
        Command::sudo("systemd-run")
            .arg(format!("--unit={}", self.name()))
            .arg("--property=RemainAfterExit=yes")
            .arg(format!("--property=StandardOutput=append:{}", self.log()))
            .arg(format!("--property=StandardError=append:{}", self.log()))
            .arg("--")
            .args(argv.iter().cloned())
    }
}

/// The state of a unit according to systemd.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// There is none: never started, forgotten, or the node was rebooted since.
    #[default]
    Absent,
    /// It is running.
    Running,
    /// It succeeded, and systemd still remembers it.
    Done,
    /// It failed, and systemd still remembers it.
    Failed {
        /// systemd's `Result`, such as `exit-code`.
        result: String,
        /// The exit status of its program.
        code: String,
    },
}

/// Parses the output of `systemctl show` (systemctl(1); the properties are those of
/// org.freedesktop.systemd1(5)).
fn parse(text: &str) -> State {
    let get = |key: &str| {
        text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default()
    };
    match (get("LoadState"), get("ActiveState"), get("SubState")) {
        (_, "failed", _) => {
            State::Failed { result: get("Result").into(), code: get("ExecMainStatus").into() }
        }
        (_, "active", "exited") => State::Done,
        (_, "active" | "activating" | "deactivating" | "reloading", _) => State::Running,
        _ => State::Absent,
    }
}

async fn show(remote: &Remote, unit: Unit) -> Result<State, ssh::Error> {
    let mut command = Command::new("systemctl").arg("show");
    for property in ["LoadState", "ActiveState", "SubState", "Result", "ExecMainStatus"] {
        command = command.args(["-p", property]);
    }
    let output = remote.run_ok(&command.arg(unit.name())).await?;
    Ok(parse(&output.stdout_text()))
}

/// Reads the state of a unit.
///
/// # Errors
/// If the node cannot be queried.
pub async fn state(remote: &Remote, unit: Unit) -> Result<State, Error> {
    show(remote, unit).await.doing(format!("look at `{}`", unit.name()))
}

/// Makes systemd forget a unit that has finished, so that its name is free; returns its state. A
/// running unit is left alone.
///
/// # Errors
/// If the node refuses.
pub async fn forget(remote: &Remote, unit: Unit) -> Result<State, Error> {
    let doing = || format!("clear away `{}`", unit.name());
    let state = state(remote, unit).await?;
    let verb = match state {
        State::Absent | State::Running => return Ok(state),
        State::Done => "stop",
        State::Failed { .. } => "reset-failed",
    };
    remote.run_ok(&Command::sudo("systemctl").args([verb, unit.name()])).await.doing(doing())?;
    Ok(state)
}

/// Starts a command as a unit. A running unit with that name is left running.
///
/// # Errors
/// If the node refuses.
pub async fn start(remote: &Remote, unit: Unit, argv: &[String]) -> Result<(), Error> {
    if forget(remote, unit).await? == State::Running {
        return Ok(());
    }
    // A new log for each attempt, and the folder too: systemd creates neither.
    files::write(remote, unit.log(), b"").await?;
    let started = remote.run_ok(&unit.start(argv)).await;
    match started {
        Ok(_) => Ok(()),
        // The answer was lost, or another run was faster: systemd's state decides.
        Err(source) => match show(remote, unit).await {
            Ok(State::Absent) | Err(_) => Err(source).doing(format!("start `{}`", unit.name())),
            Ok(_) => Ok(()),
        },
    }
}

/// Follows a unit to its end, and forwards its output.
///
/// # Errors
/// [`Error::Unit`] if it failed, with the end of its log; [`Error::UnitGone`] if it disappeared;
/// [`Error::TooLong`] if it is still running after `limit`.
pub async fn follow(
    remote: &Remote,
    unit: Unit,
    clock: Clock,
    limit: Duration,
) -> Result<(), Error> {
    let mut wait = Wait::new(clock, limit, LOOK).away_at_most(PATIENCE);
    let mut log = Log::default();
    loop {
        // The state first, then the log: so the last read of the log comes after the end.
        let waited = match show(remote, unit).await {
            Ok(state) => {
                log.read(remote, unit, state != State::Running).await;
                match state {
                    State::Running => wait.not_yet(Ok(log.last.last().cloned())).await,
                    State::Done => return Ok(()),
                    State::Failed { result, code } => {
                        return Err(Error::Unit {
                            node: remote.node().to_owned(),
                            unit: unit.name().to_owned(),
                            result,
                            code,
                            last: log.last,
                        });
                    }
                    State::Absent => {
                        return Err(Error::UnitGone {
                            node: remote.node().to_owned(),
                            unit: unit.name().to_owned(),
                        });
                    }
                }
            }
            Err(source) if source.is_transient() => {
                event::progress(format!("cannot see `{}` at the moment: {source}", unit.name()));
                wait.away(Err(source)).await
            }
            Err(source) => return Err(source).doing(format!("follow `{}`", unit.name())),
        };
        if let Err(Expired { seen, limit }) = waited {
            let last = seen.doing(format!("follow `{}`", unit.name()))?;
            let what = format!("`{}` did not end", unit.name());
            let last = last.unwrap_or_else(|| "no output".into());
            return Err(Error::too_long(remote, what, limit, last));
        }
    }
}

/// What has been read of a log.
#[derive(Default)]
struct Log {
    lines: usize,
    last: Vec<String>,
}

impl Log {
    /// Reads new output. A log that cannot be read is not an error: the state decides.
    async fn read(&mut self, remote: &Remote, unit: Unit, ended: bool) {
        let from = format!("+{}", self.lines + 1);
        let command = Command::sudo("tail").args(["-n", &from, unit.log()]);
        if let Ok(output) = remote.run_ok(&command).await {
            self.take(&output.stdout_text(), ended);
        }
    }

    fn take(&mut self, text: &str, ended: bool) {
        for line in text.split_inclusive('\n') {
            // An incomplete line is left for the next read.
            if !line.ends_with('\n') && !ended {
                break;
            }
            self.lines += 1;
            let line = mask::mask(line.trim_end());
            event::output(&*line);
            self.last.push(line);
        }
        let surplus = self.last.len().saturating_sub(LAST_LINES);
        self.last.drain(..surplus);
    }
}

/// The end of a unit's log, for an error.
pub(super) async fn journal(remote: &Remote, unit: &str) -> String {
    let command =
        Command::sudo("journalctl").args(["-u", unit, "-n", "40", "--no-pager", "-o", "cat"]);
    match remote.run_ok(&command).await {
        Ok(output) => mask::mask(output.stdout_text().trim_end()),
        Err(error) => format!("(no journal: {error})"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::kubeadm::fake::Host;
    use crate::ssh::fake::Reply;

    const RUNNING: &str = "LoadState=loaded\nActiveState=active\nSubState=running\nResult=success\nExecMainStatus=0\n";
    const EXITED: &str =
        "LoadState=loaded\nActiveState=active\nSubState=exited\nResult=success\nExecMainStatus=0\n";
    const FAILED: &str = "LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=exit-code\nExecMainStatus=1\n";
    const ABSENT: &str = "LoadState=not-found\nActiveState=inactive\nSubState=dead\nResult=success\nExecMainStatus=0\n";

    fn clock() -> Clock {
        Clock::simulated(1000.0).hurried(1000.0)
    }

    #[test]
    fn the_states_of_a_transient_unit_are_told_apart() {
        for (text, want) in [
            (RUNNING, State::Running),
            (EXITED, State::Done),
            (FAILED, State::Failed { result: "exit-code".into(), code: "1".into() }),
            (ABSENT, State::Absent),
        ] {
            assert_eq!(parse(text), want);
        }
    }

    #[test]
    fn the_unit_is_started_in_the_one_agreed_form() {
        let argv = ["/usr/bin/kubeadm", "init"].map(str::to_owned);
        assert_eq!(
            Unit::Init.start(&argv).line(),
            "sudo -n -- systemd-run --unit=k8sha-kubeadm-init --property=RemainAfterExit=yes \
             --property=StandardOutput=append:/var/log/k8sha/kubeadm-init.log \
             --property=StandardError=append:/var/log/k8sha/kubeadm-init.log \
             -- /usr/bin/kubeadm init"
        );
    }

    #[test]
    fn half_a_line_is_told_when_it_is_whole_and_secrets_never() {
        let mut log = Log::default();
        log.take("[init] one\n[init] tw", false);
        assert_eq!((log.lines, log.last.len()), (1, 1));
        log.take("[init] two\n--token abcdef.0123456789abcdef", true);
        assert_eq!(log.last, ["[init] one", "[init] two", "--token [masked]"]);
    }

    #[tokio::test]
    async fn a_failed_unit_is_an_error_with_its_last_lines() {
        let shown = AtomicUsize::new(0);
        let host = Host::start(move |words, files| {
            if words[..2] != ["systemctl", "show"] {
                return None;
            }
            let n = shown.fetch_add(1, Ordering::SeqCst);
            let log: String = (0..30).map(|i| format!("line {i}\n")).collect();
            files.lock().unwrap().insert(Unit::Join.log().into(), log.into());
            Some(Reply::out(if n < 3 { RUNNING } else { FAILED }))
        })
        .await;
        let error = follow(&host.remote("n1"), Unit::Join, clock(), Duration::from_secs(6000))
            .await
            .unwrap_err();
        let Error::Unit { last, code, .. } = &error else { panic!("{error}") };
        assert_eq!((last.len(), last[0].as_str(), code.as_str()), (20, "line 10", "1"));
    }

    #[tokio::test]
    async fn a_lost_connection_does_not_end_the_following() {
        let shown = AtomicUsize::new(0);
        let host = Host::start(move |words, _| {
            (words[..2] == ["systemctl", "show"]).then(|| {
                match shown.fetch_add(1, Ordering::SeqCst) {
                    0 => Reply::out(RUNNING),
                    1 => Reply::Drop,
                    _ => Reply::out(EXITED),
                }
            })
        })
        .await;
        follow(&host.remote("n1"), Unit::Init, clock(), Duration::from_secs(6000)).await.unwrap();
        assert_eq!(host.fake.connections(), 2);
    }

    #[tokio::test]
    async fn a_unit_that_vanishes_is_an_error() {
        let host = Host::start(|words, _| {
            (words[..2] == ["systemctl", "show"]).then(|| Reply::out(ABSENT))
        })
        .await;
        let end = follow(&host.remote("n1"), Unit::Init, clock(), Duration::from_secs(60)).await;
        assert!(matches!(end, Err(Error::UnitGone { .. })), "{end:?}");
    }
}
