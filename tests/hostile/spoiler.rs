//! A TLS proxy before a simulated host that answers each request by a rule.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use k8sha::proxmox::Trust;
use k8sha::proxmox::tls::{Fingerprint, client_config};
use k8sha_simulator::HostEndpoint;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The handling of a request.
pub enum Play {
    /// The host answers it.
    Pass,
    /// The host answers it, and the document is changed.
    Edit(Box<dyn Fn(&mut Value) + Send>),
    /// Sends this verbatim, then closes the connection.
    Raw(Vec<u8>),
    /// Sends this, then the block again and again.
    Endless(Vec<u8>, Vec<u8>),
    /// Sends this, then one of its bytes now and then, forever.
    Trickle(Vec<u8>, u8),
    /// Sends nothing; the connection is kept open.
    Silence,
}

/// The handling of `GET /nodes`, given a request's complete head and body.
pub type Rule = dyn Fn(&str, &str) -> Play + Send + Sync;

/// An answer with this status line, these header lines and this body.
pub fn answer(status: &str, headers: &str, body: &[u8]) -> Play {
    let length = format!("Connection: close\r\nContent-Length: {}", body.len());
    let head = format!("HTTP/1.1 {status}\r\n{headers}{length}\r\n\r\n");
    Play::Raw([head.as_bytes(), body].concat())
}

/// A JSON answer.
pub fn json(status: &str, document: &Value) -> Play {
    answer(status, "Content-Type: application/json\r\n", document.to_string().as_bytes())
}

/// The head of a successful answer whose body ends with the connection.
pub fn head() -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n".to_vec()
}

/// The endpoint of a spoiled host.
pub struct Spoiled {
    pub url: String,
    pub fingerprint: String,
}

struct Spoiler {
    host: HostEndpoint,
    rule: Arc<Rule>,
}

/// Starts a proxy before a host. After `change` connections it presents a different certificate.
pub async fn start(host: &HostEndpoint, rule: Arc<Rule>, change: Option<usize>) -> Spoiled {
    let (first, fingerprint) = acceptor();
    let (second, _) = acceptor();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let spoiler = Arc::new(Spoiler { host: host.clone(), rule });
    let served = AtomicUsize::new(0);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let count = served.fetch_add(1, Ordering::SeqCst);
            let changed = change.is_some_and(|change| count >= change);
            let acceptor = if changed { second.clone() } else { first.clone() };
            let spoiler = Arc::clone(&spoiler);
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                // Errors here are connections that the client has closed.
                let _ = spoiler.serve(stream).await;
            });
        }
    });
    Spoiled { url, fingerprint }
}

fn acceptor() -> (TlsAcceptor, String) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".into()]).unwrap();
    let certificate: CertificateDer = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let fingerprint = Fingerprint::of(&certificate).to_string();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), fingerprint)
}

impl Spoiler {
    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(&self, mut stream: S) -> std::io::Result<()> {
        let request = read_request(&mut stream).await?;
        let text = String::from_utf8_lossy(&request);
        let line = text.lines().next().unwrap_or_default();
        let call = line.replace("/api2/json", "").replace(" HTTP/1.1", "");
        match (self.rule)(&call, &text) {
            Play::Pass => stream.write_all(&self.ask(&request).await?).await?,
            Play::Edit(edit) => {
                let answer = self.ask(&request).await?;
                stream.write_all(&edited(&answer, &edit)).await?;
            }
            Play::Raw(bytes) => stream.write_all(&bytes).await?,
            Play::Endless(head, block) => {
                stream.write_all(&head).await?;
                loop {
                    stream.write_all(&block).await?;
                }
            }
            Play::Trickle(head, byte) => {
                stream.write_all(&head).await?;
                loop {
                    stream.write_all(&[byte]).await?;
                    stream.flush().await?;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            Play::Silence => std::future::pending().await,
        }
        stream.shutdown().await
    }

    /// The host's own complete answer, over a separate connection.
    async fn ask(&self, request: &[u8]) -> std::io::Result<Vec<u8>> {
        let pin: Fingerprint = self.host.fingerprint.parse().unwrap();
        let config = client_config(&Trust::Fingerprint(pin.0)).unwrap();
        let address = self.host.url.trim_start_matches("https://");
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        let line = request.iter().position(|byte| *byte == b'\n').unwrap_or_default() + 1;
        let (line, rest) = request.split_at(line);
        stream.write_all(&[line, b"Connection: close\r\n", rest].concat()).await?;
        let mut answer = Vec::new();
        // The host closes without TLS's close_notify, as Proxmox's does.
        let _ = stream.read_to_end(&mut answer).await;
        Ok(answer)
    }
}

fn edited(answer: &[u8], edit: &dyn Fn(&mut Value)) -> Vec<u8> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut document: Value = serde_json::from_str(body).unwrap();
    edit(&mut document);
    let body = document.to_string();
    let status = head.lines().next().unwrap();
    let kind = "Content-Type: application/json";
    format!(
        "{status}\r\n{kind}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&request).into_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await?;
    request.extend(body);
    Ok(request)
}
