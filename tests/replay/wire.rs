//! HTTP as bytes: a library must not normalise the requests and answers of a replay.

use std::sync::Arc;
use std::time::Duration;

use k8sha_simulator::HostEndpoint;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

/// A server that sends nothing for this long is given up.
const PATIENCE: Duration = Duration::from_secs(9);

/// The answer; without a status the connection was closed instead.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The status code.
    pub status: Option<u16>,
    /// The reason phrase.
    pub reason: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The endpoint of a host, with its CA trusted.
#[derive(Clone)]
pub struct Door {
    address: String,
    tls: TlsConnector,
}

impl Door {
    /// The endpoint of a simulated host.
    pub fn new(endpoint: &HostEndpoint) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(endpoint.ca.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let address = endpoint.url.trim_start_matches("https://").to_owned();
        Self { address, tls: TlsConnector::from(Arc::new(config)) }
    }

    /// Requests a path over plain HTTP, as a client that has forgotten the `s`.
    pub async fn ask_plainly(&self, request: &Sent, path: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let request = Sent { target: path.to_owned(), ..request.clone() };
        stream.write_all(&request.bytes()).await.unwrap();
        let read = read(&mut stream, request.method == "HEAD");
        tokio::time::timeout(PATIENCE, read).await.unwrap_or_default()
    }

    /// A new connection.
    pub async fn open(&self) -> Connection {
        let stream = TcpStream::connect(&self.address).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        Connection { stream: self.tls.connect(name, stream).await.unwrap() }
    }
}

/// A connection to a host.
pub struct Connection {
    stream: TlsStream<TcpStream>,
}

impl Connection {
    /// Sends a request and reads its answer.
    pub async fn ask(&mut self, request: &Sent) -> Answer {
        // A server may close before it has read everything; its answer is read all the same.
        let sent = async {
            self.stream.write_all(&request.bytes()).await?;
            self.stream.flush().await
        };
        drop(sent.await);
        let read = read(&mut self.stream, request.method == "HEAD");
        tokio::time::timeout(PATIENCE, read).await.unwrap_or_default()
    }
}

/// A request: its line, headers and body.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The method.
    pub method: String,
    /// The path with its query.
    pub target: String,
    /// Headers besides Host and Content-Length.
    pub headers: Vec<(String, String)>,
    /// The body; an empty `Some` has a Content-Length of 0.
    pub body: Option<Vec<u8>>,
}

impl Sent {
    fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: pve\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        let chunked = self.headers.iter().any(|(name, _)| name == "Transfer-Encoding");
        if let Some(body) = self.body.as_ref().filter(|_| !chunked) {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        let mut bytes = (head + "\r\n").into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin), head_only: bool) -> Answer {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let goes_on = bytes.starts_with(b"HTTP/1.1 100");
            if !goes_on {
                break end;
            }
            bytes.drain(..end + 4);
            continue;
        }
        match stream.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return Answer::default(),
            Ok(_) => {}
        }
    };
    // One byte per character: reason phrases are Latin-1.
    let head: String = bytes[..end].iter().map(|byte| char::from(*byte)).collect();
    let mut body = bytes.split_off(end + 4);
    let mut lines = head.lines();
    let mut status = lines.next().unwrap_or_default().splitn(3, ' ').skip(1);
    let mut answer = Answer {
        status: status.next().and_then(|code| code.parse().ok()),
        reason: status.next().unwrap_or_default().to_owned(),
        ..Answer::default()
    };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        answer.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = answer.header("content-length").and_then(|length| length.parse().ok());
    while !head_only && length.is_none_or(|length: usize| body.len() < length) {
        match stream.read_buf(&mut body).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    answer.body = body;
    answer
}
