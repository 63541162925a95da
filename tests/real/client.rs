//! A client that uses the API all the time, and records when it answered.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::lab::Lab;
use crate::wait;

/// The time between two requests.
const PACE: Duration = Duration::from_millis(20);
/// How long a connection may take to open: on a bridge it takes no time, and a lost first packet is
/// only repeated after a second.
const CONNECT: Duration = Duration::from_millis(150);
/// How long an answer may take.
pub const ANSWER: Duration = Duration::from_millis(500);

/// The API endpoint and its trust.
#[derive(Clone)]
pub struct Api {
    at: SocketAddr,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
}

impl Api {
    /// The API at this address, which must prove with this certificate that it has this name.
    pub fn new(at: (Ipv4Addr, u16), name: &str, certificate: &CertificateDer<'static>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        Self { at: at.into(), name, config: Arc::new(config) }
    }

    /// Sends one request, over a new connection; returns the master that answered.
    pub fn ask(&self) -> io::Result<Ipv4Addr> {
        let stream = TcpStream::connect_timeout(&self.at, CONNECT)?;
        stream.set_read_timeout(Some(ANSWER))?;
        let connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone())
            .map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, stream);
        stream.write_all(b"GET /version HTTP/1.1\r\nHost: api\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        if !head.starts_with("HTTP/1.1 200 ") {
            return Err(io::Error::other(format!("the answer is `{answer}`")));
        }
        body.parse().map_err(io::Error::other)
    }
}

impl Api {
    /// Opens a stream on which the master is silent for that long, and returns how long it was:
    /// afterwards both sides must receive each other's data again.
    pub fn watch(&self, silence: Duration) -> io::Result<Duration> {
        let stream = TcpStream::connect_timeout(&self.at, CONNECT)?;
        stream.set_read_timeout(Some(silence + Duration::from_secs(60)))?;
        let connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone())
            .map_err(io::Error::other)?;
        let mut stream = BufReader::new(StreamOwned::new(connection, stream));
        let request = format!("GET /watch/{} HTTP/1.1\r\nHost: api\r\n\r\n", silence.as_secs());
        stream.get_mut().write_all(request.as_bytes())?;
        let mut expect = |wanted: &str| {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let right = line.trim_end() == wanted;
            right.then(Instant::now).ok_or_else(|| io::Error::other(format!("heard `{line}`")))
        };
        let began = expect("HTTP/1.1 200 OK")?;
        let ended = expect("event")?;
        stream.get_mut().write_all(b"thanks\n")?;
        let mut line = String::new();
        stream.read_line(&mut line)?;
        if line == "welcome\n" {
            Ok(ended - began)
        } else {
            Err(io::Error::other(format!("heard `{line}` after the silence")))
        }
    }
}

/// An answered request.
#[derive(Clone, Copy)]
struct Answered {
    asked: Instant,
    answered: Instant,
}

/// Sends a request every 20 ms until dropped.
pub struct Client {
    answered: Arc<Mutex<Vec<Answered>>>,
    failed: Arc<Mutex<Vec<Instant>>>,
    last_error: Arc<Mutex<String>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    /// Starts on a machine of the lab.
    pub fn start(lab: &Lab, machine: &str, api: Api) -> Self {
        let mut client = Self {
            answered: Arc::default(),
            failed: Arc::default(),
            last_error: Arc::default(),
            stop: Arc::default(),
            thread: None,
        };
        let (answered, error) = (Arc::clone(&client.answered), Arc::clone(&client.last_error));
        let (failed, stop) = (Arc::clone(&client.failed), Arc::clone(&client.stop));
        client.thread = Some(lab.on(machine, move || {
            while !stop.load(Ordering::Relaxed) {
                let asked = Instant::now();
                match api.ask() {
                    Ok(_) => {
                        answered.lock().unwrap().push(Answered { asked, answered: Instant::now() })
                    }
                    Err(seen) => {
                        failed.lock().unwrap().push(asked);
                        *error.lock().unwrap() = seen.to_string();
                    }
                }
                thread::sleep(PACE.saturating_sub(asked.elapsed()));
            }
        }));
        client
    }

    /// The number of requests sent since then that failed.
    pub fn failures(&self, since: Instant) -> usize {
        self.failed.lock().unwrap().iter().filter(|asked| **asked >= since).count()
    }

    /// Waits until it is served without a break for this long; returns the longest outage since
    /// `since`: from the last answered request before it to the first answer after it.
    pub fn outage(&self, since: Instant, steady: Duration, limit: Duration) -> Duration {
        let settled = || {
            let answered = self.answered.lock().unwrap();
            let first = answered.partition_point(|one| one.asked < since);
            let told = &answered[first.saturating_sub(1)..];
            let gap = |pair: &[Answered]| pair[1].answered - pair[0].asked;
            let from = Instant::now() - steady;
            let last = told.partition_point(|one| one.asked < from);
            // A last gap that is still open shows as a window without answers.
            let calm = from > since
                && told.len() > last + 1
                && told.last()?.answered.elapsed() < ANSWER
                && told[last.saturating_sub(1)..].windows(2).all(|pair| gap(pair) < ANSWER);
            calm.then(|| told.windows(2).map(gap).max())?
        };
        wait::until("the client is served steadily", limit, settled, || {
            format!("its last error: {}", self.last_error.lock().unwrap())
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic is reported separately.
            let _ = thread.join();
        }
    }
}
