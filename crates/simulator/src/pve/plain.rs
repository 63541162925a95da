//! Traffic on a connection that differs from HTTPS as a library writes it: plain HTTP to the port, and
//! answers without their length (pve-http-server src/PVE/APIServer/AnyEvent.pm).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::wire::NO_LENGTH;

/// The first byte of a TLS handshake.
const HANDSHAKE: u8 = 0x16;
/// The longest head that is read of a request without TLS.
const HEAD_MAX: usize = 8 * 1024;

/// Whether the client speaks plain HTTP on a newly opened connection.
pub async fn is_plain(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    Ok(stream.peek(&mut first).await? == 1 && first[0] != HANDSHAKE)
}

/// Redirects a client that speaks plain HTTP to HTTPS.
pub async fn redirect(mut stream: TcpStream) -> io::Result<()> {
    let mut bytes = Vec::new();
    while !bytes.windows(4).any(|four| four == b"\r\n\r\n") {
        if bytes.len() > HEAD_MAX || stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    }
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or("/"));
    let host = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("host").then(|| value.trim().to_owned())
    });
    let common = "Cache-Control: max-age=0\r\nPragma: no-cache\r\nServer: pve-api-daemon/3.0\r\n";
    let answer = match (method, host) {
        ("GET" | "POST" | "PUT" | "DELETE", Some(host)) => {
            let (status, text) = match method {
                "GET" => (301, "Moved Permanently"),
                _ => (308, "Permanent Redirect"),
            };
            format!(
                "HTTP/1.1 {status} {text}\r\n{common}Connection: Keep-Alive\r\n\
                 Location: https://{host}{path}\r\nContent-Length: {}\r\n\r\n{text}",
                text.len()
            )
        }
        _ => format!(
            "HTTP/1.1 501 method '{method}' not available\r\n{common}Connection: close\r\n\r\n"
        ),
    };
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// A connection on which marked answers are written without their length and their mark.
pub struct Lengthless<S> {
    inner: S,
    /// The unwritten rest of a changed head.
    rest: Vec<u8>,
}

impl<S> Lengthless<S> {
    /// Wraps a connection.
    pub fn new(inner: S) -> Self {
        Self { inner, rest: Vec::new() }
    }
}

/// A head without its mark and its length; `None` if it is not marked.
fn unmarked(bytes: &[u8]) -> Option<Vec<u8>> {
    if !bytes.starts_with(b"HTTP/1.1 ") {
        return None;
    }
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let is = |line: &str, name: &str| {
        line.split_once(':').is_some_and(|(known, _)| known.eq_ignore_ascii_case(name))
    };
    if !head.lines().any(|line| is(line, NO_LENGTH)) {
        return None;
    }
    let kept = head.lines().filter(|line| !is(line, NO_LENGTH) && !is(line, "content-length"));
    let mut text = kept.collect::<Vec<_>>().join("\r\n").into_bytes();
    text.extend_from_slice(&bytes[end..]);
    Some(text)
}

impl<S: AsyncWrite + Unpin> Lengthless<S> {
    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.rest.is_empty() {
            match Pin::new(&mut self.inner).poll_write(context, &self.rest) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => drop(self.rest.drain(..written)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lengthless<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lengthless<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.poll_rest(context) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
        match unmarked(bytes) {
            Some(changed) => {
                self.rest = changed;
                Poll::Ready(Ok(bytes.len()))
            }
            None => Pin::new(&mut self.inner).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.poll_rest(context) {
            Poll::Ready(Ok(())) => Pin::new(&mut self.inner).poll_flush(context),
            other => other,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.poll_rest(context) {
            Poll::Ready(Ok(())) => Pin::new(&mut self.inner).poll_shutdown(context),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marked_answer_loses_only_its_length_and_its_mark() {
        let head = "HTTP/1.1 401 No ticket\r\nx-no-length: 1\r\nconnection: close\r\n\
                    content-length: 0\r\n\r\n";
        let changed = unmarked(head.as_bytes()).unwrap();
        assert_eq!(changed, b"HTTP/1.1 401 No ticket\r\nconnection: close\r\n\r\n");
        assert_eq!(unmarked(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), None);
    }
}
