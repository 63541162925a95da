//! The wire format: parses requests and writes answers (pve-http-server src/PVE/APIServer/AnyEvent.pm).

use std::collections::BTreeMap;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::ext::ReasonPhrase;
use hyper::header::{CONNECTION, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::world::SimTime;

/// The longest body of a call that is not an upload.
pub const BODY_MAX: u64 = 512 * 1024;

/// Marks an answer without a body that is written without its length, like pveproxy's own. The mark
/// itself is not written.
pub const NO_LENGTH: &str = "x-no-length";

/// A handler's result.
pub type Answer = Result<Value, Failure>;

/// Why a call is not answered with 200.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// Proxmox called `die`: 500 with this text as the reason.
    Die(String),
    /// Invalid parameters: 400 with a text for each.
    Parameters(Vec<(String, String)>),
    /// 403 with this text.
    Forbidden(String),
    /// Another status and reason, with a JSON body that repeats the reason.
    Status(u16, String),
    /// Another status and reason without a body, as pveproxy itself answers.
    Bare(u16, String),
    /// A plain text body, as the HTTP server itself answers.
    Plain(u16, String),
    /// One of the others, after so many simulated seconds.
    Late(f64, Box<Failure>),
    /// Not ready: call the handler again then.
    Wait(SimTime),
}

impl Failure {
    /// An invalid parameter.
    pub fn parameter(name: &str, text: impl Into<String>) -> Self {
        Failure::Parameters(vec![(name.to_owned(), text.into())])
    }

    /// `die` with a text.
    pub fn die(text: impl Into<String>) -> Self {
        Failure::Die(text.into())
    }
}

/// The parameters of a call: each given once or several times.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Params(pub BTreeMap<String, Given>);

/// The values of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Given {
    /// Once.
    One(String),
    /// Several times, or as an array.
    Many(Vec<String>),
}

impl Params {
    /// A parameter that was given once.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name)? {
            Given::One(text) => Some(text),
            Given::Many(_) => None,
        }
    }

    /// A whole number.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.text(name)?.parse().ok()
    }

    /// A VMID.
    pub fn vmid(&self, name: &str) -> Option<u32> {
        self.text(name)?.parse().ok()
    }

    /// A flag; absent is false.
    pub fn flag(&self, name: &str) -> bool {
        self.text(name) == Some("1")
    }

    /// The elements of a list parameter.
    pub fn list(&self, name: &str) -> Vec<String> {
        let text = self.text(name).unwrap_or_default();
        let separator = |c: char| c == ',' || c == ';' || c == '\0' || c.is_ascii_whitespace();
        text.split(separator).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    /// Adds a pair; a second value for a name makes an array.
    pub fn add(&mut self, name: String, value: String) {
        use std::collections::btree_map::Entry;
        match self.0.entry(name) {
            Entry::Vacant(entry) => drop(entry.insert(Given::One(value))),
            Entry::Occupied(mut entry) => {
                let mut all = match entry.get_mut() {
                    Given::One(first) => vec![std::mem::take(first)],
                    Given::Many(all) => std::mem::take(all),
                };
                all.push(value);
                entry.insert(Given::Many(all));
            }
        }
    }

    /// Sets a parameter, replacing any earlier value.
    pub fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), Given::One(value.to_owned()));
    }
}

/// Parses `a=b&c=d`; `;` separates pairs too, and `+` is a space.
pub fn read_form(text: &str) -> Params {
    let mut params = Params::default();
    let decode =
        |part: &str| percent_decode_str(&part.replace('+', " ")).decode_utf8_lossy().into_owned();
    for pair in text.split(['&', ';']).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        params.add(decode(name), decode(value));
    }
    params
}

/// Parses a JSON object: numbers, booleans and arrays become their form-encoded equivalents.
///
/// # Errors
/// The error of Perl's parser, approximately.
pub fn read_json(bytes: &[u8]) -> Result<Params, Failure> {
    let malformed = |at: usize| {
        Failure::Plain(
            500,
            format!(
                "malformed JSON string, neither tag, array, object, number, string or atom, at \
                 character offset {at} (before \"(end of string)\") at \
                 /usr/share/perl5/PVE/APIServer/AnyEvent.pm line 934."
            ),
        )
    };
    let value: Value = serde_json::from_slice(bytes).map_err(|error| malformed(error.column()))?;
    let Value::Object(object) = value else { return Err(malformed(0)) };
    let plain = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Bool(flag) => String::from(if *flag { "1" } else { "0" }),
        other => other.to_string(),
    };
    let mut params = Params::default();
    for (name, value) in object {
        match &value {
            Value::Null => {}
            Value::Array(all) => {
                let all = all.iter().map(plain).collect();
                drop(params.0.insert(name, Given::Many(all)));
            }
            one => params.set(&name, &plain(one)),
        }
    }
    Ok(params)
}

/// The body of a 200 answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    /// The `data`.
    pub data: Value,
    /// The total number, if only a part is returned.
    pub total: Option<usize>,
    /// The file that is sent instead.
    pub file: Option<File>,
}

/// A text that is sent as a file.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    /// Its name.
    pub name: String,
    /// Its contents.
    pub bytes: Vec<u8>,
    /// Whether they are compressed with `gzip`.
    pub gzip: bool,
}

impl Body {
    /// A body with data only.
    pub fn whole(data: Value) -> Self {
        Self { data, total: None, file: None }
    }
}

/// Writes an answer. `ext` is the `/api2/extjs` form, which answers errors with 200.
pub fn write(answer: Result<Body, Failure>, ext: bool) -> Response<Full<Bytes>> {
    let failure = match answer {
        Ok(Body { file: Some(file), .. }) => return send(file),
        Ok(Body { data, total, file: None }) => {
            let mut body = json!({"data": data});
            if ext {
                body["success"] = json!(1);
            }
            if let Some(total) = total {
                body["total"] = json!(total);
            }
            return respond(200, "OK", Some(body.to_string()), true);
        }
        Err(failure) => failure,
    };
    let (status, text, errors) = match failure {
        Failure::Die(text) => (500, text, None),
        Failure::Forbidden(text) => (403, text, None),
        Failure::Status(status, text) => (status, text, None),
        Failure::Parameters(all) => (400, "Parameter verification failed.".to_owned(), Some(all)),
        Failure::Bare(status, reason) => {
            let mut response = respond(status, &reason, None, false);
            response.headers_mut().insert(NO_LENGTH, HeaderValue::from_static("1"));
            return response;
        }
        Failure::Plain(status, text) => return respond(status, &text, Some(text.clone()), false),
        Failure::Late(_, inner) => return write(Err(*inner), ext),
        Failure::Wait(_) => unreachable!("the server asks a handler again until it has an answer"),
    };
    // Perl's syswrite dies on a character beyond Latin-1, and the proxy sees a broken pipe.
    if text.chars().any(|c| c as u32 > 0xff) {
        return respond(596, "Broken pipe", None, false);
    }
    // The error for an unknown method lacks the trailing newline of every `die`.
    let message = if status == 501 { text.clone() } else { format!("{text}\n") };
    let mut body = json!({"data": null, "message": message});
    if let Some(errors) = errors {
        body["errors"] = errors.into_iter().map(|(name, text)| (name, Value::from(text))).collect();
    }
    if ext {
        body["success"] = json!(0);
        body["status"] = json!(status);
        return respond(200, "OK", Some(body.to_string()), true);
    }
    respond(status, &text, Some(body.to_string()), true)
}

/// Sends a file.
fn send(file: File) -> Response<Full<Bytes>> {
    let mut response = respond(200, "OK", None, false);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if file.gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    let disposition = format!("attachment; filename=\"{}\"", file.name);
    if let Ok(disposition) = HeaderValue::from_str(&disposition) {
        headers.insert(CONTENT_DISPOSITION, disposition);
    }
    response.map(|_| Full::from(file.bytes))
}

/// The same answer as an image: no call of the simulator returns one.
pub fn picture(json: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    let mut response = json.map(|_| Full::default());
    if response.headers().contains_key(CONTENT_TYPE) {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("image/png"));
    }
    response
}

fn respond(status: u16, reason: &str, body: Option<String>, json: bool) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body.unwrap_or_default()));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    // The first line only, one byte for each character as Perl writes them.
    let line = reason.lines().next().unwrap_or_default();
    let bytes: Vec<u8> = line.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect();
    if let Ok(reason) = ReasonPhrase::try_from(bytes) {
        response.extensions_mut().insert(reason);
    }
    let headers = response.headers_mut();
    if json {
        let kind = HeaderValue::from_static("application/json;charset=UTF-8");
        headers.insert(CONTENT_TYPE, kind);
    }
    headers.insert("cache-control", HeaderValue::from_static("max-age=0"));
    headers.insert("pragma", HeaderValue::from_static("no-cache"));
    headers.insert("server", HeaderValue::from_static("pve-api-daemon/3.0"));
    if status >= 400 {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A time in HTTP's format (RFC 9110 §5.6.7).
pub fn date(at: std::time::SystemTime) -> String {
    let format = time::macros::format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    time::OffsetDateTime::from(at).format(format).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_semicolon_separates_pairs_and_a_repeated_key_makes_an_array() {
        let params = read_form("description=a;cores=1&x=%2B+&x=2");
        assert_eq!(params.text("description"), Some("a"));
        assert_eq!(params.text("cores"), Some("1"));
        assert_eq!(params.0["x"], Given::Many(vec!["+ ".into(), "2".into()]));
    }

    #[test]
    fn json_values_become_their_form_equivalents() {
        let params = read_json(br#"{"cores":2,"onboot":true,"tags":["a","b"],"no":null}"#).unwrap();
        assert_eq!(params.text("cores"), Some("2"));
        assert_eq!(params.text("onboot"), Some("1"));
        assert_eq!(params.0["tags"], Given::Many(vec!["a".into(), "b".into()]));
        assert!(!params.0.contains_key("no"));
        assert!(matches!(read_json(b"{\"cores\":"), Err(Failure::Plain(500, _))));
    }

    #[test]
    fn an_error_text_is_the_reason_phrase_and_one_beyond_latin_1_is_596() {
        let reason = |text: &str| {
            let response = write(Err(Failure::die(text)), false);
            let phrase = response.extensions().get::<ReasonPhrase>().unwrap().as_bytes().to_vec();
            (response.status().as_u16(), phrase)
        };
        assert_eq!(reason("VM is locked (clone)"), (500, b"VM is locked (clone)".to_vec()));
        assert_eq!(reason("\u{fc}"), (500, vec![0xfc]));
        assert_eq!(reason("\u{20ac}"), (596, b"Broken pipe".to_vec()));
    }
}
