//! An SSH server in the test's own process with scripted answers.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use russh::keys::PrivateKey;
use russh::server::{self, Auth, ChannelOpenHandle, Msg, VerifiedPublicKey};
use russh::{Channel, ChannelMsg, ChannelOpenFailure, Disconnect, Sig};
use secrecy::ExposeSecret;
use tokio::net::{TcpListener, TcpStream};

use super::{HostKey, Identity, Jump, KeyPair, Keys, Remote, Target};
use crate::clock::Clock;
use crate::net::Dialer;

/// How the server answers a command.
pub(crate) enum Reply {
    /// With an exit status, standard output and standard error.
    Done(u32, Vec<u8>, String),
    /// With the signal that ended it.
    Killed(Sig),
    /// By ending the connection.
    Drop,
    /// Never.
    Hang,
    /// With endless output, on standard output or else on standard error.
    Flood { stdout: bool },
    /// With a byte now and then.
    Trickle,
    /// With the end of the channel and no exit status.
    NoStatus,
}

impl Reply {
    pub(crate) fn out(text: impl Into<Vec<u8>>) -> Self {
        Reply::Done(0, text.into(), String::new())
    }

    pub(crate) fn code(code: u32, stderr: impl Into<String>) -> Self {
        Reply::Done(code, Vec::new(), stderr.into())
    }
}

type Script = dyn Fn(&str, &[u8]) -> Reply + Send + Sync;

/// A running server.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    pub(crate) host: KeyPair,
    login: KeyPair,
    connections: Arc<AtomicUsize>,
    lines: Arc<Mutex<Vec<String>>>,
    forwards: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

impl Fake {
    pub(crate) async fn start(
        script: impl Fn(&str, &[u8]) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Fake {
            address: listener.local_addr().unwrap(),
            host: KeyPair::generate("host").unwrap(),
            login: KeyPair::generate("login").unwrap(),
            connections: Arc::default(),
            lines: Arc::default(),
            forwards: Arc::default(),
            open: Arc::default(),
        };
        let config = Arc::new(server::Config {
            keys: vec![PrivateKey::from_openssh(fake.host.private.expose_secret()).unwrap()],
            auth_rejection_time: Duration::ZERO,
            ..server::Config::default()
        });
        let handler = Handler {
            allowed: fake.login.public.clone(),
            script: Arc::new(script),
            lines: Arc::clone(&fake.lines),
            forwards: Arc::clone(&fake.forwards),
        };
        let (connections, open) = (Arc::clone(&fake.connections), Arc::clone(&fake.open));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                open.fetch_add(1, Ordering::SeqCst);
                let (config, handler) = (Arc::clone(&config), handler.clone());
                let open = Arc::clone(&open);
                tokio::spawn(async move {
                    if let Ok(session) = server::run_stream(config, stream, handler).await {
                        let _ = session.await;
                    }
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        fake
    }

    pub(crate) fn target(&self, node: &str) -> Target {
        Target {
            node: node.to_owned(),
            address: self.address,
            user: "ubuntu".to_owned(),
            host_key: HostKey::parse(&self.host.public).unwrap(),
            keys: Keys::from(self.identity()),
            sudo_password: None,
            dialer: Dialer::direct(),
            clock: Clock::real(),
        }
    }

    pub(crate) fn remote(&self, node: &str) -> Remote {
        Remote::new(self.target(node))
    }

    /// The key that it accepts.
    pub(crate) fn identity(&self) -> Identity {
        Identity::from_openssh(&self.login.private).unwrap()
    }

    /// A route through this server.
    pub(crate) fn jump(&self) -> Jump {
        Jump {
            host: self.address.ip().to_string(),
            port: self.address.port(),
            user: "ubuntu".to_owned(),
            host_keys: HostKey::parse(&self.host.public).unwrap().into(),
            keys: Keys::from(self.identity()),
        }
    }

    /// How many forwarded connections were requested.
    pub(crate) fn forwards(&self) -> usize {
        self.forwards.load(Ordering::SeqCst)
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// How many connections were accepted.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The command lines so far, in the order of their arrival.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

#[derive(Clone)]
struct Handler {
    allowed: String,
    script: Arc<Script>,
    lines: Arc<Mutex<Vec<String>>>,
    forwards: Arc<AtomicUsize>,
}

impl server::Handler for Handler {
    type Error = russh::Error;

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        let shown = key.public_key.to_openssh().unwrap();
        let known = self.allowed.starts_with(&shown) && user == "ubuntu";
        Ok(if known { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _from: &str,
        _from_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        self.forwards.fetch_add(1, Ordering::SeqCst);
        let Ok(mut there) = TcpStream::connect(format!("{host}:{port}")).await else {
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
            return Ok(());
        };
        reply.accept().await;
        tokio::spawn(async move {
            let _ = tokio::io::copy_bidirectional(&mut channel.into_stream(), &mut there).await;
        });
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        mut channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        let (handle, this) = (session.handle(), self.clone());
        tokio::spawn(async move {
            let (mut line, mut input) = (String::new(), Vec::new());
            while let Some(message) = channel.wait().await {
                match message {
                    ChannelMsg::Exec { command, .. } => {
                        line = String::from_utf8(command).unwrap();
                        handle.channel_success(channel.id()).await.unwrap();
                    }
                    ChannelMsg::RequestPty { term, col_width, row_height, .. } => {
                        let granted = term != "refused";
                        let line = format!("terminal {term} {col_width}x{row_height}");
                        this.lines.lock().unwrap().push(line);
                        match granted {
                            true => handle.channel_success(channel.id()).await.unwrap(),
                            false => handle.channel_failure(channel.id()).await.unwrap(),
                        }
                    }
                    ChannelMsg::WindowChange { col_width, row_height, .. } => {
                        let line = format!("size {col_width}x{row_height}");
                        this.lines.lock().unwrap().push(line);
                    }
                    ChannelMsg::RequestShell { .. } => {
                        "shell".clone_into(&mut line);
                        handle.channel_success(channel.id()).await.unwrap();
                    }
                    ChannelMsg::Data { data } => input.extend_from_slice(&data),
                    ChannelMsg::Eof => break,
                    ChannelMsg::Close => return,
                    _ => {}
                }
            }
            this.lines.lock().unwrap().push(line.clone());
            match (this.script)(&line, &input) {
                Reply::Done(code, stdout, stderr) => {
                    let _ = channel.data(&stdout[..]).await;
                    let _ = channel.extended_data(1, stderr.as_bytes()).await;
                    let _ = channel.exit_status(code).await;
                    let _ = channel.eof().await;
                    let _ = channel.close().await;
                }
                Reply::Killed(signal) => {
                    let (id, text) = (channel.id(), String::new());
                    let _ = handle.exit_signal_request(id, signal, false, text.clone(), text).await;
                    let _ = channel.close().await;
                }
                Reply::Drop => {
                    let _ = handle
                        .disconnect(Disconnect::ByApplication, "bye".into(), String::new())
                        .await;
                }
                Reply::Hang => std::future::pending().await,
                Reply::Flood { stdout } => {
                    let block = [b'x'; 32 * 1024];
                    let mut sent = Ok(());
                    while sent.is_ok() {
                        sent = match stdout {
                            true => channel.data(&block[..]).await,
                            false => channel.extended_data(1, &block[..]).await,
                        };
                    }
                }
                Reply::Trickle => {
                    while channel.data(&b"."[..]).await.is_ok() {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
                Reply::NoStatus => {
                    let _ = channel.data(&b"half"[..]).await;
                    let _ = channel.close().await;
                }
            }
        });
        reply.accept().await;
        Ok(())
    }
}
