//! Perl's regular expressions in this language's.

use std::cell::RefCell;
use std::collections::HashMap;

use regex::{Regex, RegexBuilder};

/// The patterns that were met, compiled once.
#[derive(Default)]
pub struct Patterns {
    known: RefCell<HashMap<String, Regex>>,
}

impl Patterns {
    /// Whether a text matches a pattern somewhere; anchors are the caller's.
    pub fn matches(&self, perl: &str, text: &str) -> bool {
        let mut known = self.known.borrow_mut();
        let regex = known.entry(perl.to_owned()).or_insert_with(|| {
            // `\w{0,256}` is large where a word may be of any script.
            let built = RegexBuilder::new(&translated(perl)).size_limit(1 << 28).build();
            built.unwrap_or_else(|error| panic!("`{perl}`: {error}"))
        });
        regex.is_match(text)
    }
}

/// Perl prints flags of a compiled pattern as `(?^i:…)`, writes `{,16}` for `{0,16}`, and has
/// atomic groups, which decide the speed alone.
fn translated(perl: &str) -> String {
    perl.replace("(?^i:", "(?i:").replace("(?^:", "(?:").replace("(?>", "(?:").replace("{,", "{0,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perl_patterns_are_translated() {
        let patterns = Patterns::default();
        assert!(patterns.matches("^(?^i:[a-z]{,3})$", "AB"));
        assert!(!patterns.matches("^(?^i:[a-z]{,3})$", "abcd"));
        assert!(patterns.matches("^(?^:(?>a+)\\/b)$", "aa/b"));
    }
}
