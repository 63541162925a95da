//! Requests as a server decodes them.

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

/// A request: what the schema looks at.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// `GET`, `POST`, `PUT` or `DELETE`.
    pub method: String,
    /// The path below `/api2/json`, still percent-encoded, without its query.
    pub path: String,
    /// Parameters of the query and the body; a name that was given twice has an array.
    pub parameters: Map<String, Value>,
}

/// Percent-decoded text.
pub fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// The pairs of a form or a query. Proxmox splits them at `;` too.
fn pairs(text: &str) -> impl Iterator<Item = (String, Value)> {
    text.split(['&', ';']).filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let plain = |text: &str| decoded(&text.replace('+', " "));
        (plain(name), Value::from(plain(value)))
    })
}

/// The fields of a multipart body, the file's name being the value of its field.
fn parts(body: &str) -> impl Iterator<Item = (String, Value)> {
    body.split("Content-Disposition: form-data; ").skip(1).filter_map(|part| {
        let (disposition, rest) = part.split_once('\n')?;
        let quoted = |key: &str| {
            let (_, after) = disposition.split_once(&format!("{key}=\""))?;
            after.split('"').next()
        };
        let content = rest.split_once('\n').map(|(_, body)| body.lines().next().unwrap_or(""));
        let value = quoted("filename").filter(|_| disposition.contains(" filename="));
        Some((quoted("name")?.to_owned(), Value::from(value.or(content)?)))
    })
}

impl Request {
    /// A request whose URL is `/api2/json/…`, `/api2/extjs/…` or a path of the schema.
    pub fn new(method: &str, url: &str) -> Self {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let below = path.strip_prefix("/api2/").and_then(|rest| rest.split_once('/'));
        let path = below.map_or(path.to_owned(), |(_, rest)| format!("/{rest}"));
        let mut request = Self { method: method.to_owned(), path, parameters: Map::new() };
        request.add(pairs(query));
        request
    }

    /// With a parameter.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.add([(name.to_owned(), value.into())]);
        self
    }

    /// With a body of a content type: a form, JSON, or multipart.
    pub fn with_body(mut self, content_type: &str, body: &str) -> Self {
        if content_type.starts_with("multipart/form-data") {
            self.add(parts(body));
        } else if content_type.starts_with("application/json") {
            let fields = serde_json::from_str::<Map<String, Value>>(body).unwrap_or_default();
            self.add(fields);
        } else {
            self.add(pairs(body));
        }
        self
    }

    /// From a line of the simulator's log: `method`, `path` with its query, and `form` as an object
    /// or as pairs.
    pub fn from_log(line: &Value) -> Option<Self> {
        let mut request = Self::new(line["method"].as_str()?, line["path"].as_str()?);
        match &line["form"] {
            Value::Object(fields) => request.add(fields.clone()),
            Value::Array(list) => request.add(
                list.iter()
                    .filter_map(|pair| Some((pair[0].as_str()?.to_owned(), pair[1].clone()))),
            ),
            _ => {}
        }
        Some(request)
    }

    fn add(&mut self, fields: impl IntoIterator<Item = (String, Value)>) {
        for (name, value) in fields {
            match self.parameters.get_mut(&name) {
                None => {
                    self.parameters.insert(name, value);
                }
                Some(Value::Array(list)) => list.push(value),
                Some(one) => *one = Value::from(vec![one.take(), value]),
            }
        }
    }
}
