//! Stand-ins for API servers: TLS, `/readyz`, and the name of the server that answers.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::lab::Lab;

/// How long a connection may be silent.
const SILENCE: Duration = Duration::from_secs(5);

/// All API servers of a cluster, on one machine of the lab.
pub struct Masters {
    /// The certificate that all of them present.
    pub certificate: CertificateDer<'static>,
    unready: Arc<Mutex<BTreeSet<Ipv4Addr>>>,
}

impl Masters {
    /// Serves on that port of every address of the machine, under the API's name, until the test ends.
    pub fn start(lab: &Lab, machine: &str, port: u16, name: &str) -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let (config, unready) = (Arc::new(config), Arc::new(Mutex::new(BTreeSet::new())));
        let listener = lab.on(machine, move || TcpListener::bind(("0.0.0.0", port)).unwrap());
        let (listener, shared) = (listener.join().unwrap(), Arc::clone(&unready));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, unready) = (Arc::clone(&config), Arc::clone(&shared));
                thread::spawn(move || serve(stream, config, &unready));
            }
        });
        Self { certificate: cert.der().clone(), unready }
    }

    /// Makes one of them answer 500 or 200 on `/readyz`.
    pub fn set_ready(&self, master: Ipv4Addr, ready: bool) {
        let mut unready = self.unready.lock().unwrap();
        if ready {
            unready.remove(&master);
        } else {
            unready.insert(master);
        }
    }
}

/// Answers one request. A client that disconnects is not an error of the test.
fn serve(stream: TcpStream, config: Arc<ServerConfig>, unready: &Mutex<BTreeSet<Ipv4Addr>>) {
    let Ok(IpAddr::V4(me)) = stream.local_addr().map(|address| address.ip()) else { return };
    let _ = stream.set_read_timeout(Some(SILENCE));
    let Ok(connection) = ServerConnection::new(config) else { return };
    let mut stream = StreamOwned::new(connection, stream);
    let (mut head, mut buffer) = (Vec::new(), [0; 1024]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => head.extend_from_slice(&buffer[..count]),
            _ => return,
        }
    }
    if let Some(seconds) = head.strip_prefix(b"GET /watch/").and_then(silence) {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\n");
        thread::sleep(seconds);
        let _ = stream.write_all(b"event\n");
        let mut said = [0; 7];
        if stream.read_exact(&mut said).is_ok() && &said == b"thanks\n" {
            let _ = stream.write_all(b"welcome\n");
        }
        return;
    }
    let ready = !unready.lock().unwrap().contains(&me);
    let status = match (head.starts_with(b"GET /readyz "), ready) {
        (true, false) => "500 Internal Server Error",
        _ => "200 OK",
    };
    let body = me.to_string();
    let length = body.len();
    let answer =
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    let _ = stream.write_all(answer.as_bytes());
    stream.conn.send_close_notify();
    let _ = stream.flush();
}

/// How long a watch is silent.
fn silence(rest: &[u8]) -> Option<Duration> {
    let word = rest.split(|byte| *byte == b' ').next()?;
    Some(Duration::from_secs(std::str::from_utf8(word).ok()?.parse().ok()?))
}
