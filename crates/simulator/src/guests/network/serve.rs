//! The services on loopback: an HTTP CONNECT proxy to the guests, and the name servers.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use hickory_server::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional, duplex};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::super::pace;
use super::super::ssh::{self, Connection};
use super::dns::NameServer;
use super::reach::Reach;
use crate::world::Shared;

/// The longest request head that the proxy reads.
const HEAD_MAX: usize = 8 * 1024;
/// The buffer size of a tunnel.
const BUFFER: usize = 256 * 1024;
/// How often a tunnel checks that its guest is still in the same boot, in real time.
const LOOK: Duration = Duration::from_millis(50);
/// How long a name server keeps a TCP connection open.
const DNS_TCP: Duration = Duration::from_secs(5);
/// How many answers of a TCP connection may be queued.
const DNS_ANSWERS: usize = 16;

/// The addresses of guests and name servers.
#[derive(Clone, Debug)]
pub struct GuestEndpoints {
    /// The HTTP CONNECT proxy to the guests.
    pub proxy: SocketAddr,
    /// Each name server's address in the site, and its address on loopback.
    pub name_servers: BTreeMap<Ipv4Addr, SocketAddr>,
    /// The operator's files for the site's etcd, if it has one.
    pub etcd: Option<EtcdFiles>,
}

/// The files for an API server that uses the site's etcd; PEM.
#[derive(Clone)]
pub struct EtcdFiles {
    /// The CA certificate.
    pub ca: String,
    /// The client certificate.
    pub cert: String,
    /// Its private key.
    pub key: String,
}

impl std::fmt::Debug for EtcdFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdFiles")
            .field("ca", &self.ca)
            .field("cert", &self.cert)
            .finish_non_exhaustive()
    }
}

/// Opens the ports. They are open as long as the runtime exists.
///
/// # Errors
/// If a port on the loopback interface cannot be opened.
pub async fn serve(shared: Shared) -> io::Result<GuestEndpoints> {
    let (servers, etcd) =
        shared.look(|world| (world.guests.name_servers(), world.guests.etcd_files()));
    let etcd = etcd?;
    let mut name_servers = BTreeMap::new();
    for address in servers {
        name_servers.insert(address, name_server(shared.clone(), address).await?);
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let proxy = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let shared = shared.clone();
            // Errors that end a tunnel are handled by its two ends.
            tokio::spawn(async move { drop(tunnel(shared, stream).await) });
        }
    });
    Ok(GuestEndpoints { proxy, name_servers, etcd })
}

async fn name_server(shared: Shared, address: Ipv4Addr) -> io::Result<SocketAddr> {
    // The same port for both protocols; retries if the second one is in use.
    let mut tries = 0;
    let (udp, tcp) = loop {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => break (udp, tcp),
            Err(error) if tries == 16 => return Err(error),
            Err(_) => tries += 1,
        }
    };
    let at = udp.local_addr()?;
    let mut server = Server::new(NameServer { shared, address });
    server.register_socket(udp);
    server.register_listener(tcp, DNS_TCP, DNS_ANSWERS);
    tokio::spawn(async move { drop(server.block_until_done().await) });
    Ok(at)
}

async fn tunnel(shared: Shared, mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let Some(to) = connect_target(&mut stream).await? else {
        return stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    };
    let met = shared.look(|world| {
        let guests = &world.guests;
        match guests.dial(to) {
            Reach::Ssh(key) => {
                let boot = guests.all.get(&key).and_then(|guest| guest.run.as_ref());
                let boot = boot.map(|run| run.boot_id.clone()).unwrap_or_default();
                Ok((key, boot))
            }
            other => Err(other),
        }
    });
    let (key, boot) = match met {
        Ok(found) => found,
        Err(Reach::NoRoute) => {
            tokio::time::sleep(shared.clock.real(pace::NO_ROUTE)).await;
            return stream.write_all(b"HTTP/1.1 504 No route to host\r\n\r\n").await;
        }
        // This service is simulated by its effects on nodes; it has no wire protocol.
        Err(Reach::Etcd(_) | Reach::Api(_) | Reach::Ill(_) | Reach::Closed) => {
            return stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await;
        }
        Err(_) => return stream.write_all(b"HTTP/1.1 503 Connection refused\r\n\r\n").await,
    };
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    let (mut near, far) = duplex(BUFFER);
    let config = ssh::config(&shared, &key);
    let connection = Connection::new(shared.clone(), key.clone());
    let session = async {
        match russh::server::run_stream(config, far, connection).await {
            Ok(session) => drop(session.await),
            Err(error) => tracing::debug!(%error, guest = key, "ssh"),
        }
        // The tunnel ends when its data has been read completely.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        copied = copy_bidirectional(&mut stream, &mut near) => copied.map(drop),
        () = session => Ok(()),
        () = gone(&shared, &key, &boot) => Ok(()),
    }
}

/// Waits until a guest leaves its current boot: switched off, rebooted, or off the network.
async fn gone(shared: &Shared, key: &str, boot: &str) {
    loop {
        tokio::time::sleep(LOOK).await;
        let same = shared.look(|world| {
            let guest = world.guests.all.get(key);
            let run = guest.and_then(|guest| guest.run.as_ref());
            // If another machine has the address too, it may be that machine's turn.
            let answers =
                guest.and_then(|guest| guest.address()).and_then(|ip| world.guests.at(ip));
            run.is_some_and(|run| run.boot_id == boot && run.network)
                && answers.is_some_and(|(answers, _)| answers == key)
        });
        if !same {
            return;
        }
    }
}

/// Reads the head of a CONNECT request, byte by byte: what follows belongs to the tunnel. `None` if it
/// is not a CONNECT request.
///
/// # Errors
/// If the connection fails or ends.
pub async fn connect_target(stream: &mut TcpStream) -> io::Result<Option<SocketAddrV4>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD_MAX {
            return Ok(None);
        }
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut words = head.split_whitespace();
    Ok(match (words.next(), words.next()) {
        (Some("CONNECT"), Some(to)) => to.parse().ok(),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
