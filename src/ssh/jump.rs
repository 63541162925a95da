//! A jump host: one persistent connection, through which all nodes are reached.
//!
//! It carries TCP connections to the nodes (`direct-tcpip`, RFC 4254 §7.2), nothing else: each
//! node's own host key is verified through it, end to end, and the jump host sees neither commands
//! nor secrets.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use russh::ChannelOpenFailure;
use tokio::net::lookup_host;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::dial::{Fault, Greeted, greet};
use super::login::{Refusal, login};
use super::{Error, HostKeys, Keys};
use crate::limits::{span, ssh};
use crate::net::{Connection, Dialer, Route, Routing};

/// The address and host keys of a jump host.
pub struct Jump {
    /// Its name or address.
    pub host: String,
    /// The port of its SSH server.
    pub port: u16,
    /// The login user.
    pub user: String,
    /// The host keys of which it must present one.
    pub host_keys: HostKeys,
    /// The keys to offer.
    pub keys: Keys,
}

impl Jump {
    /// The route through it; nothing is opened yet.
    pub fn route(self) -> Arc<dyn Route> {
        Arc::new(Way { jump: self, slot: Mutex::default() })
    }

    fn fault(&self, cause: impl fmt::Display, fix: impl Into<String>, transient: bool) -> Error {
        let cause = cause.to_string();
        Error::Jump { jump: self.to_string(), cause, fix: fix.into(), transient }
    }

    fn unreachable(&self, cause: impl fmt::Display) -> Error {
        let port = if self.port == 22 { String::new() } else { format!("-p {} ", self.port) };
        self.fault(cause, format!("ssh {port}{}@{}     (from here)", self.user, self.host), true)
    }

    async fn dial(&self) -> Result<Greeted, Error> {
        let addresses = timeout(ssh::CONNECT, lookup_host((self.host.as_str(), self.port)))
            .await
            .map_err(|_| self.unreachable(format!("no answer about the name `{}`", self.host)))?
            .map_err(|error| self.unreachable(error))?;
        let mut causes = Vec::new();
        for address in addresses {
            match Dialer::direct().tcp(address, ssh::CONNECT).await {
                Ok(stream) => {
                    return timeout(ssh::LOGIN, self.enter(address, stream)).await.unwrap_or_else(
                        |_| {
                            let limit = span(ssh::LOGIN);
                            let cause = format!("connected, but the login timed out after {limit}");
                            Err(self.unreachable(cause))
                        },
                    );
                }
                Err(error) => causes.push(format!("{address}: {error}")),
            }
        }
        Err(self.unreachable(if causes.is_empty() {
            format!("`{}` has no address", self.host)
        } else {
            causes.join("; ")
        }))
    }

    async fn enter(&self, address: SocketAddr, stream: Connection) -> Result<Greeted, Error> {
        let (mut handle, knife) =
            greet(stream, &self.host_keys).await.map_err(|fault| {
                match fault {
            Fault::HostKey { seen } => self.fault(
                format!(
                    "its host key does not match the known one: expected {}, found {seen}",
                    self.host_keys.fingerprints()
                ),
                format!(
                    "another machine answers at {address}, or the jump host was reinstalled: compare \
                     with what\n`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` prints on its \
                     console, then pin the new key"
                ),
                false,
            ),
            fault => self.unreachable(fault),
        }
            })?;
        login(&mut handle, &knife, &self.user, &self.keys).await.map_err(
            |refusal| {
                match refusal {
            Refusal::Keys(offered) => self.fault(
                format!("it refuses user `{}`: offered {offered}", self.user),
                "set the private key that it accepts (`access.identity` or `--identity`), or add it \
                 to your ssh-agent (`ssh-add`)",
                false,
            ),
            Refusal::Lost(cause) => self.unreachable(cause),
        }
            },
        )?;
        Ok((handle, knife))
    }
}

impl fmt::Display for Jump {
    /// `user@host:port`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "{}@[{}]:{}", self.user, self.host, self.port)
        } else {
            write!(f, "{}@{}:{}", self.user, self.host, self.port)
        }
    }
}

/// The persistent connection.
struct Way {
    jump: Jump,
    slot: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    handle: Option<Arc<Greeted>>,
    failed: Option<(Instant, Error)>,
}

impl Way {
    async fn handle(&self) -> Result<Arc<Greeted>, Error> {
        let asked = Instant::now();
        // The lock is held while the connection opens: all nodes share it.
        let mut slot = self.slot.lock().await;
        if let Some(handle) = slot.handle.as_ref().filter(|greeted| !greeted.0.is_closed()) {
            return Ok(Arc::clone(handle));
        }
        // Everything that waited for a failed attempt shares its error, otherwise eight nodes would
        // wait for eight attempts.
        if let Some((when, error)) = slot.failed.as_ref().filter(|(when, _)| *when >= asked) {
            tracing::debug!(?when, "a shared failure");
            return Err(error.clone());
        }
        match self.jump.dial().await {
            Ok(handle) => {
                tracing::debug!(jump = %self.jump, "through the jump host");
                let handle = Arc::new(handle);
                slot.handle = Some(Arc::clone(&handle));
                Ok(handle)
            }
            Err(error) => {
                slot.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn channel(&self, to: SocketAddr) -> io::Result<Connection> {
        let mut opened = self.open_channel(to).await?;
        if matches!(opened, Err(ref error) if !is_refusal(error)) {
            // The connection had died unnoticed: a new one is opened.
            self.slot.lock().await.handle = None;
            opened = self.open_channel(to).await?;
        }
        match opened {
            Ok(stream) => Ok(stream),
            Err(russh::Error::ChannelOpenFailure(ChannelOpenFailure::ConnectFailed)) => {
                // It does not say whether a machine refuses there or none exists there.
                let text = format!("the jump host {} cannot connect to {to}", self.jump);
                Err(io::Error::new(io::ErrorKind::HostUnreachable, text))
            }
            Err(russh::Error::ChannelOpenFailure(reason)) => Err(told(self.jump.fault(
                format!("it does not forward to {to} ({reason:?})"),
                "allow it in its sshd_config: AllowTcpForwarding, PermitOpen, DisableForwarding",
                false,
            ))),
            Err(error) => Err(told(self.jump.unreachable(error))),
        }
    }

    async fn open_channel(&self, to: SocketAddr) -> io::Result<Result<Connection, russh::Error>> {
        let handle = self.handle().await.map_err(told)?;
        // In a separate task: if nothing waits for it any longer, a connection that opens late is
        // closed again.
        let open = tokio::spawn(async move {
            let (ip, port) = (to.ip().to_string(), u32::from(to.port()));
            let channel = handle.0.channel_open_direct_tcpip(ip, port, "127.0.0.1", 0).await?;
            Ok::<Connection, russh::Error>(Box::new(channel.into_stream()))
        });
        open.await.map_err(io::Error::other)
    }
}

/// Whether the jump host itself refused.
fn is_refusal(error: &russh::Error) -> bool {
    matches!(error, russh::Error::ChannelOpenFailure(_))
}

/// Wraps an SSH error for an interface that supports system errors only.
fn told(error: Error) -> io::Error {
    io::Error::other(error)
}

impl Route for Way {
    fn open(&self) -> Routing<'_, ()> {
        Box::pin(async { self.handle().await.map(drop).map_err(told) })
    }

    fn connect(&self, to: SocketAddr) -> Routing<'_, Connection> {
        Box::pin(self.channel(to))
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Way({})", self.jump)
    }
}
