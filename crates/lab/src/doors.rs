//! The lab's ports on the operator's loopback: the HTTP CONNECT proxy to the machines, and a port for
//! each name server. Their connections go into the lab's network.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener, UdpSocket as StdSocket};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

use super::mirror;
use super::network::Network;
use k8sha_simulator::guests::{GuestEndpoints, Guests, connect_target};

const DNS_PORT: u16 = 53;
/// The longest DNS message over UDP (RFC 6891's usual limit is less).
const DNS_MAX: usize = 4096;
/// How long to wait for an answer of a name server.
const DNS_PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection to a machine may take.
const CONNECT: Duration = Duration::from_secs(8);

/// Opens the ports. They are open as long as the lab's network exists.
///
/// # Errors
/// If a port on the loopback interface cannot be opened.
pub(super) async fn serve(network: &Network, guests: &Guests) -> io::Result<GuestEndpoints> {
    let inside = network.inside();
    let mut name_servers = BTreeMap::new();
    for server in guests.name_servers() {
        name_servers.insert(server, name_server(inside, server)?);
    }
    let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let proxy = listener.local_addr()?;
    inside.spawn(async move {
        let Ok(listener) = TcpListener::from_std(listener) else { return };
        while let Ok((stream, _)) = listener.accept().await {
            // Errors that end a tunnel are handled by its two ends.
            tokio::spawn(async move { drop(tunnel(stream).await) });
        }
    });
    // The opposite direction: listens inside, and connects outside.
    let at = network.mirror();
    let listener = inside.spawn(TcpListener::bind(at)).await.map_err(io::Error::other)??;
    mirror::serve(TcpListener::from_std(listener.into_std()?)?);
    Ok(GuestEndpoints { proxy, name_servers, etcd: guests.etcd_files()? })
}

async fn tunnel(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let Some(to) = connect_target(&mut stream).await? else {
        return stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    };
    let mut machine = match timeout(CONNECT, TcpStream::connect(to)).await {
        Ok(Ok(machine)) => machine,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            return stream.write_all(b"HTTP/1.1 503 Connection refused\r\n\r\n").await;
        }
        _ => return stream.write_all(b"HTTP/1.1 504 No route to host\r\n\r\n").await,
    };
    machine.set_nodelay(true)?;
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    copy_bidirectional(&mut stream, &mut machine).await.map(drop)
}

/// A loopback port, the same for UDP and TCP, that forwards to a name server.
fn name_server(inside: &tokio::runtime::Handle, server: Ipv4Addr) -> io::Result<SocketAddr> {
    let mut tries = 0;
    let (udp, tcp) = loop {
        let udp = StdSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        match StdListener::bind(udp.local_addr()?) {
            Ok(tcp) => break (udp, tcp),
            Err(error) if tries == 16 => return Err(error),
            Err(_) => tries += 1,
        }
    };
    let at = udp.local_addr()?;
    udp.set_nonblocking(true)?;
    tcp.set_nonblocking(true)?;
    inside.spawn(async move {
        let Ok(socket) = UdpSocket::from_std(udp) else { return };
        let socket = Arc::new(socket);
        let mut question = [0; DNS_MAX];
        while let Ok((length, asker)) = socket.recv_from(&mut question).await {
            let (question, socket) = (question[..length].to_vec(), socket.clone());
            tokio::spawn(async move {
                if let Ok(answer) = ask(server, &question).await {
                    let _ = socket.send_to(&answer, asker).await;
                }
            });
        }
    });
    inside.spawn(async move {
        let Ok(listener) = TcpListener::from_std(tcp) else { return };
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                if let Ok(mut there) = TcpStream::connect((server, DNS_PORT)).await {
                    let _ = copy_bidirectional(&mut stream, &mut there).await;
                }
            });
        }
    });
    Ok(at)
}

async fn ask(server: Ipv4Addr, question: &[u8]) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect((server, DNS_PORT)).await?;
    socket.send(question).await?;
    let mut answer = vec![0; DNS_MAX];
    let length = timeout(DNS_PATIENCE, socket.recv(&mut answer)).await??;
    answer.truncate(length);
    Ok(answer)
}
