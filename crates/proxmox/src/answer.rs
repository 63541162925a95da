//! Turns a response (status, reason phrase, broken connection) into a result or an error.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::time::Duration;

use hyper::ext::ReasonPhrase;
use reqwest::header::LOCATION;
use reqwest::{Response, StatusCode};

use crate::HostName;
use k8sha_base::cause;
use k8sha_base::limits::{excerpt, http, size, span};

use super::body::{self, Foreign, Stop};
use super::client::Request;
use super::error::{Denial, Error, Identity, Odd, OddAnswer, Refusal, Stranger};
use super::tls::CertificateRefused;
use super::wire::ErrorBody;

pub(super) const PERMISSION: &str = "Permission check failed";

/// The context of an incoming answer.
pub(super) struct Answer<'a> {
    pub host: &'a HostName,
    pub endpoint: &'a str,
    pub identity: &'a Identity,
    pub request: &'a Request,
    /// The time limit of the request and its answer.
    pub time: Duration,
}

impl Answer<'_> {
    /// The body of a successful answer, or the error.
    pub async fn read(&self, outcome: Result<Response, reqwest::Error>) -> Result<Vec<u8>, Error> {
        let response = outcome.map_err(|error| self.broken(&error))?;
        let status = response.status();
        if status.is_success() {
            return self.good(response).await;
        }
        if status.is_redirection() {
            let to = response.headers().get(LOCATION).map(|to| to.as_bytes()).unwrap_or_default();
            let to = excerpt(&String::from_utf8_lossy(to), 200);
            return Err(self.odd(Odd::Redirect { status: status.as_u16(), to }));
        }
        let reason = reason(&response);
        // Most refusals have a body that repeats the reason; some have none, and one that breaks off or
        // does not end counts as none.
        let body = body::read(response, http::REFUSAL_BYTES).await.unwrap_or_default();
        let body = match body::overweight(&body) {
            None => serde_json::from_slice(&body).unwrap_or_default(),
            Some(_) => ErrorBody::default(),
        };
        Err(self.refused(status, reason, body))
    }

    async fn good(&self, response: Response) -> Result<Vec<u8>, Error> {
        match body::foreign(response.headers()) {
            None => {}
            Some(Foreign::Coded(coding)) => return Err(self.odd(Odd::Coded(coding))),
            Some(Foreign::Kind(kind)) => {
                let page = body::read(response, http::REFUSAL_BYTES).await.unwrap_or_default();
                return Err(self.odd(Odd::NotJson { kind, title: body::title(&page) }));
            }
        }
        let most = self.request.bulk.bytes();
        let body = body::read(response, most).await.map_err(|stop| match stop {
            Stop::TooLong => self.odd(Odd::TooMuch(size(most))),
            Stop::Broken(error, bytes) if error.is_timeout() => {
                let time = span(self.time);
                self.unanswered(format!(
                    "its answer did not end within {time}; {bytes} bytes were received"
                ))
            }
            Stop::Broken(error, bytes) if bytes > 0 => {
                let why = root_cause(&error, "the connection was closed");
                self.unanswered(format!("its answer broke off after {bytes} bytes: {why}"))
            }
            Stop::Broken(error, _) => self.broken(&error),
        })?;
        match body::overweight(&body) {
            None => Ok(body),
            Some(limit) => Err(self.odd(Odd::TooMuch(limit))),
        }
    }

    /// An answer that Proxmox VE never gives.
    fn odd(&self, what: Odd) -> Error {
        Error::Odd(Box::new(OddAnswer {
            host: self.host.clone(),
            endpoint: self.endpoint.to_owned(),
            call: self.request.label.clone(),
            what,
            written: !self.request.is_harmless,
        }))
    }

    fn refused(&self, status: StatusCode, reason: String, body: ErrorBody) -> Error {
        let host = self.host.clone();
        let call = self.request.label.clone();
        let who = self.identity.clone();
        let message = excerpt(body.message.trim(), http::WORDS);
        // The HTTP parser drops a reason that is not all ASCII; the body still has it.
        let reason = match message.lines().next() {
            Some(line) if reason.is_empty() => line.to_owned(),
            _ => reason,
        };
        match status.as_u16() {
            401 => Error::Unauthorized { host, call, reason, who },
            403 if reason.starts_with(PERMISSION) => {
                let (path, privileges) = missing(&reason);
                Error::Forbidden(Box::new(Denial { host, call, path, privileges, reason, who }))
            }
            // Proxmox VE's own proxying to another node or daemon broke off: pve-http-server
            // src/PVE/APIServer/AnyEvent.pm. The work may have been done all the same.
            code @ 595..=599 => self.unanswered(format!("{code} {reason}").trim_end().to_owned()),
            code => {
                let cut = |text: String| excerpt(&text, http::WORDS / 4);
                let errors = body.errors.into_iter().take(http::COMPLAINTS);
                let errors: BTreeMap<_, _> =
                    errors.map(|(name, complaint)| (cut(name), cut(complaint))).collect();
                let refusal = Refusal { host, call, status: code, reason, message, errors };
                Error::Refused(Box::new(refusal))
            }
        }
    }

    fn unanswered(&self, why: String) -> Error {
        let host = self.host.clone();
        let call = self.request.label.clone();
        if self.request.is_harmless {
            Error::NoAnswer { host, call, why }
        } else {
            Error::UnknownOutcome { host, call, why: cause::cause(why) }
        }
    }

    fn broken(&self, error: &reqwest::Error) -> Error {
        let host = self.host.clone();
        let endpoint = self.endpoint.to_owned();
        if let Some(refused) = certificate_fault(error) {
            let CertificateRefused { expected, seen, why } = refused.clone();
            let seen = seen.to_string();
            let stranger = Stranger { host, endpoint, expected, seen, why };
            return Error::Certificate(Box::new(stranger));
        }
        let why = root_cause(error, "the connection was closed before an answer came");
        if error.is_connect() {
            let why = if error.is_timeout() {
                "no answer to the connection attempt".to_owned()
            } else {
                why
            };
            return Error::Unreachable { host, endpoint, why };
        }
        if error.is_builder() {
            return Error::Setup { host, why: cause::cause(why) };
        }
        let late = || format!("no answer within {}", span(self.time));
        self.unanswered(if error.is_timeout() { late() } else { why })
    }
}

/// The text after the status: hyper keeps it if it is not the standard one.
fn reason(response: &Response) -> String {
    match response.extensions().get::<ReasonPhrase>() {
        Some(phrase) => excerpt(String::from_utf8_lossy(phrase.as_bytes()).trim(), http::WORDS),
        None => response.status().canonical_reason().unwrap_or_default().to_owned(),
    }
}

/// Parses `Permission check failed (/vms/9000, VM.Clone)`; alternatives are separated by a bar.
///
/// Source: pve-access-control src/PVE/RPCEnvironment.pm, `check_full`.
pub(super) fn missing(reason: &str) -> (String, Vec<String>) {
    let inner = reason.strip_prefix(PERMISSION).map(str::trim);
    let inner = inner.and_then(|text| text.strip_prefix('(')?.strip_suffix(')'));
    match inner.and_then(|text| text.rsplit_once(',')) {
        Some((path, privileges)) => {
            let privileges = privileges.split('|').map(|text| text.trim().to_owned());
            (path.trim().to_owned(), privileges.filter(|text| !text.is_empty()).collect())
        }
        None => (String::new(), Vec::new()),
    }
}

type Cause = dyn StdError + 'static;

fn chain(error: &Cause) -> impl Iterator<Item = &Cause> {
    std::iter::successors(Some(error), |error| cause(*error))
}

fn cause(error: &Cause) -> Option<&Cause> {
    // An I/O error's source skips the error that it wraps.
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(inner) => Some(inner as &Cause),
        None => error.source(),
    }
}

fn root_cause(error: &Cause, closed_early: &str) -> String {
    let closed = |error: &Cause| {
        let early = |error: &std::io::Error| error.kind() == std::io::ErrorKind::UnexpectedEof;
        error.downcast_ref().is_some_and(early)
            || error.downcast_ref().is_some_and(hyper::Error::is_incomplete_message)
    };
    if chain(error).any(closed) {
        return closed_early.to_owned();
    }
    chain(error).last().map(|error| excerpt(&error.to_string(), 300)).unwrap_or_default()
}

fn certificate_fault(error: &Cause) -> Option<&CertificateRefused> {
    chain(error).find_map(|error| match error.downcast_ref::<rustls::Error>() {
        Some(rustls::Error::Other(other)) => other.0.downcast_ref(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_privilege_is_parsed_from_the_reason() {
        let read = |text| {
            let (path, privileges) = missing(text);
            format!("{path} {}", privileges.join("+"))
        };
        assert_eq!(read("Permission check failed (/vms/9000, VM.Clone)"), "/vms/9000 VM.Clone");
        assert_eq!(
            read("Permission check failed (/vms/301, VM.Config.Disk|VM.Config.CDROM)"),
            "/vms/301 VM.Config.Disk+VM.Config.CDROM"
        );
        assert_eq!(read("Permission check failed"), " ");
    }
}
