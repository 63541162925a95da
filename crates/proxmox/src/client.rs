//! The HTTPS client of one host: sends a request and returns the answer or a typed error.
//!
//! HTTP/1.1 only. Idle connections are dropped before the host's five seconds are over, and redirects
//! and proxies are not followed. Every answer has limits of time and size. Source: pve-http-server
//! src/PVE/APIServer/AnyEvent.pm.

use std::fmt;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, DATE, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use k8sha_base::cause::{Cause, cause};
use k8sha_base::clock::Clock;
use k8sha_base::event;
use k8sha_base::limits::{self, excerpt, http};
use k8sha_base::retry::{Policy, Retry, retry};

use super::answer::Answer;
use super::auth::{Auth, Session};
use super::board::Board;
use super::body::Bulk;
use super::error::{Error, Identity};
use super::id::HostName;
use super::params::{Params, encode};
use super::shared::Lists;
use super::task::Upid;
use super::tls::{self, Trust};
use super::wire::{Envelope, Ticket};

const IDLE_LIMIT: Duration = Duration::from_secs(3);
const IDLE_CONNECTIONS: usize = 4;

/// A client of a Proxmox VE host. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    host: HostName,
    endpoint: String,
    http: reqwest::Client,
    auth: Auth,
    identity: Identity,
    session: Mutex<Option<Session>>,
    clock: Clock,
    board: Board,
    lists: Lists,
    /// Seconds by which the host's clock is ahead of this machine's, from its last answer.
    ahead: StdMutex<Option<i64>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { host, endpoint, identity, .. } = &*self.inner;
        write!(f, "Client({host} at {endpoint} as {identity})")
    }
}

/// A call, without the caller. It has no `Debug`, because a login contains a password.
pub(super) struct Request {
    method: Method,
    /// The encoded path below `/api2/json`.
    path: String,
    /// The method and the path for messages.
    pub label: String,
    query: Params,
    body: Body,
    /// Whether it is idempotent.
    pub is_harmless: bool,
    /// The size limit of its answer.
    pub bulk: Bulk,
}

enum Body {
    None,
    Form(Params),
    Raw { content_type: String, bytes: Vec<u8> },
}

impl Request {
    fn new(method: Method, segments: &[&str]) -> Self {
        let encoded = segments.iter().map(|segment| encode(segment)).collect::<Vec<_>>();
        Self {
            label: format!("{method} /{}", segments.join("/")),
            is_harmless: method == Method::GET,
            method,
            path: format!("/{}", encoded.join("/")),
            query: Params::new(),
            body: Body::None,
            bulk: Bulk::One,
        }
    }

    pub fn get(segments: &[&str]) -> Self {
        Self::new(Method::GET, segments)
    }

    /// A GET that returns a list.
    pub fn list(segments: &[&str]) -> Self {
        Self { bulk: Bulk::List, ..Self::get(segments) }
    }

    /// A GET that returns a complete log.
    pub fn log(segments: &[&str]) -> Self {
        Self { bulk: Bulk::Log, ..Self::get(segments) }
    }

    pub fn post(segments: &[&str]) -> Self {
        Self::new(Method::POST, segments).form(Params::new())
    }

    pub fn put(segments: &[&str]) -> Self {
        Self::new(Method::PUT, segments).form(Params::new())
    }

    /// A DELETE carries its parameters in the query: a body is refused.
    pub fn delete(segments: &[&str]) -> Self {
        Self::new(Method::DELETE, segments)
    }

    pub fn query(mut self, query: Params) -> Self {
        self.query = query;
        self
    }

    pub fn form(mut self, form: Params) -> Self {
        self.body = Body::Form(form);
        self
    }

    pub fn raw(mut self, content_type: String, bytes: Vec<u8>) -> Self {
        self.body = Body::Raw { content_type, bytes };
        self
    }

    /// Its encoded path below `/api2/json`, with the query.
    pub fn target(&self) -> String {
        match self.query.is_empty() {
            true => self.path.clone(),
            false => format!("{}?{}", self.path, self.query.encoded()),
        }
    }

    /// Marks it as idempotent, although it is not a GET.
    pub fn harmless(mut self) -> Self {
        self.is_harmless = true;
        self
    }
}

impl Client {
    /// Sets up a client for a host; nothing is sent yet.
    ///
    /// `clock` is the pace of every wait between two looks, for a world whose clock runs faster; 1 for
    /// a real one.
    ///
    /// # Errors
    /// [`Error::Setup`] if the endpoint, the trust or the credentials are invalid.
    pub fn new(
        host: HostName,
        endpoint: &str,
        trust: &Trust,
        auth: Auth,
        clock: impl Into<Clock>,
    ) -> Result<Self, Error> {
        let clock = clock.into();
        let fault = |why: Cause| Error::Setup { host: host.clone(), why };
        let url = reqwest::Url::parse(endpoint).map_err(|error| {
            fault(cause(format!("the endpoint `{endpoint}` is not a URL: {error}")))
        })?;
        if url.scheme() != "https" || url.host_str().is_none() {
            let said = format!("the endpoint `{endpoint}` is not of the form `https://HOST:8006`");
            return Err(fault(cause(said)));
        }
        let identity = auth.identity().map_err(|said| fault(cause(said)))?;
        let tls = tls::client_config(trust).map_err(|error| fault(cause(error)))?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .pool_idle_timeout(IDLE_LIMIT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .http1_max_headers(http::HEADERS)
            .connect_timeout(clock.limit(http::CONNECT))
            .user_agent(concat!("k8sha/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| fault(cause(error)))?;
        let inner = Inner {
            host,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            http,
            auth,
            identity,
            session: Mutex::new(None),
            ahead: StdMutex::new(None),
            board: Board::default(),
            lists: Lists::default(),
            clock,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Sets up a client for a host; if no trusted certificate is configured, the error contains the one
    /// that the host presents.
    ///
    /// # Errors
    /// [`Error::Untrusted`], and those of [`Client::new`].
    pub async fn open(
        name: &HostName,
        endpoint: &str,
        trust: Option<&Trust>,
        auth: Auth,
        clock: impl Into<Clock>,
    ) -> Result<Self, Error> {
        if let Some(trust) = trust {
            return Self::new(name.clone(), endpoint, trust, auth, clock);
        }
        let seen = match tls::seen_fingerprint(endpoint).await {
            Ok(fingerprint) => format!("the host shows {fingerprint}"),
            Err(why) => format!("the host's certificate cannot be read: {why}"),
        };
        Err(Error::Untrusted { host: name.clone(), endpoint: endpoint.to_owned(), seen })
    }

    /// The host: its name is the node in every path.
    pub fn host(&self) -> &HostName {
        &self.inner.host
    }

    /// The API's base address.
    pub fn endpoint(&self) -> &str {
        &self.inner.endpoint
    }

    /// The account of the login.
    pub fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    /// The divisor of waits.
    pub fn pace(&self) -> f64 {
        self.inner.clock.speed()
    }

    /// The awaited tasks.
    pub(super) fn board(&self) -> &Board {
        &self.inner.board
    }

    /// The lists that are being read.
    pub(super) fn lists(&self) -> &Lists {
        &self.inner.lists
    }

    /// The pace of waiting, and its time limits.
    pub(super) fn clock(&self) -> Clock {
        self.inner.clock
    }

    /// Seconds by which the host's clock is ahead of this machine's (behind: negative), from the `Date`
    /// of its last answer; `None` before the first one.
    pub fn clock_ahead(&self) -> Option<i64> {
        *self.inner.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits, at this client's pace.
    pub(super) async fn pause(&self, wait: Duration) {
        self.inner.clock.pause(wait).await;
    }

    /// Reads, with retries if that is safe.
    pub(super) async fn read<T: DeserializeOwned>(&self, request: Request) -> Result<T, Error> {
        let body = self.read_body(&request).await?;
        self.decode(&request, &body)
    }

    pub(super) async fn read_body(&self, request: &Request) -> Result<Vec<u8>, Error> {
        let again = |error: &Error| {
            Retry::when(matches!(error, Error::Unreachable { .. } | Error::NoAnswer { .. }))
        };
        let policy = Policy::api().paced(self.pace());
        let what = format!("{} at `{}`", request.label, self.host());
        retry(policy, &what, || self.send(request), again).await
    }

    /// Reads, without retries.
    pub(super) async fn read_once<T: DeserializeOwned>(
        &self,
        request: Request,
    ) -> Result<T, Error> {
        let body = self.send(&request).await?;
        self.decode(&request, &body)
    }

    /// Writes, without retries. The answer is the task that does the work, or none if it is done
    /// already.
    pub(super) async fn write(&self, request: &Request) -> Result<Option<Upid>, Error> {
        let body = self.send(request).await?;
        let answer: serde_json::Value = self.decode(request, &body)?;
        match answer.as_str() {
            Some(text) if text.starts_with("UPID:") => {
                let upid = text.parse().map_err(|why| self.undecodable(request, why))?;
                Ok(Some(upid))
            }
            _ => Ok(None),
        }
    }

    pub(super) fn decode<T: DeserializeOwned>(
        &self,
        request: &Request,
        body: &[u8],
    ) -> Result<T, Error> {
        let envelope: Envelope<T> = serde_json::from_slice(body)
            .map_err(|error| self.undecodable(request, error.to_string()))?;
        Ok(envelope.data)
    }

    fn undecodable(&self, request: &Request, why: String) -> Error {
        // The parser quotes what it could not parse.
        let why = excerpt(&why, 300);
        Error::Decode { host: self.host().clone(), call: request.label.clone(), why }
    }

    /// Sends a request once; with a ticket, once more after a new login if the old one was refused,
    /// which is safe because a refused request was not carried out.
    pub(super) async fn send(&self, request: &Request) -> Result<Vec<u8>, Error> {
        // Boxed: the futures of all callers would be as large as the whole HTTP client's.
        Box::pin(self.send_now(request)).await
    }

    async fn send_now(&self, request: &Request) -> Result<Vec<u8>, Error> {
        let Auth::Ticket { user, password } = &self.inner.auth else {
            return self.exchange(request, None).await;
        };
        let session = self.session(user, password, None).await?;
        match self.exchange(request, Some(&session)).await {
            Err(Error::Unauthorized { .. }) => {
                let session = self.session(user, password, Some(&session)).await?;
                self.exchange(request, Some(&session)).await
            }
            other => other,
        }
    }

    /// The session, after a login if there is none, it is old, or it is the `spoiled` one.
    async fn session(
        &self,
        user: &str,
        password: &SecretString,
        spoiled: Option<&Session>,
    ) -> Result<Session, Error> {
        // Held during the login, so that many concurrent calls cause one login.
        let mut place = self.inner.session.lock().await;
        if let Some(session) = place.as_ref() {
            let refused = spoiled.is_some_and(|spoiled| spoiled.is_same(session));
            if session.is_fresh() && !refused {
                return Ok(session.clone());
            }
        }
        let form = Params::new().with("username", user).with("password", password.expose_secret());
        let login = Request::post(&["access", "ticket"]).form(form).harmless();
        let body = self.exchange(&login, None).await?;
        let ticket: Ticket = self.decode(&login, &body)?;
        let session = Session::new(ticket.ticket, ticket.csrf);
        *place = Some(session.clone());
        Ok(session)
    }

    async fn exchange(
        &self,
        request: &Request,
        session: Option<&Session>,
    ) -> Result<Vec<u8>, Error> {
        let Inner { host, endpoint, http: client, auth, identity, .. } = &*self.inner;
        let url = format!("{endpoint}/api2/json{}", request.target());
        let mut outgoing = client.request(request.method.clone(), url);
        if let Auth::Token(token) = auth {
            let value = format!("PVEAPIToken={}", token.expose_secret());
            outgoing = outgoing.header(AUTHORIZATION, self.secret_header(&value)?);
        }
        if let Some(session) = session {
            let cookie = self.secret_header(session.cookie().expose_secret())?;
            outgoing = outgoing.header(COOKIE, cookie);
            if request.method != Method::GET {
                let csrf = self.secret_header(session.csrf().expose_secret())?;
                outgoing = outgoing.header("CSRFPreventionToken", csrf);
            }
        }
        let time = match &request.body {
            Body::Raw { .. } => http::UPLOAD,
            Body::None | Body::Form(_) => http::ANSWER,
        };
        let time = self.clock().limit(time);
        outgoing = match &request.body {
            Body::None => outgoing,
            Body::Form(form) => outgoing
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.encoded()),
            Body::Raw { content_type, bytes } => {
                outgoing.header(CONTENT_TYPE, content_type).body(bytes.clone())
            }
        };
        tracing::debug!(%host, call = %request.label, "request");
        let answer = Answer { host, endpoint, identity, request, time };
        let exchange = self.hear(outgoing.timeout(time), &answer);
        let waits = || format!("waiting for the answer of {host} to {}", request.label);
        let outcome = event::untold(limits::UNTOLD, waits, exchange).await;
        if let Err(error) = &outcome {
            tracing::debug!(%host, call = %request.label, %error, "refused");
        }
        outcome
    }

    async fn hear(
        &self,
        outgoing: reqwest::RequestBuilder,
        answer: &Answer<'_>,
    ) -> Result<Vec<u8>, Error> {
        let sent = outgoing.send().await;
        if let Some(ahead) = sent.as_ref().ok().and_then(|sent| ahead(sent.headers())) {
            *self.inner.ahead.lock().unwrap_or_else(PoisonError::into_inner) = Some(ahead);
        }
        answer.read(sent).await
    }

    fn secret_header(&self, value: &str) -> Result<HeaderValue, Error> {
        let mut header = HeaderValue::from_str(value).map_err(|_| Error::Setup {
            host: self.host().clone(),
            why: cause("the credentials contain a character that is not allowed in an HTTP header"),
        })?;
        header.set_sensitive(true);
        Ok(header)
    }
}

/// The seconds by which an answer's `Date` (RFC 9110 §5.6.7) is ahead of this machine's clock.
fn ahead(headers: &HeaderMap) -> Option<i64> {
    let format = time::macros::format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let text = headers.get(DATE)?.to_str().ok()?;
    let theirs = time::PrimitiveDateTime::parse(text, format).ok()?.assume_utc();
    Some((theirs - time::OffsetDateTime::now_utc()).whole_seconds())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_an_answer_gives_the_hosts_clock() {
        let date = |text: &'static str| {
            ahead(&HeaderMap::from_iter([(DATE, HeaderValue::from_static(text))]))
        };
        assert!(date("Sun, 06 Nov 1994 08:49:37 GMT").is_some_and(|ahead| ahead < -900_000_000));
        assert_eq!(date("yesterday"), None);
        assert_eq!(ahead(&HeaderMap::new()), None);
    }
}
