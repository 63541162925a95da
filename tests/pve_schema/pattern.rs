//! Perl's regular expressions in this language's.

use std::cell::RefCell;
use std::collections::HashMap;

use regex::Regex;

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
            let pattern = translated(perl);
            Regex::new(&pattern).unwrap_or_else(|error| panic!("`{perl}`: {error}"))
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
