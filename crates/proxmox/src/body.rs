//! Reads a body piece by piece, up to a limit, and checks before parsing that it does not expand beyond
//! one.

use reqwest::Response;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};

use k8sha_base::limits::{excerpt, http, size};

/// The size limit of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bulk {
    /// One object.
    One,
    /// A list.
    List,
    /// A complete task log.
    Log,
}

impl Bulk {
    pub fn bytes(self) -> usize {
        match self {
            Bulk::One => http::ANSWER_BYTES,
            Bulk::List => http::LIST_BYTES,
            Bulk::Log => http::LOG_BYTES,
        }
    }
}

/// Why a body was not read to its end.
pub(super) enum Stop {
    /// It is longer than the limit.
    TooLong,
    /// The connection failed after so many bytes.
    Broken(reqwest::Error, usize),
}

/// The whole body, of at most this many bytes. A body whose declared length is larger is not read.
pub(super) async fn read(mut response: Response, most: usize) -> Result<Vec<u8>, Stop> {
    if response.content_length().is_some_and(|length| length > most as u64) {
        return Err(Stop::TooLong);
    }
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(None) => return Ok(body),
            Ok(Some(piece)) if body.len() + piece.len() > most => return Err(Stop::TooLong),
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Err(error) => return Err(Stop::Broken(error, body.len())),
        }
    }
}

/// A header of a successful answer that Proxmox VE never sends.
pub(super) fn foreign(headers: &HeaderMap) -> Option<Foreign> {
    let text = |name| {
        let value = headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
        value.map(|value| value.trim().to_ascii_lowercase()).unwrap_or_default()
    };
    let coding = text(CONTENT_ENCODING);
    if !coding.is_empty() && coding != "identity" {
        return Some(Foreign::Coded(excerpt(&coding, 40)));
    }
    let kind = text(CONTENT_TYPE);
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let is_json = kind.is_empty() || kind == "application/json" || kind.ends_with("+json");
    (!is_json).then(|| Foreign::Kind(excerpt(kind, 40)))
}

/// The header that is not Proxmox VE's.
pub(super) enum Foreign {
    /// A content coding that was not requested.
    Coded(String),
    /// A content type other than JSON.
    Kind(String),
}

/// The title of a page of HTML.
pub(super) fn title(body: &[u8]) -> Option<String> {
    let page = String::from_utf8_lossy(body);
    let lower = page.to_ascii_lowercase();
    let from = lower.find("<title>")? + "<title>".len();
    let length = lower.get(from..)?.find("</title>")?;
    let title = page.get(from..from + length)?.split_whitespace().collect::<Vec<_>>().join(" ");
    (!title.is_empty()).then(|| excerpt(&title, 80))
}

/// The limit that a JSON document exceeds inside, in words, before it is parsed: of values, or of bytes
/// in one text.
///
/// The parser itself limits the nesting depth.
pub(super) fn overweight(body: &[u8]) -> Option<String> {
    let (mut values, mut began, mut escaped) = (0usize, None, false);
    for (at, byte) in body.iter().enumerate() {
        match (began, byte) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), b'\\') => escaped = true,
            (Some(from), b'"') => {
                if at - from > http::TEXT_BYTES {
                    return Some(format!("{} in one text", size(http::TEXT_BYTES)));
                }
                began = None;
            }
            (None, b'"') => began = Some(at),
            (None, b',' | b':') => values += 1,
            _ => {}
        }
        if values > http::VALUES {
            return Some(format!("{} values", http::VALUES));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn values_are_counted_without_commas_in_texts() {
        let commas = format!(r#"{{"data":"{}\"{}"}}"#, ",".repeat(30_000), ":".repeat(30_000));
        assert_eq!(overweight(commas.as_bytes()), None);
        let most = format!("[{}0]", "0,".repeat(http::VALUES));
        assert_eq!(overweight(most.as_bytes()), None);
        let more = format!("[{}0]", "0,".repeat(http::VALUES + 1));
        assert_eq!(overweight(more.as_bytes()).unwrap(), "200000 values");
    }

    #[test]
    fn a_text_without_end_is_too_long() {
        let text = |length: usize| format!(r#"{{"name":"{}"}}"#, "x".repeat(length));
        assert_eq!(overweight(text(http::TEXT_BYTES - 1).as_bytes()), None);
        let told = overweight(text(http::TEXT_BYTES + 1).as_bytes()).unwrap();
        assert_eq!(told, "64 KiB in one text");
    }

    #[test]
    fn only_uncompressed_json_is_accepted() {
        let told = |name, value: &'static str| {
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
            foreign(&headers).map(|seen| match seen {
                Foreign::Coded(what) | Foreign::Kind(what) => what,
            })
        };
        assert_eq!(told(CONTENT_TYPE, "application/json;charset=UTF-8"), None);
        assert!(foreign(&HeaderMap::new()).is_none());
        assert_eq!(told(CONTENT_TYPE, "text/html; charset=x"), Some("text/html".into()));
        assert_eq!(told(CONTENT_ENCODING, "gzip"), Some("gzip".into()));
        assert_eq!(told(CONTENT_ENCODING, "identity"), None);
    }

    #[test]
    fn the_title_of_a_page_is_found_and_truncated() {
        let page = b"<html><TITLE>\n Log in\x1b[2J\n</Title>";
        assert_eq!(title(page).unwrap(), "Log in\\u{1b}[2J");
        assert_eq!(title(b"<title>"), None);
        assert_eq!(title(b"{}"), None);
        let long = format!("<title>{}</title>", "x".repeat(60_000));
        assert!(title(long.as_bytes()).unwrap().len() < 130);
    }
}
