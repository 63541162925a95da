//! Opens a connection: TCP, host key, login.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use russh::keys::PublicKeyOrCertificate;
use russh::{ChannelId, ChannelOpenFailure, Preferred, client};
use tokio::time::timeout;

use super::line::{Knife, Line};
use super::login::{Refusal, login};
use super::session::Session;
use super::{Error, HostKeys, Target};
use crate::limits::{excerpt, span, ssh};
use crate::net::Connection;

/// How long the other side may send nothing before a keepalive request is sent. There is no limit
/// on inactivity: a command may print nothing for minutes.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// After how many unanswered keepalive requests the connection counts as dead.
const KEEPALIVE_MAX: usize = 4;

/// Checks the host key, and ignores all other events of the connection.
pub(super) struct Doorkeeper {
    expected: HostKeys,
    banners: Arc<AtomicUsize>,
}

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum Fault {
    HostKey {
        seen: String,
    },
    /// The server's banners exceed the limit.
    Banner,
    Protocol(russh::Error),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::HostKey { seen } => f.write_str(seen),
            Fault::Banner => f.write_str("it sends banner lines without end"),
            Fault::Protocol(russh::Error::Version) => {
                f.write_str("this is not an SSH server: its first line is not `SSH-2.0-…`")
            }
            Fault::Protocol(error) => f.write_str(&excerpt(&error.to_string(), ssh::QUOTED)),
        }
    }
}

impl From<russh::Error> for Fault {
    fn from(error: russh::Error) -> Self {
        Fault::Protocol(error)
    }
}

impl client::Handler for Doorkeeper {
    type Error = Fault;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Fault> {
        self.expected.check(shown).map(|()| true).map_err(|seen| Fault::HostKey { seen })
    }

    async fn auth_banner(
        &mut self,
        banner: &str,
        _session: &mut client::Session,
    ) -> Result<(), Fault> {
        let before = self.banners.fetch_add(banner.len(), Ordering::Relaxed);
        if before + banner.len() > ssh::BANNER_BYTES { Err(Fault::Banner) } else { Ok(()) }
    }

    async fn channel_open_failure(
        &mut self,
        _channel: ChannelId,
        reason: ChannelOpenFailure,
        description: &str,
        _language: &str,
        _session: &mut client::Session,
    ) -> Result<(), Fault> {
        // The caller gets the reason only.
        let description = excerpt(description, ssh::QUOTED);
        tracing::debug!(?reason, description, "no channel");
        Ok(())
    }
}

fn config(expected: &HostKeys) -> client::Config {
    client::Config {
        // Only the kinds of the known keys: a server that has others too must present one of these.
        preferred: Preferred { key: Cow::Owned(expected.kinds()), ..Preferred::default() },
        inactivity_timeout: None,
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: KEEPALIVE_MAX,
        nodelay: true,
        ..client::Config::default()
    }
}

/// A connection whose other end has presented an expected host key, and the handle that cuts it.
pub(super) type Greeted = (client::Handle<Doorkeeper>, Knife);

/// Exchanges keys with the other end, which must present one of the expected host keys.
pub(super) async fn greet(stream: Connection, expected: &HostKeys) -> Result<Greeted, Fault> {
    let (line, knife) = Line::new(stream);
    let doorkeeper = Doorkeeper { expected: expected.clone(), banners: knife.banners() };
    let greeted = client::connect_stream(Arc::new(config(expected)), line, doorkeeper).await;
    let greeted = greeted.map_err(|fault| match fault {
        Fault::Protocol(russh::Error::NoCommonAlgo {
            kind: russh::AlgorithmKind::Key,
            theirs,
            ..
        }) => {
            let kinds = expected.kinds();
            let kinds: Vec<&str> = kinds
                .iter()
                .map(|kind| kind.as_str().strip_prefix("ssh-").unwrap_or(kind.as_str()))
                .collect();
            let theirs = excerpt(&theirs.join(", "), ssh::QUOTED / 10);
            let seen = format!("no {} key, but {theirs}", kinds.join(" or "));
            Fault::HostKey { seen }
        }
        fault => fault,
    })?;
    Ok((greeted, knife))
}

/// Opens a connection and logs in.
pub(super) async fn open(target: &Target) -> Result<Session, Error> {
    let limit = target.clock.limit(ssh::CONNECT);
    let stream = target.dialer.tcp(target.address, limit).await.map_err(|error| {
        // An error of the jump host is returned unchanged.
        error.downcast::<Error>().unwrap_or_else(|error| unreachable(target, error.to_string()))
    })?;
    let limit = target.clock.limit(ssh::LOGIN);
    timeout(limit, enter(target, stream)).await.unwrap_or_else(|_| {
        Err(unreachable(
            target,
            format!("connected, but the login timed out after {}", span(limit)),
        ))
    })
}

fn unreachable(target: &Target, cause: String) -> Error {
    Error::Unreachable { node: target.node.clone(), address: target.address, cause }
}

async fn enter(target: &Target, stream: Connection) -> Result<Session, Error> {
    let expected = HostKeys::from(target.host_key.clone());
    let (mut handle, knife) = greet(stream, &expected).await.map_err(|fault| match fault {
        Fault::HostKey { seen } => Error::HostKey {
            node: target.node.clone(),
            address: target.address,
            expected: expected.fingerprints(),
            seen,
        },
        fault => unreachable(target, fault.to_string()),
    })?;
    login(&mut handle, &knife, &target.user, &target.keys).await.map_err(
        |refusal| match refusal {
            Refusal::Keys(offered) => Error::AuthRefused {
                node: target.node.clone(),
                address: target.address,
                user: target.user.clone(),
                offered,
            },
            Refusal::Lost(cause) => unreachable(target, cause),
        },
    )?;
    Ok(Session::new(target, handle, knife))
}
