//! The machines' access to packages: an HTTP proxy at their router, on the operator's own network. It
//! connects to the web's ports only; nothing else outside can be reached from the lab.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// The longest request head that is read.
const HEAD_MAX: usize = 16 * 1024;
const PORTS: [u16; 2] = [80, 443];
const CONNECT: Duration = Duration::from_secs(20);

/// The request of a client.
#[derive(Debug, PartialEq)]
enum Wish {
    /// A tunnel to a server.
    Tunnel { host: String, port: u16 },
    /// A forwarded request, and its answer until the server closes.
    Pass { host: String, port: u16, head: String },
}

/// Serves until the runtime ends.
pub(super) fn serve(listener: TcpListener) {
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client whose request breaks off retries or reports it itself.
            tokio::spawn(async move { drop(pass(stream).await) });
        }
    });
}

async fn pass(mut client: TcpStream) -> io::Result<()> {
    let head = head(&mut client).await?;
    let Some(wish) = wish(&head) else {
        return client.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await;
    };
    let (Wish::Tunnel { host, port } | Wish::Pass { host, port, .. }) = &wish;
    let dialled = timeout(CONNECT, TcpStream::connect((host.as_str(), *port))).await;
    let mut server = match dialled.map_err(io::Error::from).and_then(|made| made) {
        Ok(server) => server,
        Err(error) => {
            tracing::info!(host, port, %error, "cannot reach the package server");
            let answer = format!("HTTP/1.1 502 {host}: {error}\r\nContent-Length: 0\r\n\r\n");
            return client.write_all(answer.as_bytes()).await;
        }
    };
    match &wish {
        Wish::Tunnel { .. } => {
            client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?
        }
        Wish::Pass { head, .. } => server.write_all(head.as_bytes()).await?,
    }
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

async fn head(client: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD_MAX {
            return Err(io::Error::other("the request head is incomplete"));
        }
        head.push(client.read_u8().await?);
    }
    String::from_utf8(head).map_err(io::Error::other)
}

fn wish(head: &str) -> Option<Wish> {
    let (first, rest) = head.split_once("\r\n")?;
    let mut words = first.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let place = |text: &str, port: u16| -> Option<(String, u16)> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (text, port),
        };
        PORTS.contains(&port).then(|| (host.to_owned(), port))
    };
    if method == "CONNECT" {
        let (host, port) = place(target, 443)?;
        return Some(Wish::Tunnel { host, port });
    }
    let (authority, path) = target.strip_prefix("http://")?.split_once('/')?;
    let (host, port) = place(authority, 80)?;
    let mut head = format!("{method} /{path} {version}\r\nConnection: close\r\n");
    for line in rest.lines().take_while(|line| !line.is_empty()) {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        if !["connection", "proxy-connection", "proxy-authorization"].contains(&name.as_str()) {
            head.push_str(line);
            head.push_str("\r\n");
        }
    }
    head.push_str("\r\n");
    Some(Wish::Pass { host, port, head })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_forwarded_in_origin_form() {
        let head = "GET http://deb.debian.org/debian/x HTTP/1.1\r\nHost: deb.debian.org\r\n\
            Connection: keep-alive\r\nProxy-Connection: keep-alive\r\nRange: bytes=5-\r\n\r\n";
        let wanted = "GET /debian/x HTTP/1.1\r\nConnection: close\r\nHost: deb.debian.org\r\n\
            Range: bytes=5-\r\n\r\n";
        let (host, head_out) = ("deb.debian.org".to_owned(), wanted.to_owned());
        assert_eq!(wish(head), Some(Wish::Pass { host, port: 80, head: head_out }));
    }

    #[test]
    fn only_web_ports_can_be_reached() {
        assert_eq!(wish("CONNECT 10.0.0.1:22 HTTP/1.1\r\n\r\n"), None);
        assert_eq!(wish("GET http://10.0.0.1:8006/ HTTP/1.1\r\n\r\n"), None);
        let tunnel = Wish::Tunnel { host: "deb.debian.org".to_owned(), port: 443 };
        assert_eq!(wish("CONNECT deb.debian.org:443 HTTP/1.1\r\n\r\n"), Some(tunnel));
    }
}
