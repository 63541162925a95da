//! A node on which commands can be run.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::{Mutex, Semaphore, mpsc};

use super::attach::{self, Ended, Input, Sink, Work};
use super::session::{Session, Trouble};
use super::{Command, Error, HostKey, Keys, Output, dial};
use crate::clock::{Clock, Wait};
use crate::net::Dialer;
use crate::report::event;

/// How many commands run at once over one connection: below OpenSSH's `MaxSessions` of 10.
const AT_ONCE: usize = 8;
/// The pause between two attempts to reach a node that boots.
const BOOT_PAUSE: Duration = Duration::from_secs(2);
/// How long a booting node may refuse the login: `pam_nologin` does so until it has booted.
const LOGIN_PATIENCE: Duration = Duration::from_secs(60);

/// The node, its address and the login.
#[derive(Clone, Debug)]
pub struct Target {
    /// The node's name, for messages.
    pub node: String,
    /// The address and port of its SSH server.
    pub address: SocketAddr,
    /// The login user.
    pub user: String,
    /// The host key that it must present.
    pub host_key: HostKey,
    /// The keys to offer.
    pub keys: Keys,
    /// The user's password for sudo, if sudo asks for one.
    pub sudo_password: Option<SecretString>,
    /// How connections to addresses are made.
    pub dialer: Dialer,
    /// The clock of its time limits.
    pub clock: Clock,
}

/// A node on which commands can be run. Clones share one connection.
#[derive(Clone)]
pub struct Remote {
    inner: Arc<Inner>,
}

struct Inner {
    target: Target,
    session: Mutex<Option<Arc<Session>>>,
    slots: Semaphore,
}

impl Remote {
    /// A node without an open connection.
    pub fn new(target: Target) -> Self {
        let (session, slots) = (Mutex::new(None), Semaphore::new(AT_ONCE));
        Self { inner: Arc::new(Inner { target, session, slots }) }
    }

    /// The node's name.
    pub fn node(&self) -> &str {
        &self.inner.target.node
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.inner.target.address
    }

    /// Runs a command and returns its result, whatever its exit status.
    ///
    /// A connection that proves dead before the command was sent is opened again; after that, the
    /// caller has to find out what the command did.
    ///
    /// # Errors
    /// Everything but [`Error::Failed`].
    pub async fn run(&self, command: &Command) -> Result<Output, Error> {
        // Boxed: otherwise every caller's future would contain the whole connection, and many of
        // those side by side overflow a thread's stack.
        Box::pin(self.run_now(command)).await
    }

    async fn run_now(&self, command: &Command) -> Result<Output, Error> {
        // A closed semaphore is impossible: no code closes it.
        let _slot = self.inner.slots.acquire().await.ok();
        for _ in 0..2 {
            match self.session().await?.run(command).await {
                Ok(output) => {
                    tracing::debug!(node = self.node(), %command, code = output.code, "ran");
                    return Ok(output);
                }
                Err(Trouble::Error(error @ Error::TooMuch { .. })) => {
                    self.forget().await;
                    return Err(error);
                }
                Err(Trouble::Error(error)) => return Err(error),
                Err(Trouble::NotSent) => self.forget().await,
            }
        }
        Err(Error::Unreachable {
            node: self.node().to_owned(),
            address: self.address(),
            cause: "the server closes the connection immediately".into(),
        })
    }

    /// Runs a command that must exit with status 0.
    ///
    /// # Errors
    /// [`Error::Failed`] with its output, and everything that [`Remote::run`] reports.
    pub async fn run_ok(&self, command: &Command) -> Result<Output, Error> {
        let output = self.run(command).await?;
        if output.success() {
            Ok(output)
        } else {
            Err(Error::failed(self.node(), command, &output))
        }
    }

    /// Opens the connection, if none is open.
    ///
    /// # Errors
    /// What the try met.
    pub async fn connect(&self) -> Result<(), Error> {
        Box::pin(self.session()).await.map(drop)
    }

    /// Runs something whose input and output pass through while it runs, however long that takes.
    /// `output` gets what it prints as it comes, and ends the work by breaking off.
    ///
    /// # Errors
    /// If the command did not run, or its exit status is unknown.
    pub async fn attach(
        &self,
        work: &Work,
        input: mpsc::Receiver<Input>,
        output: &mut Sink<'_>,
    ) -> Result<Ended, Error> {
        let _slot = self.inner.slots.acquire().await.ok();
        let session = Box::pin(self.session()).await?;
        match Box::pin(attach::run(&session, work, input, output)).await {
            Ok(ended) => Ok(ended),
            Err(Trouble::Error(error)) => Err(error),
            Err(Trouble::NotSent) => Err(Error::Unreachable {
                node: self.node().to_owned(),
                address: self.address(),
                cause: "the server closes the connection immediately".into(),
            }),
        }
    }

    /// Waits until the node accepts the login, at most `limit` of the run's time.
    ///
    /// # Errors
    /// The error of the last attempt. A wrong host key ends the wait at once: waiting does not
    /// help.
    pub async fn reach(&self, clock: Clock, limit: Duration) -> Result<(), Error> {
        let mut wait = Wait::new(clock, limit, BOOT_PAUSE).away_at_most(LOGIN_PATIENCE.min(limit));
        for attempt in 1.. {
            let error = match self.session().await {
                Ok(_) => break,
                Err(error) => error,
            };
            let refused = matches!(error, Error::AuthRefused { .. });
            if !refused && !error.is_transient() {
                return Err(error);
            }
            // A booting machine does not answer yet, which is not an error to report.
            tracing::debug!(node = self.node(), %error, attempt, "not reached yet");
            event::progress(format!("waiting for SSH: {}", error.cause()));
            let waited = if refused { wait.away(error).await } else { wait.not_yet(error).await };
            waited.map_err(|expired| expired.seen)?;
        }
        Ok(())
    }

    /// Closes the connection, such as before a reboot that k8sha requested.
    pub async fn forget(&self) {
        self.inner.session.lock().await.take();
    }

    async fn session(&self) -> Result<Arc<Session>, Error> {
        // The lock is held while a connection opens: commands that start together share it.
        let mut slot = self.inner.session.lock().await;
        match slot.as_ref() {
            Some(session) if !session.is_closed() => Ok(Arc::clone(session)),
            _ => {
                let session = Arc::new(dial::open(&self.inner.target).await?);
                *slot = Some(Arc::clone(&session));
                Ok(session)
            }
        }
    }
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Remote({} at {})", self.node(), self.address())
    }
}
