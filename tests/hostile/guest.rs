//! SSH servers with behaviour that no guest has, behind a CONNECT proxy like the simulator's.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::{Algorithm, PrivateKey};
use russh::server::{self, Auth, ChannelOpenHandle, Config, Handler, Msg, VerifiedPublicKey};
use russh::{Channel, ChannelMsg};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// The misbehaviour of the guests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wild {
    /// Every command floods standard output.
    Stdout,
    /// Every command floods standard error.
    Stderr,
    /// Every command prints a byte now and then, forever.
    Trickle,
    /// No command ever answers.
    Hang,
    /// Every command ends without an exit status.
    NoStatus,
    /// Every command fails with this on standard error.
    Says(&'static str),
    /// The identification line does not end.
    Ident,
    /// The connection is accepted, but nothing is sent.
    Mute,
    /// A banner of 200 KiB before the login.
    Banner,
    /// Another machine answers.
    Stranger,
}

/// The addresses of the profile's nodes.
fn node(address: &str) -> Option<&'static str> {
    let nodes = [
        ("31", "k8s-lb1"),
        ("32", "k8s-lb2"),
        ("41", "k8s-master1"),
        ("42", "k8s-master2"),
        ("43", "k8s-master3"),
        ("51", "k8s-worker1"),
        ("52", "k8s-worker2"),
    ];
    let last = address.strip_prefix("192.168.10.")?.strip_suffix(":22")?;
    nodes.iter().find(|(number, _)| *number == last).map(|(_, name)| *name)
}

/// Starts a proxy with misbehaving guests; traffic other than SSH is forwarded to the real proxy.
pub async fn door(real: SocketAddr, keys: BTreeMap<String, String>, wild: Wild) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let keys = Arc::new(keys);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let keys = Arc::clone(&keys);
            // Errors here are connections that the client has closed.
            tokio::spawn(async move { connect(stream, real, &keys, wild).await });
        }
    });
    address
}

async fn connect(
    mut stream: TcpStream,
    real: SocketAddr,
    keys: &BTreeMap<String, String>,
    wild: Wild,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let to = text.split(' ').nth(1).unwrap_or_default();
    let Some(key) = node(to).and_then(|node| keys.get(node)) else {
        let mut there = TcpStream::connect(real).await?;
        there.write_all(&head).await?;
        return tokio::io::copy_bidirectional(&mut stream, &mut there).await.map(drop);
    };
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    match wild {
        Wild::Mute => std::future::pending().await,
        Wild::Ident => {
            stream.write_all(b"SSH-2.0-").await?;
            loop {
                stream.write_all(&[b'x'; 4096]).await?;
            }
        }
        _ => serve(stream, key, wild).await,
    }
    Ok(())
}

async fn serve(stream: TcpStream, key: &str, wild: Wild) {
    let key = match wild {
        Wild::Stranger => {
            PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).unwrap()
        }
        _ => PrivateKey::from_openssh(key).unwrap(),
    };
    let config =
        Config { keys: vec![key], auth_rejection_time: Duration::ZERO, ..Config::default() };
    if let Ok(session) = server::run_stream(Arc::new(config), stream, Guest { wild }).await {
        let _ = session.await;
    }
}

struct Guest {
    wild: Wild,
}

impl Handler for Guest {
    type Error = russh::Error;

    async fn authentication_banner(&mut self) -> Result<Option<String>, Self::Error> {
        Ok((self.wild == Wild::Banner).then(|| "welcome\n".repeat(25_600)))
    }

    async fn auth_publickey(
        &mut self,
        _user: &str,
        _key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        let (handle, wild) = (session.handle(), self.wild);
        tokio::spawn(async move { misbehave(channel, handle, wild).await });
        reply.accept().await;
        Ok(())
    }
}

async fn misbehave(mut channel: Channel<Msg>, handle: server::Handle, wild: Wild) {
    while let Some(message) = channel.wait().await {
        if let ChannelMsg::Exec { .. } = message {
            let _ = handle.channel_success(channel.id()).await;
            break;
        }
    }
    let block = [b'x'; 32 * 1024];
    match wild {
        Wild::Stdout => while channel.data(&block[..]).await.is_ok() {},
        Wild::Stderr => while channel.extended_data(1, &block[..]).await.is_ok() {},
        Wild::Trickle => {
            while channel.data(&b"."[..]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Wild::NoStatus => drop(channel.close().await),
        Wild::Says(words) => {
            let _ = channel.extended_data(1, words.as_bytes()).await;
            let _ = channel.exit_status(1).await;
            let _ = channel.eof().await;
            let _ = channel.close().await;
        }
        _ => std::future::pending().await,
    }
}
