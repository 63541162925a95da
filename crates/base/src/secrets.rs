//! Registers the secrets of a run and masks them in all output.
//!
//! A host or a guest may send back what it received: a token in an error text, a password in a log.
//! Every secret that is loaded, typed or created is therefore registered here, and all printed or
//! logged text is searched for it, verbatim and in its encodings: percent-encoded, base64, escaped in
//! JSON or by `Debug`.

use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret as _, SecretString};

pub mod forms;
mod json;

pub use json::mask_json;

/// The replacement of a secret.
pub const MASKED: &str = "[masked]";

/// A secret of at least this length is masked everywhere. A shorter one, down to [`WORD`], is masked
/// only as a separate word: `root` must not be cut out of `reboot-root-fs`.
const ANYWHERE: usize = 6;
/// Anything shorter cannot be distinguished from ordinary text.
const WORD: usize = 4;
/// A line of a key of at least this length is registered as a separate secret.
const KEY_LINE: usize = 24;

#[derive(Default)]
struct Registry {
    /// Secrets that are masked everywhere, the longest first.
    anywhere: Vec<String>,
    /// Secrets that are masked as separate words.
    words: Vec<String>,
}

static REGISTRY: RwLock<Registry> =
    RwLock::new(Registry { anywhere: Vec::new(), words: Vec::new() });

/// Registers a secret, and returns it.
pub fn register(secret: SecretString) -> SecretString {
    learn(secret.expose_secret());
    secret
}

/// Registers a text that is secret as a whole. Each line of a PEM private key is registered too, and so
/// is the secret part of an API token (`USER@REALM!NAME=SECRET`) and of a ticket
/// (`PVE:USER:TIME::SIGNATURE`).
pub fn learn(text: &str) {
    let text = text.trim();
    let mut registry = REGISTRY.write().unwrap_or_else(PoisonError::into_inner);
    if text.contains('\n') {
        let lines = text.lines().map(str::trim);
        for line in lines.filter(|line| line.len() >= KEY_LINE && !line.starts_with("-----")) {
            registry.add([line.to_owned()]);
        }
        return;
    }
    registry.add(shapes(text));
    let part = match text.split_once('!') {
        Some((_, token)) => token.split_once('=').map(|(_, secret)| secret),
        None => text.rsplit_once("::").map(|(_, signature)| signature),
    };
    if let Some(part) = part.filter(|part| part.len() >= ANYWHERE) {
        registry.add(shapes(part));
    }
}

impl Registry {
    fn add(&mut self, shapes: impl IntoIterator<Item = String>) {
        for shape in shapes {
            let list = match shape.len() {
                0..WORD => continue,
                WORD..ANYWHERE => &mut self.words,
                _ => &mut self.anywhere,
            };
            let place = list.partition_point(|known| {
                (known.len(), known.as_str()) > (shape.len(), shape.as_str())
            });
            if list.get(place) != Some(&shape) {
                list.insert(place, shape);
            }
        }
    }
}

/// The encodings in which a secret can come back.
fn shapes(secret: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::from([secret.to_owned()]);
    if secret.len() < ANYWHERE {
        return all;
    }
    let percent = percent_encoding::utf8_percent_encode(secret, percent_encoding::NON_ALPHANUMERIC);
    let percent = percent.to_string();
    // Characters that RFC 3986 leaves unencoded may also be unencoded in a form.
    let unreserved = [("%2D", "-"), ("%2E", "."), ("%5F", "_"), ("%7E", "~")]
        .into_iter()
        .fold(percent.clone(), |text, (code, character)| text.replace(code, character));
    let form = unreserved.replace("%20", "+").replace("~", "%7E");
    for code in [percent, unreserved.replace("%2A", "*"), form, unreserved] {
        all.insert(lower_codes(&code));
        all.insert(code);
    }
    all.insert(secret.escape_debug().to_string());
    if let Ok(json) = serde_json::to_string(secret) {
        all.insert(json.trim_matches('"').to_owned());
    }
    for before in 0..3 {
        all.extend(base64_inside(secret, before));
    }
    all
}

/// Percent codes in lower case.
fn lower_codes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut code = 0_u8;
    for c in text.chars() {
        out.push(if code > 0 { c.to_ascii_lowercase() } else { c });
        code = if c == '%' { 2 } else { code.saturating_sub(1) };
    }
    out
}

/// The part of a text's base64 that does not depend on the text around the secret, if this many bytes
/// (modulo 3) precede it; in both alphabets.
fn base64_inside(secret: &str, before: usize) -> Vec<String> {
    let bytes: Vec<u8> = std::iter::repeat_n(0, before).chain(secret.bytes()).collect();
    let whole = bytes.len() / 3 * 4;
    let begin = [0, 2, 3][before];
    let cut = |text: String| text.get(begin..whole).map(str::to_owned);
    [cut(STANDARD_NO_PAD.encode(&bytes)), cut(URL_SAFE_NO_PAD.encode(&bytes))]
        .into_iter()
        .flatten()
        .filter(|code| code.len() >= ANYWHERE)
        .collect()
}

/// The text with this run's secrets masked.
pub fn mask(text: &str) -> String {
    let registry = REGISTRY.read().unwrap_or_else(PoisonError::into_inner);
    let mut out = text.to_owned();
    for secret in &registry.anywhere {
        if out.contains(secret.as_str()) {
            out = out.replace(secret.as_str(), MASKED);
        }
    }
    for secret in &registry.words {
        if out.contains(secret.as_str()) {
            out = mask_word(&out, secret);
        }
    }
    out
}

fn mask_word(text: &str, secret: &str) -> String {
    let of_word = |c: char| c.is_alphanumeric() || c == '-' || c == '_' || c == '.';
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for (at, _) in text.match_indices(secret) {
        let end = at + secret.len();
        let alone = !text[..at].ends_with(of_word) && !text[end..].starts_with(of_word);
        out.push_str(&text[done..at]);
        out.push_str(if alone { MASKED } else { secret });
        done = end;
    }
    out.push_str(&text[done..]);
    out
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn a_token_is_masked_in_every_encoding() {
        let secret = "s3cr3t/+ \"w~rd-é.1";
        learn(&format!("k8sha@pve!one={secret}"));
        for before in ["", "a", "ab", "abc", "user:"] {
            let text = format!("{before}{secret} and more");
            let code = STANDARD.encode(&text);
            assert!(mask(&code).contains(MASKED), "{before:?}");
            // The remaining characters do not reveal the middle.
            let inside = &STANDARD.encode(secret)[4..12];
            assert!(!mask(&STANDARD.encode(format!("abc{secret}"))).contains(inside));
        }
        for form in [
            format!("no ticket: {secret}"),
            format!("PVEAPIToken=k8sha@pve!one={secret}"),
            "s3cr3t%2F%2B%20%22w~rd-%C3%A9.1".to_owned(),
            "s3cr3t%2f%2b+%22w%7erd-%c3%a9.1".to_owned(),
            "s3cr3t%2F%2B%20%22w%7Erd%2D%C3%A9%2E1".to_owned(),
            serde_json::to_string(&format!("a {secret}")).unwrap(),
            format!("{:?}", format!("a {secret}")),
        ] {
            let masked = mask(&form);
            assert!(masked.contains(MASKED) && !masked.contains("s3cr3t"), "{form}: {masked}");
        }
    }

    #[test]
    fn a_short_secret_is_masked_only_where_it_stands_alone() {
        learn("zq7k");
        learn("zq");
        assert_eq!(
            mask("zq7k, zq7ks and xzq7k: 'zq7k' zq"),
            "[masked], zq7ks and xzq7k: '[masked]' zq"
        );
    }

    #[test]
    fn every_line_of_a_private_key_is_a_secret() {
        let line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSj";
        learn(&format!("-----BEGIN PRIVATE KEY-----\n{line}\n-----END PRIVATE KEY-----\n"));
        assert_eq!(
            mask(&format!("  {line}  -----BEGIN PRIVATE")),
            "  [masked]  -----BEGIN PRIVATE"
        );
    }

    #[test]
    fn a_tickets_signature_is_a_secret_without_the_rest() {
        learn("PVE:root@pam:68A1B2C3::c2lnbmF0dXJlc2lnbmF0dXJl");
        assert_eq!(mask("sig c2lnbmF0dXJlc2lnbmF0dXJl"), "sig [masked]");
        assert_eq!(mask("user root@pam"), "user root@pam");
    }
}
