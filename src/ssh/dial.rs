//! Opening a connection: TCP, host key, login.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::PublicKeyOrCertificate;
use russh::{ChannelId, ChannelOpenFailure, Preferred, client};
use tokio::time::timeout;

use super::login::{Refusal, login};
use super::session::Session;
use super::{Error, HostKeys, Target};
use crate::net::Connection;

/// How long a TCP connection may take.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long key exchange and login may take.
pub(super) const LOGIN_LIMIT: Duration = Duration::from_secs(20);
/// How long the other side may be silent before it is asked for a sign of life. There is no limit
/// on inactivity: a command that prints nothing for minutes is no fault.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// After how many unanswered questions the connection counts as dead.
const KEEPALIVE_MAX: usize = 4;

/// Looks at the host key, and wants nothing else of the connection's events.
pub(super) struct Doorkeeper {
    expected: HostKeys,
}

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum Fault {
    HostKey { seen: String },
    Protocol(russh::Error),
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

    async fn channel_open_failure(
        &mut self,
        _channel: ChannelId,
        reason: ChannelOpenFailure,
        description: &str,
        _language: &str,
        _session: &mut client::Session,
    ) -> Result<(), Fault> {
        // Whoever asked for the channel gets the reason only.
        tracing::debug!(?reason, description, "no channel");
        Ok(())
    }
}

fn config(expected: &HostKeys) -> client::Config {
    client::Config {
        // Only the kinds of key that are known: a server that has others too must show one of
        // these.
        preferred: Preferred { key: Cow::Owned(expected.kinds()), ..Preferred::default() },
        inactivity_timeout: None,
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: KEEPALIVE_MAX,
        nodelay: true,
        ..client::Config::default()
    }
}

/// Exchanges keys with whoever is at the other end, who must show one of the expected host keys.
pub(super) async fn greet(
    stream: Connection,
    expected: &HostKeys,
) -> Result<client::Handle<Doorkeeper>, Fault> {
    let doorkeeper = Doorkeeper { expected: expected.clone() };
    let greeted = client::connect_stream(Arc::new(config(expected)), stream, doorkeeper).await;
    greeted.map_err(|fault| match fault {
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
            let seen = format!("no {} key, but {}", kinds.join(" or "), theirs.join(", "));
            Fault::HostKey { seen }
        }
        fault => fault,
    })
}

/// Opens a connection and logs in.
pub(super) async fn open(target: &Target) -> Result<Session, Error> {
    let stream = target.dialer.tcp(target.address, CONNECT_LIMIT).await.map_err(|error| {
        // What stopped us on the way there is told as it is.
        error.downcast::<Error>().unwrap_or_else(|error| unreachable(target, error.to_string()))
    })?;
    timeout(LOGIN_LIMIT, enter(target, stream)).await.unwrap_or_else(|_| {
        let seconds = LOGIN_LIMIT.as_secs();
        Err(unreachable(target, format!("connected, but no login within {seconds} s")))
    })
}

fn unreachable(target: &Target, cause: String) -> Error {
    Error::Unreachable { node: target.node.clone(), address: target.address, cause }
}

async fn enter(target: &Target, stream: Connection) -> Result<Session, Error> {
    let expected = HostKeys::from(target.host_key.clone());
    let mut handle = greet(stream, &expected).await.map_err(|fault| match fault {
        Fault::HostKey { seen } => Error::HostKey {
            node: target.node.clone(),
            address: target.address,
            expected: expected.fingerprints(),
            seen,
        },
        Fault::Protocol(error) => unreachable(target, error.to_string()),
    })?;
    login(&mut handle, &target.user, &target.keys).await.map_err(|refusal| match refusal {
        Refusal::Keys(offered) => Error::AuthRefused {
            node: target.node.clone(),
            address: target.address,
            user: target.user.clone(),
            offered,
        },
        Refusal::Lost(cause) => unreachable(target, cause),
    })?;
    Ok(Session::new(target, handle))
}
