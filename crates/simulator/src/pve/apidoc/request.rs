//! Requests as a server decodes them.

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use crate::pve::wire::{self, Given, Params};

/// A request: the parts that the schema checks.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// `GET`, `POST`, `PUT` or `DELETE`.
    pub method: String,
    /// The path below `/api2/json`, still percent-encoded, without its query.
    pub path: String,
    /// Parameters of the query and the body; a repeated name has an array.
    pub parameters: Map<String, Value>,
}

/// Percent-decoded text.
pub(super) fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

impl Request {
    /// A request whose URL is `/api2/json/…`, `/api2/extjs/…` or a path of the schema.
    pub fn new(method: &str, url: &str) -> Self {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let below = path.strip_prefix("/api2/").and_then(|rest| rest.split_once('/'));
        let path = below.map_or(path.to_owned(), |(_, rest)| format!("/{rest}"));
        let request = Self { method: method.to_owned(), path, parameters: Map::new() };
        request.with_all(&wire::read_form(query))
    }

    /// With a parameter.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        match self.parameters.get_mut(name) {
            None => drop(self.parameters.insert(name.to_owned(), value)),
            Some(Value::Array(list)) => list.push(value),
            Some(one) => *one = Value::from(vec![one.take(), value]),
        }
        self
    }

    /// With a body's or a query's parameters.
    pub fn with_all(mut self, given: &Params) -> Self {
        for (name, value) in &given.0 {
            let value = match value {
                Given::One(text) => Value::from(text.as_str()),
                Given::Many(all) => Value::from(all.clone()),
            };
            self = self.with(name, value);
        }
        self
    }
}
