//! A host for tests: a TLS server that plays a script of raw answers and records the requests.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::{HostName, Trust};

use super::tls::Fingerprint;
use super::{Auth, Client};

/// One turn of the script.
pub enum Turn {
    /// An answer; the connection stays open.
    Answer(String),
    /// The connection is closed without an answer, after the request was read.
    HangUp,
}

/// A successful answer.
pub fn ok(data: serde_json::Value) -> Turn {
    let body = serde_json::json!({ "data": data }).to_string();
    Turn::Answer(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json;charset=UTF-8\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

/// A refusal with its words in the reason phrase, as Proxmox VE sends it.
pub fn no(status: u16, reason: &str, body: &str) -> Turn {
    Turn::Answer(format!(
        "HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

/// An answer of Proxmox VE's own proxy, which has neither body nor length.
pub fn proxy_fault(status: u16, reason: &str) -> Turn {
    Turn::Answer(format!("HTTP/1.1 {status} {reason}\r\nConnection: close\r\n\r\n"))
}

/// A started task.
pub fn task(kind: &str, id: &str) -> Turn {
    ok(upid(kind, id).into())
}

/// The end of a task.
pub fn ended(exit: &str) -> Turn {
    ok(serde_json::json!({ "status": "stopped", "exitstatus": exit }))
}

/// A task's id.
pub fn upid(kind: &str, id: &str) -> String {
    format!("UPID:pve1:000000E0:000395D6:6B02EB73:{kind}:{id}:root@pam!t:")
}

/// The scripted host.
pub struct Script {
    /// Its address.
    pub endpoint: String,
    /// The fingerprint of its certificate.
    pub fingerprint: Fingerprint,
    /// Its certificate as PEM.
    pub pem: String,
    turns: Arc<Mutex<VecDeque<Turn>>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Script {
    /// Starts a host that plays these turns, one per request.
    pub async fn play(turns: impl IntoIterator<Item = Turn>) -> Self {
        let key = rcgen::generate_simple_self_signed(["127.0.0.1".into(), "pve1".into()]).unwrap();
        let certificate: CertificateDer = key.cert.der().clone();
        let secret = PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], secret)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let script = Self {
            endpoint: format!("https://{}", listener.local_addr().unwrap()),
            fingerprint: Fingerprint::of(&certificate),
            pem: key.cert.pem(),
            turns: Arc::new(Mutex::new(turns.into_iter().collect())),
            requests: Arc::default(),
        };
        let (turns, requests) = (Arc::clone(&script.turns), Arc::clone(&script.requests));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, turns) = (acceptor.clone(), Arc::clone(&turns));
                let requests = Arc::clone(&requests);
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    while let Some(request) = read_request(&mut stream).await {
                        requests.lock().unwrap().push(request);
                        let turn = turns.lock().unwrap().pop_front();
                        let Some(Turn::Answer(answer)) = turn else { return };
                        stream.write_all(answer.as_bytes()).await.unwrap();
                        if answer.contains("Connection: close") {
                            let _ = stream.shutdown().await;
                            return;
                        }
                    }
                });
            }
        });
        script
    }

    /// A client of it, with a token and very short waits.
    pub fn client(&self) -> Client {
        self.client_as(Auth::Token("root@pam!t=s3cret".into()))
    }

    /// A client of it.
    pub fn client_as(&self, auth: Auth) -> Client {
        let trust = Trust::Fingerprint(self.fingerprint.0);
        let host = HostName("pve1".into());
        Client::new(host, &self.endpoint, &trust, auth, 1000.0).unwrap()
    }

    /// All received requests, verbatim.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// The request lines, without protocol and prefix, and the bodies: `POST /x a=1`.
    pub fn calls(&self) -> Vec<String> {
        let short = |request: &String| {
            let (head, body) = request.split_once("\r\n\r\n").unwrap();
            let line = head.lines().next().unwrap().replace("/api2/json", "");
            format!("{} {body}", line.trim_end_matches(" HTTP/1.1")).trim_end().to_owned()
        };
        self.requests().iter().map(short).collect()
    }

    /// Whether every turn was played.
    pub fn is_over(&self) -> bool {
        self.turns.lock().unwrap().is_empty()
    }
}

async fn read_request(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    Some(head + &String::from_utf8_lossy(&body))
}
