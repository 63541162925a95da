//! Completes recorded requests: bodies were shortened, secrets and tasks have new names.

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::names::Names;
use crate::wire::Sent;

/// A request as it is sent to the simulator.
pub fn request(exchange: &Value, names: &Names) -> Sent {
    let text = |key: &str| exchange[key].as_str().unwrap_or_default();
    let mut headers = Vec::new();
    for (name, value) in exchange["req_headers"].as_object().into_iter().flatten() {
        if name != "Host" && name != "Content-Length" {
            headers.push((name.clone(), names.translate(value.as_str().unwrap_or_default())));
        }
    }
    let length = exchange["req_headers"]["Content-Length"].as_str();
    let length = length.and_then(|length| length.parse().ok());
    let body = match &exchange["req_body"] {
        Value::String(body) if body.contains("Content-Disposition") => {
            Some(upload(body, length.unwrap_or_default()))
        }
        Value::String(body) => {
            let mut body = names.translate(body);
            while length.is_some_and(|length| body.len() < length) && !text("form").is_empty() {
                body.push('x');
            }
            Some(body.into_bytes())
        }
        Value::Null => length.map(|_| Vec::new()),
        body => Some(names.translate(&body.to_string()).into_bytes()),
    };
    Sent { method: text("method").to_owned(), target: names.translate(text("url")), headers, body }
}

/// One byte per character: that is how bytes were recorded.
fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect()
}

/// A multipart body of the recorded length: its fields as recorded, its file filled with zeros.
fn upload(recorded: &str, length: usize) -> Vec<u8> {
    let Some((start, _)) = recorded.rsplit_once("...(") else { return bytes(recorded) };
    let newline = if recorded.contains('\r') { "\r\n" } else { "\n" };
    let boundary = recorded.lines().next().unwrap_or_default();
    let end = if boundary == "--XbX" {
        // The only body whose file precedes the field with its content type.
        let field = "Content-Disposition: form-data; name=\"content\"";
        format!("\r\n{boundary}\r\n{field}\r\n\r\niso\r\n{boundary}--\r\n")
    } else {
        format!("{newline}{boundary}--{newline}")
    };
    let file = start.rfind("filename=\"").unwrap_or_default();
    let blank = newline.repeat(2);
    let head = start[file..].find(&blank).map_or(start.len(), |at| file + at + blank.len());
    let mut whole = bytes(start);
    whole.resize(length.saturating_sub(end.len()).max(whole.len()), 0);
    // The checksum of the recorded file, of which only the beginning is known, is replaced by the
    // replay's.
    let sum = Sha256::digest(&whole[bytes(&start[..head]).len()..]);
    let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    if let Some(at) = start.find("name=\"checksum\"") {
        let at = at + "name=\"checksum\"".len() + blank.len();
        if !start[at..].starts_with("0000") && start.is_char_boundary(at + 64) {
            whole[at..at + 64].copy_from_slice(sum.as_bytes());
        }
    }
    whole.extend_from_slice(end.as_bytes());
    whole
}

/// The UPID in a URL.
pub fn upid(url: &str) -> Option<String> {
    let decoded = percent_encoding::percent_decode_str(url).decode_utf8_lossy();
    let (_, rest) = decoded.split_once("/tasks/")?;
    let upid = rest.split('/').next()?;
    upid.starts_with("UPID:").then(|| upid.to_owned())
}

/// The grants of `prov@pve` in a note, if it has them.
pub fn grants(note: &str) -> Option<&str> {
    let rest = note.strip_prefix("minimal role search: ")?;
    let (_, grants) = rest.rsplit_once(" with ")?;
    Some(if grants == "nothing" { "" } else { grants })
}

/// Whether an answer about a task shows that it had ended.
pub fn shows_an_end(body: &str) -> bool {
    let Ok(body) = serde_json::from_str::<Value>(body) else { return false };
    let last = body["data"].as_array().and_then(|log| log.last());
    let last = last.and_then(|line| line["t"].as_str()).unwrap_or_default();
    body["data"]["status"] == "stopped" || last.starts_with("TASK ")
}
