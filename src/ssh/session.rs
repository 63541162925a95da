//! One connection, and the commands that run over it.

use std::time::Duration;

use russh::{Channel, ChannelMsg, ChannelOpenFailure, ChannelReadHalf, ChannelWriteHalf, client};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::dial::Doorkeeper;
use super::line::Knife;
use super::sudo::Sudo;
use super::{Command, Error, Output, Target};
use crate::clock::{Clock, Wait};
use crate::limits::{UNTOLD, excerpt, ssh};
use crate::report::event;

/// Extended data of this kind is standard error (RFC 4254 §5.2).
pub(super) const STDERR: u32 = 1;

/// How long the server may have no free session. OpenSSH counts a finished session until it has
/// handled everything that arrived with its end, such as the request for the next one.
const SESSION_PATIENCE: Duration = Duration::from_secs(5);
/// The pause before a session is requested again.
const SESSION_PAUSE: Duration = Duration::from_millis(50);

/// A connection after login.
pub(super) struct Session {
    node: String,
    handle: client::Handle<Doorkeeper>,
    knife: Knife,
    sudo: Option<Sudo>,
    clock: Clock,
}

/// Why a command did not run to its end.
pub(super) enum Trouble {
    /// The connection was found dead before anything was sent: a new one may be opened.
    NotSent,
    /// Anything else.
    Error(Error),
}

impl Session {
    pub(super) fn new(target: &Target, handle: client::Handle<Doorkeeper>, knife: Knife) -> Self {
        let password = target.sudo_password.clone();
        let sudo = password.map(|password| Sudo::new(target.user.clone(), password));
        Self { node: target.node.clone(), handle, knife, sudo, clock: target.clock }
    }

    pub(super) fn node(&self) -> &str {
        &self.node
    }

    pub(super) fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// Runs a command without a terminal.
    pub(super) async fn run(&self, command: &Command) -> Result<Output, Trouble> {
        let limit = self.clock.limit(command.longest());
        let waits = || format!("waiting for `{}`", excerpt(&command.to_string(), 100));
        let work = event::untold(UNTOLD, waits, self.perform(command));
        timeout(limit, work).await.unwrap_or_else(|_| {
            Err(Trouble::Error(Error::Timeout {
                node: self.node.clone(),
                command: command.to_string(),
                limit,
            }))
        })
    }

    async fn perform(&self, command: &Command) -> Result<Output, Trouble> {
        let (line, input) = self.form(command).await?;
        self.exec(command, &line, &input).await
    }

    /// The line and the input with which a command runs.
    pub(super) async fn form(&self, command: &Command) -> Result<(String, Vec<u8>), Trouble> {
        match (&self.sudo, command.as_root()) {
            (Some(sudo), Some(words)) => sudo.form(self, command, words).await,
            _ => Ok((command.line(), command.input().to_vec())),
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
        let mut open = Open(Some(writer));
        let Some(writer) = &open.0 else { return Err(self.lost(command)) };
        writer.exec(true, line).await.map_err(|_| self.lost(command))?;
        let write = async {
            if !input.is_empty() {
                writer.data(input).await?;
            }
            writer.eof().await
        };
        let mut read = std::pin::pin!(collect(reader, command.most()));
        // Both at once: a command may print before it has read everything, and may exit without
        // reading anything.
        let heard = tokio::select! {
            heard = &mut read => heard,
            // A failed write shows in the received messages: an exit status or its absence.
            _ = write => read.await,
        };
        let Heard { code, stdout, stderr, end } = heard;
        if end != End::Refused {
            // It is closed already, or about to be cut.
            open.0 = None;
        }
        match (end, code) {
            (End::Refused, _) => {
                Err(self.refused(command, "the request for a command failed".into()))
            }
            (End::TooMuch(stream, limit), _) => {
                // Otherwise it would keep sending data that has no reader.
                self.knife.cut();
                let (node, command) = (self.node.clone(), command.to_string());
                Err(Trouble::Error(Error::TooMuch { node, command, stream, limit }))
            }
            (_, Some(code)) => Ok(Output { code, stdout, stderr }),
            (End::Closed, None) => Err(self.no_status(command)),
            (End::Lost, None) => Err(self.lost(command)),
        }
    }

    /// Opens a session. Nothing runs before it is open, so a new attempt is safe.
    pub(super) async fn open(&self, command: &Command) -> Result<Channel<client::Msg>, Trouble> {
        // By real time: how many sessions a server allows does not depend on its world's speed.
        let mut wait = Wait::new(Clock::real(), SESSION_PATIENCE, SESSION_PAUSE);
        loop {
            let reason = match self.handle.channel_open_session().await {
                Ok(channel) => return Ok(channel),
                Err(russh::Error::ChannelOpenFailure(reason)) => reason,
                Err(_) => return Err(Trouble::NotSent),
            };
            let is_full = matches!(
                reason,
                ChannelOpenFailure::ConnectFailed | ChannelOpenFailure::ResourceShortage
            );
            if !is_full || wait.not_yet(()).await.is_err() {
                return Err(self.refused(command, format!("no channel ({reason:?})")));
            }
        }
    }

    pub(super) fn lost(&self, command: &Command) -> Trouble {
        Trouble::Error(Error::Lost { node: self.node.clone(), command: command.to_string() })
    }

    pub(super) fn no_status(&self, command: &Command) -> Trouble {
        Trouble::Error(Error::NoStatus { node: self.node.clone(), command: command.to_string() })
    }

    pub(super) fn refused(&self, command: &Command, cause: String) -> Trouble {
        Trouble::Error(Error::Refused {
            node: self.node.clone(),
            command: command.to_string(),
            cause,
        })
    }
}

/// A channel that is closed when its command is abandoned, so that the server's session count
/// decreases.
pub(super) struct Open(pub(super) Option<ChannelWriteHalf<client::Msg>>);

impl Drop for Open {
    fn drop(&mut self) {
        let (Some(writer), Ok(runtime)) = (self.0.take(), Handle::try_current()) else { return };
        runtime.spawn(async move { writer.close().await });
    }
}

/// How a channel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// With the connection.
    Lost,
    /// By the server.
    Closed,
    /// The command was not started.
    Refused,
    /// By k8sha: the name of the stream that exceeded its limit, and the limit.
    TooMuch(&'static str, usize),
}

struct Heard {
    code: Option<u32>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    end: End,
}

/// Reads a channel to its end, or to the output limit. Neither the end of data nor the exit status
/// is the end: the other may still come.
async fn collect(mut reader: ChannelReadHalf, most: usize) -> Heard {
    let mut heard = Heard { code: None, stdout: Vec::new(), stderr: Vec::new(), end: End::Lost };
    while let Some(message) = reader.wait().await {
        let (text, data, most, stream) = match message {
            ChannelMsg::Data { data } => (&mut heard.stdout, data, most, "standard output"),
            ChannelMsg::ExtendedData { data, ext: STDERR } => {
                (&mut heard.stderr, data, ssh::STDERR, "standard error")
            }
            ChannelMsg::ExitStatus { exit_status } => {
                heard.code = Some(exit_status);
                continue;
            }
            ChannelMsg::ExitSignal { signal_name, .. } => {
                heard.code = Some(128);
                let signal = excerpt(&format!("{signal_name:?}"), 40);
                heard.stderr.extend_from_slice(format!("killed by {signal}\n").as_bytes());
                continue;
            }
            ChannelMsg::Failure => {
                heard.end = End::Refused;
                break;
            }
            ChannelMsg::Close => {
                heard.end = End::Closed;
                break;
            }
            _ => continue,
        };
        if text.len() + data.len() > most {
            heard.end = End::TooMuch(stream, most);
            break;
        }
        text.extend_from_slice(&data);
    }
    heard
}
