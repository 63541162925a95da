//! How an address is reached: directly, through an HTTP CONNECT proxy, or by a route that another part
//! keeps, such as a jump host.
//!
//! This is the one seam between the world and its simulation: the simulator hands out a proxy that
//! leads to its guests and loopback ports for its name servers, and nothing else in the product
//! knows the difference.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// The longest answer head that a proxy may send.
const PROXY_HEAD_MAX: usize = 8 * 1024;

/// What a connection must be able to do, whatever carries it.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl fmt::Debug for dyn Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream")
    }
}

/// A connection, whatever carries it.
pub type Connection = Box<dyn Stream>;

/// What a route gives in the end.
pub type Routing<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// A way to addresses that are not reached directly.
pub trait Route: fmt::Debug + Send + Sync {
    /// Opens the way itself, unless it is open; under a limit of its own.
    fn open(&self) -> Routing<'_, ()>;

    /// Opens a connection over it.
    fn connect(&self, to: SocketAddr) -> Routing<'_, Connection>;
}

#[derive(Clone, Debug, Default)]
enum Way {
    #[default]
    Direct,
    Proxy(SocketAddr),
    Route(Arc<dyn Route>),
}

/// Reaches addresses.
#[derive(Clone, Debug, Default)]
pub struct Dialer {
    way: Way,
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
        Self { way: proxy.map_or(Way::Direct, Way::Proxy), name_servers }
    }

    /// Reaches TCP addresses by a route, and name servers directly.
    pub fn by(route: Arc<dyn Route>) -> Self {
        Self { way: Way::Route(route), name_servers: BTreeMap::new() }
    }

    /// Whether addresses are reached as this machine itself reaches them.
    pub fn is_direct(&self) -> bool {
        matches!(self.way, Way::Direct)
    }

    /// Where the name server with this address is asked.
    pub fn name_server(&self, server: SocketAddr) -> SocketAddr {
        self.name_servers.get(&server).copied().unwrap_or(server)
    }

    /// Opens the way to all addresses, where there is one to open.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub async fn open(&self) -> io::Result<()> {
        match &self.way {
            Way::Route(route) => route.open().await,
            Way::Direct | Way::Proxy(_) => Ok(()),
        }
    }

    /// Opens a TCP connection. What it takes to open the way does not count against `limit`.
    ///
    /// # Errors
    /// What the system, the proxy or the route said, or [`io::ErrorKind::TimedOut`] after `limit`.
    pub async fn tcp(&self, to: SocketAddr, limit: Duration) -> io::Result<Connection> {
        self.open().await?;
        let dial = async {
            let stream = match &self.way {
                Way::Direct => TcpStream::connect(to).await?,
                Way::Proxy(proxy) => connect_through(*proxy, to).await?,
                Way::Route(route) => return route.connect(to).await,
            };
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Connection)
        };
        timeout(limit, dial).await.unwrap_or_else(|_| {
            let text = format!("no answer from {to} within {} s", limit.as_secs_f32());
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        })
    }
}

/// How often an echo is asked for: what goes first may be lost while the neighbour is looked for.
const ECHOES: u8 = 3;
/// RFC 792, page 14.
const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;

/// Whether an address answers ICMP echo requests within a time; `None` where this machine lets only
/// the privileged ask (`net.ipv4.ping_group_range`, icmp(7)).
pub async fn ping(to: Ipv4Addr, limit: Duration) -> Option<bool> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::ICMPV4)).ok()?;
    socket.set_nonblocking(true).ok()?;
    // The kernel sets identifier and checksum, and hands over the replies to this socket alone.
    let socket = UdpSocket::from_std(socket.into()).ok()?;
    if socket.connect((to, 0)).await.is_err() {
        return Some(false);
    }
    let mut answer = [0; 64];
    for number in 1..=ECHOES {
        let request = [ECHO_REQUEST, 0, 0, 0, 0, 0, 0, number];
        if socket.send(&request).await.is_err() {
            return Some(false);
        }
        match timeout(limit / u32::from(ECHOES), socket.recv(&mut answer)).await {
            Ok(Ok(length)) if length > 0 && answer[0] == ECHO_REPLY => return Some(true),
            Ok(_) => return Some(false),
            Err(_) => {}
        }
    }
    Some(false)
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
