//! The HTTPS server of each node (pve-http-server src/PVE/APIServer/AnyEvent.pm).

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_TYPE, COOKIE, HeaderMap, HeaderValue, TRANSFER_ENCODING,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request as HttpRequest, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::access::{self, Caller};
use super::apidoc::{Refusal, Request as Asked, Schema};
use super::body::{self, Heard};
use super::calls::{self, Ask, Call, Permit, Run};
use super::pace;
use super::plain::{self, Lengthless};
use super::requests::{Request, RequestLog};
use super::resolver::Resolver;
use super::tls::Pair;
use super::wire::{self, BODY_MAX, Body, Failure, Params};
use crate::faults::FaultKind;
use crate::world::Shared;

/// Proxmox closes a connection that was idle for this long, in real time.
const IDLE: Duration = Duration::from_secs(5);
/// Proxmox does not answer a request with this many headers.
const HEADERS_MAX: usize = 64;
/// Proxmox does not answer a request whose header lines have this many bytes.
const HEADER_BYTES_MAX: usize = 8 * 1024;
/// How many headers are read of a request that has too many.
const HEADERS_READ: usize = 512;
/// Proxmox closes a connection after this many requests.
const REQUESTS_MAX: usize = 100;
/// How many seconds a clock is ahead with the fault `clock-ahead`.
const CLOCK_AHEAD: Duration = Duration::from_secs(60);

/// One node's server.
pub struct Server {
    /// The node.
    pub host: String,
    /// The world that it serves.
    pub shared: Shared,
    /// The log of the requests.
    pub log: Arc<RequestLog>,
    /// Proxmox's own schema, if requests are checked against it.
    pub schema: Option<Arc<Schema>>,
}

/// A TLS configuration with a node's certificate: the leaf only, HTTP/1 only, as pveproxy has it.
///
/// # Errors
/// If the certificate or its key cannot be read.
pub fn tls(pair: &Pair) -> io::Result<Arc<ServerConfig>> {
    let cert = CertificateDer::from_pem_slice(pair.cert.as_bytes()).map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).map_err(io::Error::other)?;
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .map_err(io::Error::other)?;
    Ok(Arc::new(config))
}

/// Binds a loopback port; 0 means any free one.
///
/// # Errors
/// If it is in use.
pub async fn bind(port: u16) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Serves a node until the future is dropped.
pub async fn serve(server: Arc<Server>, listener: TcpListener, tls: Arc<ServerConfig>) {
    let acceptor = TlsAcceptor::from(tls);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(connection(server.clone(), acceptor.clone(), stream));
                }
            }
            // Ended connections are dropped as they end.
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(server: Arc<Server>, acceptor: TlsAcceptor, stream: TcpStream) {
    // Errors on a connection concern only its client.
    drop(stream.set_nodelay(true));
    if plain::is_plain(&stream).await.unwrap_or(false) {
        drop(plain::redirect(stream).await);
        return;
    }
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let served = Arc::new(AtomicUsize::new(0));
    let service = service_fn(move |request| {
        let (server, served) = (server.clone(), served.clone());
        async move {
            let mut response = server.answer(request).await?;
            if served.fetch_add(1, Ordering::Relaxed) + 1 >= REQUESTS_MAX {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            io::Result::Ok(response)
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(IDLE).max_headers(HEADERS_READ);
    drop(http.serve_connection(TokioIo::new(Lengthless::new(stream)), service).await);
}

impl Server {
    async fn answer(&self, request: HttpRequest<Incoming>) -> io::Result<Response<Full<Bytes>>> {
        let method = request.method().to_string();
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let mut heard = Heard::default();
        let result = self.handle(request, &mut heard).await;
        let status = result.as_ref().map_or(0, |response| response.status().as_u16());
        let (host, at) = (self.host.clone(), self.shared.clock.now());
        let Heard { form, violation, .. } = heard;
        self.log.keep(Request { host, method, path, form, status, at, violation });
        result
    }

    async fn handle(
        &self,
        request: HttpRequest<Incoming>,
        heard: &mut Heard,
    ) -> io::Result<Response<Full<Bytes>>> {
        if !self.shared.look(|world| world.is_online(&self.host)) {
            return Err(io::Error::new(io::ErrorKind::ConnectionReset, "the host is switched off"));
        }
        if is_too_much(request.headers()) {
            // It reads no further, and closes after the idle timeout.
            tokio::time::sleep(IDLE).await;
            return Err(io::Error::new(io::ErrorKind::ConnectionReset, "too many headers"));
        }
        let path = request.uri().path().to_owned();
        let (api, format) = match path.strip_prefix("/api2/") {
            Some(rest) => match rest.split_once('/').unwrap_or((rest, "")) {
                (format @ ("json" | "extjs" | "png"), rest) => (Some(format!("/{rest}")), format),
                ("html" | "htmljs" | "spiceconfig", _) => (None, ""),
                (format, rest) => {
                    let refused = self.known(request.headers(), request.method()).await;
                    let text = format!("no formatter for uri /{rest}, {format}");
                    let failure = refused.err().unwrap_or(Failure::Plain(501, text));
                    return Ok(wire::write(Err(failure), false));
                }
            },
            None => (None, ""),
        };
        let Some(api) = api else {
            let text = format!("no such file '{path}'");
            return Ok(wire::write(Err(Failure::Plain(404, text)), false));
        };
        let upload = api.ends_with("/upload") && request.method() == Method::POST;
        let outcome = self.call(request, &api, heard).await?;
        let mut response = wire::write(outcome, format == "extjs");
        if format == "png" {
            response = wire::picture(response);
        }
        if upload {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if self.shared.look(|world| world.faults.active(FaultKind::ClockAhead, &self.host)) {
            let then = SystemTime::now() + CLOCK_AHEAD;
            if let Ok(date) = HeaderValue::from_str(&wire::date(then)) {
                response.headers_mut().insert("date", date);
            }
        }
        Ok(response)
    }

    /// The result of a call; an error closes the connection.
    async fn call(
        &self,
        request: HttpRequest<Incoming>,
        path: &str,
        heard: &mut Heard,
    ) -> io::Result<Result<Body, Failure>> {
        let method = request.method().clone();
        if ![Method::GET, Method::POST, Method::PUT, Method::DELETE].contains(&method) {
            return Ok(Err(Failure::Bare(501, format!("method '{method}' not available"))));
        }
        if request.headers().contains_key(TRANSFER_ENCODING) {
            let text = "chunked transfer encoding not supported".to_owned();
            return Ok(Err(Failure::Plain(501, text)));
        }
        let body_size = request.body().size_hint().exact().unwrap_or_default();
        let bodiless = method == Method::GET || method == Method::DELETE;
        if bodiless && body_size > 0 {
            let text = format!("Unexpected content for method '{method}'");
            return Ok(Err(Failure::Plain(501, text)));
        }
        let mut params = Params::default();
        let call = calls::find(method.as_str(), path, &mut params);
        let open = matches!(call, Some(Call { permit: Permit::Anyone, .. }));
        let upload = path.ends_with("/upload");
        let write = method != Method::GET && !upload;
        let caller = match self.identify(request.headers(), write) {
            Ok(caller) => caller,
            Err(_) if open => Caller { user: String::new(), token: None },
            Err(reason) => {
                self.delay(pace::REFUSED_LOGIN).await;
                return Ok(Err(Failure::Bare(401, reason.to_owned())));
            }
        };
        let Some(call) = call else {
            // The schema may have calls that this simulator lacks.
            if let Err(refusal @ (Refusal::NoPath | Refusal::NoMethod)) =
                self.judged(&Asked::new(method.as_str(), path))
            {
                heard.violation = Some(refusal.to_string());
            }
            return Ok(Err(not_implemented(method.as_str(), path)));
        };
        let query = request.uri().query().unwrap_or_default().to_owned();
        let kind = header(request.headers(), &CONTENT_TYPE).unwrap_or_default();
        if !upload && body_size > BODY_MAX {
            return Ok(Err(Failure::Plain(501, "for data too large".to_owned())));
        }
        let first = self.shared.clock.now();
        let mut ask = match self.ask(caller, params, first) {
            Ok(ask) => ask,
            Err(failure) => return Ok(self.settle(Err(failure)).await),
        };
        if upload {
            if self.shared.takes(FaultKind::UploadReset, &self.host) {
                return Err(io::Error::new(io::ErrorKind::ConnectionReset, "injected fault"));
            }
            // The permission is checked before the body is read.
            let refused = self.shared.look(|world| match call.permit {
                Permit::One(..) => {
                    let storage = format!("/storage/{}", ask.text("storage"));
                    ask.require(world, &storage, &["Datastore.AllocateTemplate"])
                }
                _ => Ok(()),
            });
            // pveproxy itself answers this, without a body.
            match refused {
                Err(Failure::Forbidden(text)) => return Ok(Err(Failure::Bare(403, text))),
                Err(failure) => return Ok(Err(failure)),
                Ok(()) => {}
            }
        }
        let bytes = request.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
        if let Err(failure) = body::read(&mut ask, upload, &kind, &bytes, &query, heard)? {
            return Ok(Err(failure));
        }
        // Permissions are checked before the parameters.
        if let Err(failure) = self.shared.look(|world| call.permit(world, &ask)) {
            return Ok(self.settle(Err(failure)).await);
        }
        let asked = Asked::new(method.as_str(), path).with_all(&heard.given);
        if let Err(refusal) = self.judged(&asked) {
            heard.violation = Some(refusal.to_string());
            return Ok(Err(match refusal {
                Refusal::NoPath | Refusal::NoMethod => not_implemented(method.as_str(), path),
                Refusal::Parameters(errors) => Failure::Parameters(errors.into_iter().collect()),
            }));
        }
        let result = self.run(call, &mut ask).await;
        let write = matches!(call.run, Run::Write(_)) && result.is_ok();
        if write && path.starts_with("/nodes/") && self.lost_answer(&ask) {
            // The change was made; only the answer is lost.
            self.delay(pace::PROXY_TIMEOUT).await;
            return Ok(Err(Failure::Bare(596, "Connection timed out".to_owned())));
        }
        Ok(self.settle(result).await)
    }

    /// Checks a request against Proxmox's own schema, if there is one.
    fn judged(&self, asked: &Asked) -> Result<(), Refusal> {
        self.schema.as_ref().map_or(Ok(()), |schema| schema.check(asked))
    }

    fn lost_answer(&self, ask: &Ask) -> bool {
        self.shared.takes(FaultKind::ProxyTimeout596, &ask.node)
    }

    /// Checks the parameters of a call and runs it, repeatedly while it must wait for a lock.
    async fn run(&self, call: &Call, ask: &mut Ask) -> Result<Body, Failure> {
        call.check(ask)?;
        let whole = Body::whole;
        loop {
            let result = match call.run {
                Run::Read(run) => self.shared.look(|world| run(world, ask)).map(whole),
                Run::Index(key, names) => {
                    let part = |name: &&str| serde_json::json!({key: name});
                    Ok(whole(names.iter().map(part).collect()))
                }
                Run::List(run) => self.shared.look(|world| run(world, ask)),
                Run::Write(run) => {
                    self.shared.act(|world, store| run(world, store, ask)).map(whole)
                }
            };
            match result {
                Err(Failure::Wait(until)) => {
                    self.shared.clock.sleep_until(until).await;
                    ask.again = true;
                }
                result => return result,
            }
        }
    }

    /// Waits until a delayed answer is due.
    async fn settle(&self, result: Result<Body, Failure>) -> Result<Body, Failure> {
        match result {
            Err(Failure::Late(seconds, inner)) => {
                self.delay(seconds).await;
                Err(*inner)
            }
            result => result,
        }
    }

    async fn delay(&self, seconds: f64) {
        self.shared.clock.sleep(seconds).await;
    }

    /// Authenticates the caller.
    async fn known(&self, headers: &HeaderMap, method: &Method) -> Result<(), Failure> {
        match self.identify(headers, *method != Method::GET) {
            Ok(_) => Ok(()),
            Err(reason) => {
                self.delay(pace::REFUSED_LOGIN).await;
                Err(Failure::Bare(401, reason.to_owned()))
            }
        }
    }

    fn identify(&self, headers: &HeaderMap, write: bool) -> Result<Caller, &'static str> {
        let authorization = header(headers, &AUTHORIZATION);
        let cookie = header(headers, &COOKIE);
        let csrf = headers.get("CSRFPreventionToken").and_then(|value| value.to_str().ok());
        self.shared.look(|world| {
            let dc = world.pve.home(&self.host).ok_or("No ticket")?;
            access::identify(
                &world.pve.datacenters[dc],
                authorization.as_deref(),
                cookie.as_deref(),
                csrf,
                write,
                world.unix(),
            )
        })
    }

    /// Finds the node in a path: this one, or another of the cluster.
    fn ask(
        &self,
        caller: Caller,
        params: Params,
        first: crate::world::SimTime,
    ) -> Result<Ask, Failure> {
        let node = match params.text("node") {
            None | Some("localhost") => self.host.clone(),
            Some(node) => node.to_owned(),
        };
        let dc = self.shared.look(|world| {
            let dc = world.pve.home(&self.host).ok_or_else(|| Failure::die("no such host"))?;
            let hosts = &world.pve.datacenters[dc].hosts;
            if !hosts.contains_key(&node) {
                let why = Resolver::unknown(world, hosts.get(&self.host));
                return Err(Failure::Die(format!(
                    "hostname lookup '{node}' failed - failed to get address info for: {node}: {why}"
                )));
            }
            if world.is_online(&node) {
                return Ok(dc);
            }
            let unreachable = Failure::Bare(595, "No route to host".to_owned());
            Err(Failure::Late(pace::NO_ROUTE, Box::new(unreachable)))
        })?;
        Ok(Ask {
            caller,
            dc,
            via: self.host.clone(),
            node,
            params,
            first,
            again: false,
            sent: None,
        })
    }
}

fn not_implemented(method: &str, path: &str) -> Failure {
    let path = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
    Failure::Status(501, format!("Method '{method} {path}' not implemented"))
}

/// Whether a request has more or longer headers than Proxmox accepts.
fn is_too_much(headers: &HeaderMap) -> bool {
    let line = |(name, value): (&hyper::header::HeaderName, &HeaderValue)| {
        name.as_str().len() + ": ".len() + value.len()
    };
    headers.len() >= HEADERS_MAX || headers.iter().map(line).sum::<usize>() >= HEADER_BYTES_MAX
}

fn header(headers: &HeaderMap, name: &hyper::header::HeaderName) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}
