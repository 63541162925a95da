//! How an address is reached: directly, or through an HTTP CONNECT proxy.
//!
//! This is the one seam between the world and its simulation: the simulator hands out a proxy that
//! leads to its guests and loopback ports for its name servers, and nothing else in the product
//! knows the difference.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest answer head that a proxy may send.
const PROXY_HEAD_MAX: usize = 8 * 1024;

/// Reaches addresses.
#[derive(Clone, Debug, Default)]
pub struct Dialer {
    proxy: Option<SocketAddr>,
    name_servers: BTreeMap<SocketAddr, SocketAddr>,
}

impl Dialer {
    /// Reaches everything directly.
    pub fn direct() -> Self {
        Self::default()
    }

    /// Reaches TCP addresses through an HTTP CONNECT proxy (RFC 9110 §9.3.6), and each listed name
    /// server at another address.
    pub fn through(
        proxy: Option<SocketAddr>,
        name_servers: BTreeMap<SocketAddr, SocketAddr>,
    ) -> Self {
        Self { proxy, name_servers }
    }

    /// Where the name server with this address is asked.
    pub fn name_server(&self, server: SocketAddr) -> SocketAddr {
        self.name_servers.get(&server).copied().unwrap_or(server)
    }

    /// Opens a TCP connection.
    ///
    /// # Errors
    /// What the system or the proxy said, or [`io::ErrorKind::TimedOut`] after `limit`.
    pub async fn tcp(&self, to: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
        let dial = async {
            let stream = match self.proxy {
                None => TcpStream::connect(to).await?,
                Some(proxy) => connect_through(proxy, to).await?,
            };
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        timeout(limit, dial).await.unwrap_or_else(|_| {
            let text = format!("no answer from {to} within {} s", limit.as_secs_f32());
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        })
    }
}

async fn connect_through(proxy: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(proxy).await?;
    stream.write_all(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes()).await?;
    let mut head = Vec::new();
    // Byte by byte: what follows the head already belongs to the tunnel.
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= PROXY_HEAD_MAX {
            return Err(io::Error::other("the proxy's answer has no end"));
        }
        head.push(stream.read_u8().await?);
    }
    let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
    let mut words = line.splitn(3, ' ');
    match (words.next(), words.next(), words.next()) {
        (Some(_), Some("200"), _) => Ok(stream),
        (_, status, reason) => {
            // 5xx of a proxy stands for what a direct connection would have met.
            let kind = match status {
                Some("504") => io::ErrorKind::HostUnreachable,
                _ => io::ErrorKind::ConnectionRefused,
            };
            let text = reason.filter(|text| !text.is_empty()).unwrap_or(&line).to_owned();
            Err(io::Error::new(kind, text))
        }
    }
}
