//! Masks secrets inside JSON and keeps it valid JSON.

use super::mask;

/// JSON as `serde_json` writes it, with this run's secrets masked in its strings. Keys are not masked:
/// they are k8sha's, and a password that equals a key must not change the document's structure.
pub fn mask_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('"') {
        let (before, string) = rest.split_at(start);
        out.push_str(before);
        let end = end(string);
        let (string, after) = string.split_at(end);
        if after.starts_with(':') {
            out.push_str(string);
        } else {
            out.push_str(&masked(string));
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The end of the string that starts here, including its quotes.
fn end(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn masked(string: &str) -> String {
    let Ok(plain) = serde_json::from_str::<String>(string) else { return mask(string) };
    let clean = mask(&plain);
    if clean == plain {
        return string.to_owned();
    }
    serde_json::to_string(&clean).unwrap_or_else(|_| mask(string))
}

#[cfg(test)]
mod tests {
    use super::super::learn;
    use super::*;

    #[test]
    fn values_are_masked_and_keys_are_not() {
        learn("verdict-word");
        let text = r#"{"verdict-word":"a \"verdict-word\"","b":["verdict-word",1,"\\"],"c":"x"}"#;
        let want = r#"{"verdict-word":"a \"[masked]\"","b":["[masked]",1,"\\"],"c":"x"}"#;
        assert_eq!(mask_json(text), want);
    }

    #[test]
    fn a_secret_that_is_escaped_in_json_within_json_is_found() {
        learn("pa\"ss\\word");
        let inner = serde_json::to_string(&serde_json::json!({ "said": "pa\"ss\\word" })).unwrap();
        let outer = serde_json::to_string(&serde_json::json!({ "event": inner })).unwrap();
        let masked = mask_json(&outer);
        assert!(masked.contains("[masked]") && !masked.contains("word"), "{masked}");
        let back: serde_json::Value = serde_json::from_str(&masked).unwrap();
        let inner: serde_json::Value =
            serde_json::from_str(back["event"].as_str().unwrap()).unwrap();
        assert_eq!(inner["said"], "[masked]");
    }
}
