//! Characters that no value of a profile may contain: those that end a line, control a terminal, or
//! are invisible.
//!
//! Every value is one line of plain text. A newline in a key, a name or a path would become a
//! separate line in a document that is generated from it (`authorized_keys`, a VM's configuration,
//! a script), and an invisible character makes a value differ from what it looks like. They are
//! rejected when the text is read, for all fields at once, so that no field can omit the check;
//! there is no opt-out.

use super::complaint::Complaint;

/// The first character of a text that a value must not contain.
pub(super) fn first(text: &str) -> Option<char> {
    text.chars().find(|c| is_hidden(*c))
}

/// Whether a character ends a line, controls a terminal or is invisible.
///
/// U+0085, U+2028 and U+2029 end a line in YAML 1.1, which cloud-init's parser reads (yaml.org,
/// "YAML 1.1", 5.4). The rest of the list: the bidirectional controls (Unicode UAX #9, 2), and
/// characters without width.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// The message for such a value. It does not repeat the value, which would have the same effect in
/// the message.
pub(super) fn complaint(text: &str, found: char, span: std::ops::Range<usize>) -> Complaint {
    if text.contains("PRIVATE KEY-----") {
        return Complaint::error("this is a private key").at(span, "").help(
            "take the file that ends in `.pub`, and make a new key: this one has been written into \
             a profile",
        );
    }
    let (what, hint) = match found {
        '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => (
            "a line break",
            "write it on one line: every value of a profile is one line, and a list has one entry \
             for each",
        ),
        '\t' => ("a tab", "replace it with a space"),
        c if c.is_control() => ("a control character", "remove it"),
        _ => ("an invisible character", "remove it, or type the value again by hand"),
    };
    let code = u32::from(found);
    Complaint::error(format!("this value contains {what} (U+{code:04X})")).at(span, "").help(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::tree::parse;

    #[test]
    fn text_in_any_language_is_plain_and_what_steers_or_hides_is_not() {
        for text in ["", "ubuntu", "Größe 5 µm", "名前", "a b", "‑–—", "🙂"] {
            assert_eq!(first(text), None, "{text:?}");
        }
        for hidden in [
            '\0',
            '\t',
            '\n',
            '\r',
            '\x1b',
            '\x7f',
            '\u{80}',
            '\u{85}',
            '\u{9b}',
            '\u{ad}',
            '\u{200b}',
            '\u{200e}',
            '\u{202e}',
            '\u{2028}',
            '\u{2066}',
            '\u{feff}',
            '\u{e0041}',
        ] {
            assert_eq!(first(&format!("a{hidden}b")), Some(hidden), "{hidden:?}");
        }
    }

    #[test]
    fn every_spelling_of_a_newline_is_found_in_values_and_keys_alike() {
        for (text, said) in [
            ("a: \"b\\nc\"\n", "a line break (U+000A)"),
            ("a: |\n  b\n", "a line break (U+000A)"),
            ("a: \"b\\u2028c\"\n", "a line break (U+2028)"),
            ("a: \"b\\u001b]52;c\\a\"\n", "a control character (U+001B)"),
            ("a: \"b\\tc\"\n", "a tab (U+0009)"),
            ("a: b\u{202e}c\n", "an invisible character (U+202E)"),
            ("\"a\\nb\": c\n", "a line break (U+000A)"),
            ("a: [b, \"c\\nd\"]\n", "a line break (U+000A)"),
        ] {
            let complaints = parse(text).1;
            assert_eq!(complaints.len(), 1, "{text:?}: {complaints:?}");
            assert!(complaints[0].message.contains(said), "{text:?}: {complaints:?}");
            assert!(!complaints[0].message.chars().any(is_hidden));
        }
    }

    #[test]
    fn a_value_that_goes_on_in_the_next_line_is_still_one_line() {
        for text in ["a: b\n  c\n", "a: >-\n  b\n  c\n", "a: |-\n  b\n"] {
            assert_eq!(parse(text).1, [], "{text:?}");
        }
    }
}
