//! Translates Perl's regular expressions to Rust's.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use regex::{Regex, RegexBuilder};

/// The patterns that were used, compiled once; `None` for one that cannot be parsed.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    known: Mutex<HashMap<String, Option<Regex>>>,
}

impl Patterns {
    /// Whether a text matches a pattern somewhere; the caller adds anchors. `None`: the pattern cannot
    /// be parsed.
    pub(super) fn matches(&self, perl: &str, text: &str) -> Option<bool> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains_key(perl) {
            // `\w{0,256}` is large because a word may be in any script.
            let regex = RegexBuilder::new(&translated(perl)).size_limit(1 << 28).build().ok();
            known.insert(perl.to_owned(), regex);
        }
        Some(known.get(perl)?.as_ref()?.is_match(text))
    }
}

/// Perl prints flags of a compiled pattern as `(?^i:…)`, writes `{,16}` for `{0,16}`, and has atomic
/// groups, which only affect the speed.
fn translated(perl: &str) -> String {
    perl.replace("(?^i:", "(?i:").replace("(?^:", "(?:").replace("(?>", "(?:").replace("{,", "{0,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perl_patterns_are_translated() {
        let patterns = Patterns::default();
        assert_eq!(patterns.matches("^(?^i:[a-z]{,3})$", "AB"), Some(true));
        assert_eq!(patterns.matches("^(?^i:[a-z]{,3})$", "abcd"), Some(false));
        assert_eq!(patterns.matches("^(?^:(?>a+)\\/b)$", "aa/b"), Some(true));
        assert_eq!(patterns.matches("(?!a)b", "b"), None);
    }
}
