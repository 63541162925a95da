//! Remote work whose input and output are streamed: a shell, a user's command, a followed log. Nothing
//! is collected, so it has no size or time limit.

use std::ops::ControlFlow;

use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Pty, Sig, client};
use tokio::sync::mpsc;

use super::Command;
use super::session::{Open, STDERR, Session, Trouble};
use crate::limits::excerpt;
use crate::report::screen::Stream;

/// The remote work.
#[derive(Clone, Debug)]
pub enum Work {
    /// The login user's shell, on a terminal if there is one.
    Shell(Option<Terminal>),
    /// A command.
    Command(Command, Option<Terminal>),
}

/// A terminal as described to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Its kind: `TERM`.
    pub kind: String,
    /// Its size.
    pub size: Size,
    /// Its settings, by the opcodes of RFC 4254 §8.
    pub modes: Modes,
}

/// Settings of a terminal: opcodes of RFC 4254 §8, each with its value.
pub type Modes = Vec<(u8, u32)>;

/// A terminal's size, in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// The characters of a line.
    pub columns: u32,
    /// The lines.
    pub rows: u32,
}

/// A message to the work. Its input ends with the channel of these messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Input.
    Bytes(Vec<u8>),
    /// The terminal has a new size.
    Resized(Size),
}

/// Receives the output; `Break` ends the work.
pub type Sink<'a> = dyn FnMut(Stream, &[u8]) -> ControlFlow<()> + Send + 'a;

/// How the work ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With an exit status.
    Exit(u32),
    /// By a signal of this name, such as `TERM`.
    Signal(String),
    /// Ended by the receiver of its output.
    BrokenOff,
}

impl Ended {
    /// The exit code for a shell: 128 and its number for a signal, as POSIX shells count (XCU §2.8.2).
    /// `None` if the receiver ended it.
    pub fn code(&self) -> Option<u8> {
        let number = |name: &str| match name {
            "HUP" => 1,
            "INT" => 2,
            "QUIT" => 3,
            "ILL" => 4,
            "ABRT" => 6,
            "FPE" => 8,
            "KILL" => 9,
            "USR1" => 10,
            "SEGV" => 11,
            "PIPE" => 13,
            "ALRM" => 14,
            "TERM" => 15,
            _ => 0,
        };
        match self {
            // An impossible status must not become 0 by truncation.
            Ended::Exit(status) => Some(u8::try_from(*status).unwrap_or(u8::MAX)),
            Ended::Signal(name) => Some(128 + number(name)),
            Ended::BrokenOff => None,
        }
    }
}

/// Runs the work until it ends.
pub(super) async fn run(
    session: &Session,
    work: &Work,
    mut input: mpsc::Receiver<Input>,
    output: &mut Sink<'_>,
) -> Result<Ended, Trouble> {
    let shell = Command::new("shell");
    let (command, terminal) = match work {
        Work::Shell(terminal) => (&shell, terminal),
        Work::Command(command, terminal) => (command, terminal),
    };
    let (line, first) = match work {
        Work::Shell(_) => (None, Vec::new()),
        Work::Command(command, _) => {
            let (line, first) = session.form(command).await?;
            (Some(line), first)
        }
    };
    let (mut reader, writer) = session.open(command).await?.split();
    let mut open = Open(Some(writer));
    let Some(writer) = &open.0 else { return Err(session.lost(command)) };
    let lost = |_| session.lost(command);
    if let Some(terminal) = terminal {
        ask_for(writer, terminal).await.map_err(lost)?;
        // Before anything runs: a program without the terminal that it needs could do harm.
        if !granted(&mut reader).await {
            return Err(session.refused(command, "the request for a terminal failed".into()));
        }
    }
    match &line {
        None => writer.request_shell(true).await.map_err(lost)?,
        Some(line) => writer.exec(true, line.as_str()).await.map_err(lost)?,
    }
    let write = async {
        if !first.is_empty() {
            writer.data(first.as_slice()).await?;
        }
        while let Some(input) = input.recv().await {
            match input {
                Input::Bytes(bytes) => writer.data(bytes.as_slice()).await?,
                Input::Resized(Size { columns, rows }) => {
                    writer.window_change(columns, rows, 0, 0).await?;
                }
            }
        }
        writer.eof().await
    };
    let mut read = std::pin::pin!(pass(reader, output));
    // Concurrently: it may print before it has read everything, and may end without reading.
    let heard = tokio::select! {
        heard = &mut read => heard,
        // A failed write shows in the output: an exit status or its absence.
        _ = write => read.await,
    };
    match heard {
        Heard::Ended(ended) => {
            if ended != Ended::BrokenOff {
                // It is closed already.
                open.0 = None;
            }
            Ok(ended)
        }
        Heard::Refused => Err(session.refused(command, "the request for it failed".into())),
        Heard::Closed => Err(session.no_status(command)),
        Heard::Lost => Err(session.lost(command)),
    }
}

async fn ask_for(
    writer: &ChannelWriteHalf<client::Msg>,
    terminal: &Terminal,
) -> Result<(), russh::Error> {
    let Size { columns, rows } = terminal.size;
    let modes: Vec<(Pty, u32)> = terminal
        .modes
        .iter()
        .filter_map(|(code, value)| Some((Pty::from_u8(*code)?, *value)))
        .collect();
    writer.request_pty(true, &terminal.kind, columns, rows, 0, 0, &modes).await
}

/// Whether the server grants the request that was just sent. Nothing runs yet that could print.
async fn granted(reader: &mut ChannelReadHalf) -> bool {
    while let Some(message) = reader.wait().await {
        match message {
            ChannelMsg::Success => return true,
            ChannelMsg::Failure | ChannelMsg::Close => return false,
            _ => {}
        }
    }
    false
}

enum Heard {
    Ended(Ended),
    /// The server refused to start it.
    Refused,
    /// The server closed the channel without a status.
    Closed,
    /// The connection was lost.
    Lost,
}

/// Forwards the output until the channel closes. Neither the end of data nor the exit status is the
/// end: the other may still follow.
async fn pass(mut reader: ChannelReadHalf, output: &mut Sink<'_>) -> Heard {
    let mut ended = None;
    while let Some(message) = reader.wait().await {
        let (stream, data) = match message {
            ChannelMsg::Data { data } => (Stream::Out, data),
            ChannelMsg::ExtendedData { data, ext: STDERR } => (Stream::Err, data),
            ChannelMsg::ExitStatus { exit_status } => {
                ended = Some(Ended::Exit(exit_status));
                continue;
            }
            ChannelMsg::ExitSignal { signal_name, .. } => {
                ended = Some(Ended::Signal(name(&signal_name)));
                continue;
            }
            ChannelMsg::Failure => return Heard::Refused,
            ChannelMsg::Close => return ended.map_or(Heard::Closed, Heard::Ended),
            _ => continue,
        };
        if output(stream, &data).is_break() {
            return Heard::Ended(Ended::BrokenOff);
        }
    }
    ended.map_or(Heard::Lost, Heard::Ended)
}

/// The signal's name, without `SIG`.
fn name(signal: &Sig) -> String {
    match signal {
        Sig::Custom(name) => excerpt(name, 40),
        known => format!("{known:?}"),
    }
}
