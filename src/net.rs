//! Opens connections: directly, through an HTTP CONNECT proxy, or over a route that another module
//! provides, such as a jump host.
//!
//! This is the only interface between real and simulated environments: the simulator provides a
//! proxy to its guests and loopback ports for its name servers, and the rest of the program cannot
//! tell the difference.

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

/// The size limit of a proxy's response header.
const PROXY_HEAD_MAX: usize = 8 * 1024;

/// What a connection must support, whatever its transport.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl fmt::Debug for dyn Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream")
    }
}

/// A connection, whatever its transport.
pub type Connection = Box<dyn Stream>;

/// The result of a route.
pub type Routing<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// A route to addresses that are not directly reachable.
pub trait Route: fmt::Debug + Send + Sync {
    /// Opens the route itself, unless it is already open, within its own time limit.
    fn open(&self) -> Routing<'_, ()>;

    /// Opens a connection over the route.
    fn connect(&self, to: SocketAddr) -> Routing<'_, Connection>;
}

#[derive(Clone, Debug, Default)]
enum Way {
    #[default]
    Direct,
    Proxy(SocketAddr),
    Route(Arc<dyn Route>),
}

/// Opens connections to addresses.
#[derive(Clone, Debug, Default)]
pub struct Dialer {
    way: Way,
    name_servers: BTreeMap<SocketAddr, SocketAddr>,
}

impl Dialer {
    /// Connects to everything directly.
    pub fn direct() -> Self {
        Self::default()
    }

    /// Connects to TCP addresses through an HTTP CONNECT proxy (RFC 9110 §9.3.6), and to each
    /// listed name server at another address.
    pub fn through(
        proxy: Option<SocketAddr>,
        name_servers: BTreeMap<SocketAddr, SocketAddr>,
    ) -> Self {
        Self { way: proxy.map_or(Way::Direct, Way::Proxy), name_servers }
    }

    /// Connects to TCP addresses over a route, and to name servers directly.
    pub fn by(route: Arc<dyn Route>) -> Self {
        Self { way: Way::Route(route), name_servers: BTreeMap::new() }
    }

    /// Whether connections are made directly from this machine.
    pub(crate) fn is_direct(&self) -> bool {
        matches!(self.way, Way::Direct)
    }

    /// The address at which this name server is queried.
    pub fn name_server(&self, server: SocketAddr) -> SocketAddr {
        self.name_servers.get(&server).copied().unwrap_or(server)
    }

    /// Opens the route to all addresses, if there is one.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub async fn open(&self) -> io::Result<()> {
        match &self.way {
            Way::Route(route) => route.open().await,
            Way::Direct | Way::Proxy(_) => Ok(()),
        }
    }

    /// Opens a TCP connection. The time to open the route does not count against `limit`.
    ///
    /// # Errors
    /// The error of the system, the proxy or the route, or [`io::ErrorKind::TimedOut`] after
    /// `limit`.
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

/// How many echo requests are sent: the first may be lost during ARP resolution.
const ECHOES: u8 = 3;
/// RFC 792, page 14.
const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;

/// Whether an address answers ICMP echo requests within `limit`; `None` if this machine allows them
/// only to privileged users (`net.ipv4.ping_group_range`, icmp(7)).
pub async fn ping(to: Ipv4Addr, limit: Duration) -> Option<bool> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::ICMPV4)).ok()?;
    socket.set_nonblocking(true).ok()?;
    // The kernel sets identifier and checksum, and passes the replies to this socket only.
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
    // Byte by byte: what follows the header already belongs to the tunnel.
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= PROXY_HEAD_MAX {
            return Err(io::Error::other("the proxy's response header is incomplete"));
        }
        head.push(stream.read_u8().await?);
    }
    let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
    let mut words = line.splitn(3, ' ');
    match (words.next(), words.next(), words.next()) {
        (Some(_), Some("200"), _) => Ok(stream),
        (_, status, reason) => {
            // A proxy's 5xx corresponds to the error of a direct connection.
            let kind = match status {
                Some("504") => io::ErrorKind::HostUnreachable,
                _ => io::ErrorKind::ConnectionRefused,
            };
            let text = reason.filter(|text| !text.is_empty()).unwrap_or(&line).to_owned();
            Err(io::Error::new(kind, text))
        }
    }
}
