//! One connection, and the commands that run over it.

use std::time::Duration;

use russh::{Channel, ChannelMsg, ChannelOpenFailure, ChannelReadHalf, client};
use tokio::time::{Instant, sleep, timeout};

use super::dial::Doorkeeper;
use super::sudo::Sudo;
use super::{Command, Error, Output, Target};

/// Extended data of this kind is standard error (RFC 4254 §5.2).
const STDERR: u32 = 1;

/// How long the server may have no session left. OpenSSH counts a session that has ended until it
/// has dealt with all else that came with the end, such as our request for the next one.
const SESSION_PATIENCE: Duration = Duration::from_secs(5);
/// The pause before a session is asked for again.
const SESSION_PAUSE: Duration = Duration::from_millis(50);

/// A connection after login.
pub(super) struct Session {
    node: String,
    handle: client::Handle<Doorkeeper>,
    sudo: Option<Sudo>,
}

/// Why a command did not run to its end.
pub(super) enum Trouble {
    /// The connection was found dead before anything was sent: a new one may be opened.
    NotSent,
    /// Anything else.
    Error(Error),
}

impl Session {
    pub(super) fn new(target: &Target, handle: client::Handle<Doorkeeper>) -> Self {
        let password = target.sudo_password.clone();
        let sudo = password.map(|password| Sudo::new(target.user.clone(), password));
        Self { node: target.node.clone(), handle, sudo }
    }

    pub(super) fn node(&self) -> &str {
        &self.node
    }

    pub(super) fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// Runs a command without a terminal.
    pub(super) async fn run(&self, command: &Command) -> Result<Output, Trouble> {
        let limit = command.longest();
        timeout(limit, self.perform(command)).await.unwrap_or_else(|_| {
            Err(Trouble::Error(Error::Timeout {
                node: self.node.clone(),
                command: command.to_string(),
                seconds: limit.as_secs(),
            }))
        })
    }

    async fn perform(&self, command: &Command) -> Result<Output, Trouble> {
        match (&self.sudo, command.as_root()) {
            (Some(sudo), Some(words)) => {
                let (line, input) = sudo.form(self, command, words).await?;
                self.exec(command, &line, &input).await
            }
            _ => self.exec(command, &command.line(), command.input()).await,
        }
    }

    /// Runs a line with this input; the command is for messages.
    pub(super) async fn exec(
        &self,
        command: &Command,
        line: &str,
        input: &[u8],
    ) -> Result<Output, Trouble> {
        let channel = self.open(command).await?;
        let (reader, writer) = channel.split();
        writer.exec(true, line).await.map_err(|_| self.lost(command))?;
        let write = async {
            if !input.is_empty() {
                writer.data(input).await?;
            }
            writer.eof().await
        };
        let mut read = std::pin::pin!(collect(reader));
        // Both at once: a command may print before it has read everything, and may end without
        // reading anything.
        let heard = tokio::select! {
            heard = &mut read => heard,
            // A failed write shows in what is heard: an exit status or its absence.
            _ = write => read.await,
        };
        match heard {
            Heard { refused: true, .. } => {
                Err(self.refused(command, "the request for a command failed".into()))
            }
            Heard { code: Some(code), stdout, stderr, .. } => Ok(Output { code, stdout, stderr }),
            Heard { code: None, .. } => Err(self.lost(command)),
        }
    }

    /// Opens a session. Nothing runs before it is open, so asking again is safe.
    async fn open(&self, command: &Command) -> Result<Channel<client::Msg>, Trouble> {
        let began = Instant::now();
        loop {
            match self.handle.channel_open_session().await {
                Ok(channel) => return Ok(channel),
                Err(russh::Error::ChannelOpenFailure(
                    ChannelOpenFailure::ConnectFailed | ChannelOpenFailure::ResourceShortage,
                )) if began.elapsed() < SESSION_PATIENCE => sleep(SESSION_PAUSE).await,
                Err(russh::Error::ChannelOpenFailure(reason)) => {
                    return Err(self.refused(command, format!("no channel ({reason:?})")));
                }
                Err(_) => return Err(Trouble::NotSent),
            }
        }
    }

    fn lost(&self, command: &Command) -> Trouble {
        Trouble::Error(Error::Lost { node: self.node.clone(), command: command.to_string() })
    }

    fn refused(&self, command: &Command, cause: String) -> Trouble {
        Trouble::Error(Error::Refused {
            node: self.node.clone(),
            command: command.to_string(),
            cause,
        })
    }
}

#[derive(Default)]
struct Heard {
    code: Option<u32>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    refused: bool,
}

/// Reads a channel to its end. Neither the end of data nor the exit status is the end: the other
/// may still come.
async fn collect(mut reader: ChannelReadHalf) -> Heard {
    let mut heard = Heard::default();
    while let Some(message) = reader.wait().await {
        match message {
            ChannelMsg::Data { data } => heard.stdout.extend_from_slice(&data),
            ChannelMsg::ExtendedData { data, ext: STDERR } => heard.stderr.extend_from_slice(&data),
            ChannelMsg::ExitStatus { exit_status } => heard.code = Some(exit_status),
            ChannelMsg::ExitSignal { signal_name, .. } => {
                heard.code = Some(128);
                heard.stderr.extend_from_slice(format!("killed by {signal_name:?}\n").as_bytes());
            }
            ChannelMsg::Failure => {
                heard.refused = true;
                break;
            }
            _ => {}
        }
    }
    heard
}
