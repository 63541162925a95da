//! `k8sha ssh NODE [-- CMD…]`: runs a shell or a command on a node and passes its streams and exit
//! code through.

use std::io::{self, Read as _};
use std::ops::ControlFlow;
use std::time::Instant;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::args::Common;
use super::reach;
use super::session::Session;
use super::terminal::{self, Escape, Raw};
use crate::error::{End, Exit, Failure};
use crate::exits::failure;
use crate::report::screen;
use crate::ssh::{Command, Ended, Error, Input, Remote, Work};

/// The number of pieces of input that may wait to be sent, and the size of each in bytes.
const PIECES: usize = 4;
const PIECE: usize = 16 * 1024;
/// The exit code of a program whose output is no longer read: 128 plus SIGPIPE.
const UNREAD: u8 = 141;

/// The requested shell or command.
pub(super) struct Wish {
    /// The name of the node.
    pub(super) node: String,
    /// Whether a command gets a terminal.
    pub(super) tty: bool,
    /// The command; a shell if there is none.
    pub(super) command: Vec<String>,
}

pub(super) async fn run(common: &Common, started: Instant, wish: Wish) -> Result<End, Failure> {
    // Every other code is the command's own.
    let ours = |failure| Failure { exit: Exit::NoCommand, ..failure };
    perform(common, started, wish).await.map(End::Theirs).map_err(ours)
}

async fn perform(common: &Common, started: Instant, wish: Wish) -> Result<u8, Failure> {
    let doing = match wish.command.is_empty() {
        true => "open a shell",
        false => "run a command",
    };
    let there = terminal::is_there();
    if wish.tty && !there {
        let said = "standard input is not a terminal";
        return Err(Failure::new(Exit::Usage, "give the command a terminal", said));
    }
    let session = Session::open(common, started, "ssh").await?;
    let node = reach::row(&session.cluster, &wish.node, "reach")?;
    let remote = reach::remote(&session, node, doing)?;
    let fault = |error: &Error| {
        let simulated = session.world.simulated() && matches!(error, Error::Refused { .. });
        let hint =
            "simulated nodes have no shell, but run single commands: `k8sha ssh NODE -- CMD`";
        failure(doing, error).on(&node.name).hint(simulated.then(|| hint.to_owned()))
    };
    // Before raw mode: until there is a connection, Ctrl-C ends the program.
    let connect = async { remote.connect().await.map_err(|error| fault(&error)) };
    session.unless_interrupted("ssh", connect).await?;
    let wants = there && (wish.tty || wish.command.is_empty());
    let local = |error: io::Error| Failure::caused(Exit::Local, "set up the terminal", error);
    let kind = wants.then(terminal::describe).transpose().map_err(local)?;
    let raw = wants.then(Raw::enter).transpose().map_err(local)?;
    let mut words = wish.command.into_iter();
    let work = match words.next() {
        None => Work::Shell(kind),
        Some(program) => Work::Command(Command::new(program).args(words), kind),
    };
    let hung_up = CancellationToken::new();
    let ended = tokio::select! {
        biased;
        () = session.cancel.cancelled() => Err(broken(doing, "interrupted")),
        () = hung_up.cancelled() => Err(broken(doing, "ended by `~.`")),
        ended = pass(&remote, &work, wants, &hung_up) => match ended {
            Ok(ended) => Ok(ended),
            Err(Cut::Ssh(error)) => Err(fault(&error)),
            Err(Cut::Output(error)) => {
                Err(Failure::caused(Exit::Local, "write to stdout", error))
            }
        },
    };
    // Messages from here on need the original terminal settings.
    drop(raw);
    let ended = ended?;
    session.world.verdict()?;
    if let Ended::Signal(name) = &ended {
        screen::say(&format!("ended by signal {name} on {}", node.name));
    }
    Ok(ended.code().unwrap_or(UNREAD))
}

fn broken(doing: &str, said: &str) -> Failure {
    Failure::new(Exit::Interrupted, doing, format!("{said}; it may still be running on the node"))
}

/// Why the outcome is unknown.
enum Cut {
    Ssh(Error),
    Output(io::Error),
}

/// Runs the work with this process's streams.
async fn pass(
    remote: &Remote,
    work: &Work,
    terminal: bool,
    hung_up: &CancellationToken,
) -> Result<Ended, Cut> {
    let (sender, input) = mpsc::channel(PIECES);
    if terminal {
        tokio::spawn(follow_size(sender.downgrade()));
    }
    let (escape, hung_up) = (terminal.then(Escape::new), hung_up.clone());
    std::thread::spawn(move || read(&sender, escape, &hung_up));
    let mut fault = None;
    let mut output = |stream, bytes: &[u8]| match screen::pass(stream, bytes) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            // A closed pipe is not an error.
            fault = Some(error).filter(|error| error.kind() != io::ErrorKind::BrokenPipe);
            ControlFlow::Break(())
        }
    };
    let ended = remote.attach(work, input, &mut output).await.map_err(Cut::Ssh)?;
    fault.map_or(Ok(ended), |error| Err(Cut::Output(error)))
}

/// Forwards standard input until its end, which ends the remote input too. It blocks in a separate
/// thread, which does not delay the end of the program.
fn read(sender: &mpsc::Sender<Input>, mut escape: Option<Escape>, hung_up: &CancellationToken) {
    let mut piece = vec![0; PIECE];
    loop {
        let typed = match io::stdin().read(&mut piece) {
            Ok(count) if count > 0 => &piece[..count],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            _ => return,
        };
        let bytes = match &mut escape {
            None => typed.to_vec(),
            Some(escape) => match escape.pass(typed) {
                Some(bytes) => bytes,
                None => return hung_up.cancel(),
            },
        };
        if !bytes.is_empty() && sender.blocking_send(Input::Bytes(bytes)).is_err() {
            return;
        }
    }
}

/// Forwards each new size of the terminal.
async fn follow_size(sender: mpsc::WeakSender<Input>) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    while changes.recv().await.is_some() {
        // Not kept while waiting, so that the input ends with its reader.
        let Some(sender) = sender.upgrade() else { return };
        if sender.send(Input::Resized(terminal::size())).await.is_err() {
            return;
        }
    }
}
