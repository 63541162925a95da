//! Logs in: which keys are offered, in which order, and the result of each.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::client::{AuthResult, Handle};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{Algorithm, HashAlg, PrivateKeyWithHashAlg, PublicKey};
use tokio::net::UnixStream;

use super::Identity;
use super::dial::Doorkeeper;
use super::line::Knife;

/// The keys to offer, in their order.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    offers: Vec<Offer>,
}

#[derive(Clone, Debug)]
enum Offer {
    Key { name: String, identity: Identity },
    Agent(PathBuf),
}

impl Keys {
    /// None yet.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds this key; the name is for messages.
    #[must_use]
    pub fn key(mut self, name: impl Into<String>, identity: Identity) -> Self {
        self.offers.push(Offer::Key { name: name.into(), identity });
        self
    }

    /// Adds all keys of the agent that listens at this socket, in its order.
    #[must_use]
    pub fn agent(mut self, socket: impl Into<PathBuf>) -> Self {
        self.offers.push(Offer::Agent(socket.into()));
        self
    }
}

impl From<Identity> for Keys {
    fn from(identity: Identity) -> Self {
        Self::none().key("k8sha's own key", identity)
    }
}

/// Why a login did not succeed.
pub(super) enum Refusal {
    /// The offered keys and their results.
    Keys(String),
    /// The connection ended before any key was refused.
    Lost(String),
}

/// Offers every key until one is accepted.
pub(super) async fn login(
    handle: &mut Handle<Doorkeeper>,
    knife: &Knife,
    user: &str,
    keys: &Keys,
) -> Result<(), Refusal> {
    let refusal = match offer(handle, user, keys).await {
        Ok(()) => {
            knife.logged_in();
            return Ok(());
        }
        Err(refusal) => refusal,
    };
    if let Some(flood) = knife.flood() {
        return Err(Refusal::Lost(flood));
    }
    Err(refusal)
}

async fn offer(handle: &mut Handle<Doorkeeper>, user: &str, keys: &Keys) -> Result<(), Refusal> {
    let mut attempt = Attempt { handle, user, told: Vec::new(), seen: BTreeSet::new(), refused: 0 };
    for offer in &keys.offers {
        let end = match offer {
            Offer::Key { name, identity } => attempt.key(name, identity).await,
            Offer::Agent(socket) => attempt.agent(socket).await,
        };
        match end {
            Some(End::In) => return Ok(()),
            Some(End::Out(refusal)) => return Err(refusal),
            None => {}
        }
    }
    Err(Refusal::Keys(attempt.account()))
}

/// Why a login ends.
enum End {
    In,
    Out(Refusal),
}

struct Attempt<'a> {
    handle: &'a mut Handle<Doorkeeper>,
    user: &'a str,
    told: Vec<String>,
    seen: BTreeSet<String>,
    refused: usize,
}

impl Attempt<'_> {
    /// What was offered so far.
    fn account(&self) -> String {
        if self.told.is_empty() { "no key".to_owned() } else { self.told.join(", ") }
    }

    /// Whether a key is offered for the first time.
    fn is_new(&mut self, key: &PublicKey) -> bool {
        self.seen.insert(key.fingerprint(HashAlg::Sha256).to_string())
    }

    async fn key(&mut self, name: &str, identity: &Identity) -> Option<End> {
        let public = identity.0.public_key();
        if !self.is_new(public) {
            return None;
        }
        let told = format!("{name} ({})", described(public));
        let key = PrivateKeyWithHashAlg::new(Arc::clone(&identity.0), None);
        let said = self.handle.authenticate_publickey(self.user, key).await;
        self.judge(told, said.map_err(|error| error.to_string()))
    }

    async fn agent(&mut self, socket: &Path) -> Option<End> {
        let place = format!("the ssh-agent at {}", socket.display());
        let (mut agent, held) = match open(self.handle, socket).await {
            Ok(opened) => opened,
            Err(why) => {
                self.told.push(format!("no key of {place}: {why}"));
                return None;
            }
        };
        if held.is_empty() {
            self.told.push(format!("no key of {place}: it holds none"));
        }
        for identity in held {
            let end = self.agent_identity(&mut agent, &identity).await;
            if end.is_some() {
                return end;
            }
        }
        None
    }

    async fn agent_identity(
        &mut self,
        agent: &mut AgentClient<UnixStream>,
        identity: &AgentIdentity,
    ) -> Option<End> {
        let public = identity.public_key().into_owned();
        let certificate = match identity {
            AgentIdentity::Certificate { certificate, .. } => Some(certificate.clone()),
            AgentIdentity::PublicKey { .. } => None,
        };
        // A certificate is a different offer than its key alone.
        if certificate.is_none() && !self.is_new(&public) {
            return None;
        }
        let kind = if certificate.is_some() { "certificate" } else { "key" };
        let name = identity.comment().trim();
        let told = format!("the agent's {kind} `{name}` ({})", described(&public));
        let hash = match public.algorithm() {
            // A server that does not list its algorithms is an old one, or accepts the better one.
            Algorithm::Rsa { .. } => match self.handle.best_supported_rsa_hash().await {
                Ok(Some(hash)) => hash,
                _ => Some(HashAlg::Sha512),
            },
            _ => None,
        };
        let said = match certificate {
            None => self.handle.authenticate_publickey_with(self.user, public, hash, agent).await,
            Some(certificate) => {
                let user = self.user;
                self.handle.authenticate_certificate_with(user, certificate, hash, agent).await
            }
        };
        match said {
            // The server would accept it; the user or the agent refused to sign.
            Err(russh::AgentAuthError::Key(why)) => {
                self.told.push(format!("{told}, but the agent refused to sign with it: {why}"));
                None
            }
            said => self.judge(told, said.map_err(|error| error.to_string())),
        }
    }

    /// Whether an answer ends the login, and how.
    fn judge(&mut self, told: String, said: Result<AuthResult, String>) -> Option<End> {
        match said {
            Ok(AuthResult::Success) => Some(End::In),
            Ok(AuthResult::Failure { partial_success: true, remaining_methods }) => {
                let methods: Vec<&str> = remaining_methods.iter().map(Into::into).collect();
                let account = format!(
                    "{told}, which is accepted but not sufficient: {} also required",
                    methods.join(", ")
                );
                self.told.push(account);
                Some(End::Out(Refusal::Keys(self.account())))
            }
            // A server that refuses always lists what it would accept: this one has closed the
            // connection.
            Ok(AuthResult::Failure { remaining_methods, .. }) if remaining_methods.is_empty() => {
                Some(End::Out(self.hung_up(told, "the connection was closed at the login".into())))
            }
            Ok(AuthResult::Failure { .. }) => {
                self.refused += 1;
                self.told.push(told);
                None
            }
            Err(why) => Some(End::Out(self.hung_up(told, why))),
        }
    }

    fn hung_up(&mut self, told: String, why: String) -> Refusal {
        if self.refused == 0 {
            return Refusal::Lost(why);
        }
        self.told.push(format!(
            "{told}; then it closed the connection, as sshd does after too many keys (MaxAuthTries)"
        ));
        Refusal::Keys(self.account())
    }
}

/// Requests an agent's keys, on behalf of this connection.
async fn open(
    handle: &Handle<Doorkeeper>,
    socket: &Path,
) -> Result<(AgentClient<UnixStream>, Vec<AgentIdentity>), String> {
    let mut agent = AgentClient::connect_uds(socket).await.map_err(|error| error.to_string())?;
    if let Some(binding) = handle.agent_session_binding() {
        // Agents without the extension refuse it and continue; those with it list keys bound to a
        // destination (`ssh-add -h`) only after it.
        let _ = agent.bind_session(binding, false).await;
    }
    let held = agent.request_identities().await.map_err(|error| error.to_string())?;
    Ok((agent, held))
}

fn described(key: &PublicKey) -> String {
    let kind = key.algorithm();
    let kind = kind.as_str();
    format!("{} {}", kind.strip_prefix("ssh-").unwrap_or(kind), key.fingerprint(HashAlg::Sha256))
}
