//! Opening a connection: TCP, host key, login.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::{Algorithm, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{Preferred, client};
use tokio::time::timeout;

use super::session::Session;
use super::{Error, HostKey, Target};

/// How long a TCP connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long key exchange and login may take.
const LOGIN_LIMIT: Duration = Duration::from_secs(20);
/// How long the other side may be silent before it is asked for a sign of life. There is no limit
/// on inactivity: a command that prints nothing for minutes is no fault.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// After how many unanswered questions the connection counts as dead.
const KEEPALIVE_MAX: usize = 4;

/// Looks at the host key, and wants nothing else of the connection's events.
pub(super) struct Doorkeeper {
    expected: HostKey,
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
}

fn config() -> client::Config {
    client::Config {
        // Only the kind of key that we plant: a server that has others too must show this one.
        preferred: Preferred { key: Cow::Borrowed(&[Algorithm::Ed25519]), ..Preferred::default() },
        inactivity_timeout: None,
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: KEEPALIVE_MAX,
        nodelay: true,
        ..client::Config::default()
    }
}

/// Opens a connection and logs in.
pub(super) async fn open(target: &Target) -> Result<Session, Error> {
    let unreachable = |cause: String| Error::Unreachable {
        node: target.node.clone(),
        address: target.address,
        cause,
    };
    let stream = target
        .dialer
        .tcp(target.address, CONNECT_LIMIT)
        .await
        .map_err(|error| unreachable(error.to_string()))?;
    timeout(LOGIN_LIMIT, login(target, stream)).await.unwrap_or_else(|_| {
        let seconds = LOGIN_LIMIT.as_secs();
        Err(unreachable(format!("connected, but no login within {seconds} s")))
    })
}

async fn login(target: &Target, stream: tokio::net::TcpStream) -> Result<Session, Error> {
    let fault = |fault| match fault {
        Fault::HostKey { seen } => host_key(target, seen),
        Fault::Protocol(russh::Error::NoCommonAlgo {
            kind: russh::AlgorithmKind::Key,
            theirs,
            ..
        }) => host_key(target, format!("no ed25519 key, but {}", theirs.join(", "))),
        Fault::Protocol(error) => Error::Unreachable {
            node: target.node.clone(),
            address: target.address,
            cause: error.to_string(),
        },
    };
    let doorkeeper = Doorkeeper { expected: target.host_key.clone() };
    let mut handle =
        client::connect_stream(Arc::new(config()), stream, doorkeeper).await.map_err(fault)?;
    let key = PrivateKeyWithHashAlg::new(Arc::clone(&target.identity.0), None);
    let auth = handle
        .authenticate_publickey(target.user.clone(), key)
        .await
        .map_err(|error| fault(Fault::Protocol(error)))?;
    if !auth.success() {
        return Err(Error::AuthRefused {
            node: target.node.clone(),
            address: target.address,
            user: target.user.clone(),
        });
    }
    Ok(Session::new(target.node.clone(), handle))
}

fn host_key(target: &Target, seen: String) -> Error {
    Error::HostKey {
        node: target.node.clone(),
        address: target.address,
        expected: target.host_key.fingerprint(),
        seen,
    }
}
