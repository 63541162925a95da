//! The parameters of a request's body and query, added to those of its path.

use std::io;

use serde_json::{Map, Value};

use super::calls::Ask;
use super::multipart;
use super::wire::{self, Failure, Given, Params};

/// The logged data of a request, also for the schema check.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// A body's parameters as they are logged.
    pub(super) form: Map<String, Value>,
    /// The parameters of body and query together.
    pub(super) given: Params,
    /// The error of Proxmox's schema check.
    pub(super) violation: Option<String>,
}

/// A body's parameters without the passwords.
fn shown(given: &Params) -> Map<String, Value> {
    let secret = |name: &str| matches!(name, "password" | "cipassword" | "confirmation-password");
    let fields = given.0.iter().filter(|(name, _)| !secret(name));
    fields
        .map(|(name, value)| match value {
            Given::One(text) => (name.clone(), text.as_str().into()),
            Given::Many(all) => (name.clone(), all.clone().into()),
        })
        .collect()
}

/// Adds a body's and a query's parameters to those of the path. An outer error closes the connection
/// without an answer.
pub(super) fn read(
    ask: &mut Ask,
    upload: bool,
    kind: &str,
    bytes: &[u8],
    query: &str,
    heard: &mut Heard,
) -> io::Result<Result<(), Failure>> {
    let mut given = Params::default();
    let mime = kind.split(';').next().unwrap_or_default().trim();
    if upload {
        if mime != "multipart/form-data" {
            return Err(io::Error::new(io::ErrorKind::ConnectionReset, "not an upload"));
        }
        let boundary = multipart::boundary(kind).unwrap_or("\0");
        match multipart::read(bytes, boundary, &mut given) {
            Ok(sent) => {
                given.set("filename", &sent.name);
                ask.sent = Some(sent);
            }
            Err(failure) => return Ok(Err(failure)),
        }
    } else if !bytes.is_empty() {
        match mime {
            "application/json" => match wire::read_json(bytes) {
                Ok(params) => given = params,
                Err(failure) => return Ok(Err(failure)),
            },
            "" | "application/x-www-form-urlencoded" => {
                given = wire::read_form(&String::from_utf8_lossy(bytes));
            }
            other => {
                let text = format!("upload 'Content-Type '{other}' not implemented");
                return Ok(Err(Failure::Plain(506, text)));
            }
        }
    }
    heard.form = shown(&given);
    // The query overrides the body.
    for (name, value) in wire::read_form(query).0 {
        given.0.insert(name, value);
    }
    heard.given = given.clone();
    for (name, value) in given.0 {
        let fixed = ask.params.0.get(&name);
        if fixed.is_some_and(|fixed| *fixed != value) {
            let text = "duplicate parameter (already defined in URI) with conflicting values!";
            return Ok(Err(Failure::parameter(&name, text)));
        }
        ask.params.0.insert(name, value);
    }
    Ok(Ok(()))
}
