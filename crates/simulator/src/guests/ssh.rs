//! sshd of a guest: russh over the stream that leads to it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::{Algorithm, PrivateKey, PublicKey};
use russh::server::{
    Auth, ChannelOpenHandle, Config, Handle, Handler, Msg, PublicKeyOffer, Session,
    VerifiedPublicKey,
};
use russh::{Channel, ChannelId, MethodKind, MethodSet, Pty};

use super::exec;
use super::exec::follow::{Follow, more};
use crate::world::{Shared, World};

/// How long sshd delays a refusal, in simulated seconds.
const REFUSAL: f64 = 1.0;
/// How often a log that is followed is looked at, in simulated seconds.
const FOLLOW: f64 = 1.0;

/// The server's configuration for a guest: its host key, public keys only.
pub fn config(shared: &Shared, key: &str) -> Arc<Config> {
    let (pem, wrong) = shared.look(|world| {
        let guest = world.guests.all.get(key);
        let pem = guest.map(|guest| guest.disk.host_key.clone()).unwrap_or_default();
        (pem, world.guests.guest_faulty("wrong-host-key", key))
    });
    let host_key = match PrivateKey::from_openssh(&pem) {
        // Another machine answers instead of the guest.
        _ if wrong => random_key(),
        Ok(key) => Some(key),
        // Without a host key from the seed the machine generates one, which is kept.
        Err(_) => fresh_key(shared, key),
    };
    Arc::new(Config {
        methods: MethodSet::from([MethodKind::PublicKey].as_slice()),
        auth_rejection_time: shared.clock.real(REFUSAL),
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: host_key.into_iter().collect(),
        inactivity_timeout: None,
        nodelay: true,
        ..Config::default()
    })
}

fn random_key() -> Option<PrivateKey> {
    PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).ok()
}

fn fresh_key(shared: &Shared, key: &str) -> Option<PrivateKey> {
    let made = random_key()?;
    let pem = made.to_openssh(Default::default()).ok()?;
    shared.act(|world, _| {
        if let Some(guest) = world.guests.all.get_mut(key) {
            guest.disk.host_key = pem.to_string();
        }
    });
    Some(made)
}

/// One connection to a guest.
pub struct Connection {
    shared: Shared,
    /// The guest's key.
    guest: String,
    /// The boot that it belongs to: a restart ends it.
    boot: Option<String>,
    user: String,
    /// Commands that wait for the end of their input.
    waiting: HashMap<ChannelId, (String, Vec<u8>)>,
}

impl Connection {
    /// A connection to a guest by its key.
    pub fn new(shared: Shared, guest: String) -> Self {
        let boot = shared.look(|world| world.guests.boot_id(&guest));
        Self { shared, guest, boot, user: String::new(), waiting: HashMap::new() }
    }

    fn knows(&self, user: &str, offered: &PublicKey) -> bool {
        self.shared.look(|world| {
            let users = world.guests.all.get(&self.guest).map(|guest| &guest.disk.users);
            let keys = users.and_then(|users| users.get(user)).map(|user| user.keys.as_slice());
            keys.unwrap_or_default().iter().any(|line| {
                PublicKey::from_openssh(line.trim())
                    .is_ok_and(|known| known.key_data() == offered.key_data())
            })
        })
    }

    /// Runs a command now and answers when it is over.
    fn run(&self, channel: ChannelId, line: String, stdin: Vec<u8>, handle: Handle) {
        let (shared, guest, user) = (self.shared.clone(), self.guest.clone(), self.user.clone());
        let boot = self.boot.clone();
        let follow = Follow::of(&line);
        let line = follow.as_ref().map_or(line, |follow| follow.first.clone());
        tokio::spawn(async move {
            let whole = |follow: &Follow| {
                let read = |world: &World| world.guests.read_command(&guest, &user, &follow.all);
                shared.look(read).unwrap_or_default()
            };
            let mut seen = follow.as_ref().map(whole).unwrap_or_default();
            // A machine that is gone runs nothing and answers nothing; the proxy closes the connection.
            let read = shared.look(|world| {
                let same = world.guests.boot_id(&guest) == boot;
                same.then(|| world.guests.read_command(&guest, &user, &line))
            });
            let output = match read {
                None => return,
                Some(Some(output)) => output,
                Some(None) => {
                    let stdin = String::from_utf8_lossy(&stdin).into_owned();
                    let done = shared.act(|world, _| {
                        let same = world.guests.boot_id(&guest) == boot;
                        same.then(|| world.guests.change_command(&guest, &user, &line, &stdin))
                    });
                    let Some(output) = done else { return };
                    output
                }
            };
            tokio::time::sleep(shared.clock.real(output.seconds)).await;
            if shared.look(|world| world.guests.boot_id(&guest)) != boot {
                return;
            }
            // A client that has disconnected needs no answer.
            if !output.stdout.is_empty() {
                let _ = handle.data(channel, output.stdout.into_bytes()).await;
            }
            if !output.stderr.is_empty() {
                let _ = handle.extended_data(channel, 1, output.stderr.into_bytes()).await;
            }
            if let Some(follow) = follow.filter(|_| output.code == 0) {
                // Until the client has gone, which shows when there is more to say.
                loop {
                    tokio::time::sleep(shared.clock.real(FOLLOW)).await;
                    if shared.look(|world| world.guests.boot_id(&guest)) != boot {
                        return;
                    }
                    let now = whole(&follow);
                    let out = more(&seen.stdout, &now.stdout).to_owned().into_bytes();
                    let err = more(&seen.stderr, &now.stderr).to_owned().into_bytes();
                    seen = now;
                    if !out.is_empty() && handle.data(channel, out).await.is_err() {
                        return;
                    }
                    if !err.is_empty() && handle.extended_data(channel, 1, err).await.is_err() {
                        return;
                    }
                }
            }
            let _ = handle.exit_status_request(channel, output.code).await;
            let _ = handle.eof(channel).await;
            let _ = handle.close(channel).await;
        });
    }
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(if self.knows(user, offer.public_key) { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        if !self.knows(user, key.public_key) {
            return Ok(Auth::reject());
        }
        user.clone_into(&mut self.user);
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        _channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.accept().await;
        Ok(())
    }

    /// No terminal and no shell is simulated.
    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _term: &str,
        _columns: u32,
        _rows: u32,
        _width: u32,
        _height: u32,
        _modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    async fn shell_request(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_success(channel)?;
        let line = String::from_utf8_lossy(data).into_owned();
        if exec::reads_stdin(&line) {
            self.waiting.insert(channel, (line, Vec::new()));
        } else {
            self.run(channel, line, Vec::new(), session.handle());
        }
        Ok(())
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if let Some((_, stdin)) = self.waiting.get_mut(&channel) {
            stdin.extend_from_slice(data);
        }
        Ok(())
    }

    async fn channel_eof(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if let Some((line, stdin)) = self.waiting.remove(&channel) {
            self.run(channel, line, stdin, session.handle());
        }
        Ok(())
    }
}
