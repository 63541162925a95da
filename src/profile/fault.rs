//! Why a value could not be read.

use std::fmt;

use serde::de;

use super::at::listed;
use super::tree::{Kind, Node};

/// Why a value could not be read.
#[derive(Debug)]
pub(super) struct Fault {
    /// The node that could not be read.
    pub node: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to try next.
    pub hint: Option<String>,
    /// The known key that an unknown one is probably a misspelling of.
    pub meant: Option<&'static str>,
    /// The known keys of the section in which an unknown one was found.
    pub known: Option<&'static [&'static str]>,
    /// Whether it is only a consequence of an earlier cut.
    pub silent: bool,
}

impl Fault {
    pub fn new(message: String) -> Self {
        Self { node: None, message, hint: None, meant: None, known: None, silent: false }
    }

    /// Sets the place, unless a more precise one is already known.
    pub fn at(mut self, node: &Node) -> Self {
        self.node.get_or_insert(node.id);
        self
    }

    /// Another kind of value was expected there.
    pub fn found(node: &Node, wanted: &dyn de::Expected) -> Self {
        let silent = matches!(node.kind, Kind::Refused);
        let message = format!("expected {wanted}, found {}", node.noun());
        Self { silent, ..Self::new(message) }.at(node)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        // A `\n` separates what is wrong from what to do about it.
        let text = message.to_string();
        match text.split_once('\n') {
            None => Self::new(text),
            Some((message, hint)) => {
                Self { hint: Some(hint.to_owned()), ..Self::new(message.to_owned()) }
            }
        }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let (meant, known) = (closest(field, expected), Some(expected));
        let hint = match meant {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("known here: {}", listed(expected.iter().copied())),
        };
        Self { meant, known, hint: Some(hint), ..Self::new(format!("unknown key `{field}`")) }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let hint = match closest(variant, expected) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("known here: {}", listed(expected.iter().copied())),
        };
        Self { hint: Some(hint), ..Self::new(format!("`{variant}` is not known here")) }
    }
}

/// The candidate that the word is probably a misspelling of.
pub(super) fn closest(word: &str, candidates: &[&'static str]) -> Option<&'static str> {
    let length = word.chars().count();
    candidates
        .iter()
        // A long word is not a misspelling, and comparing it would take time proportional to its
        // length.
        .filter(|candidate| length.abs_diff(candidate.chars().count()) <= 4)
        .map(|candidate| (strsim::levenshtein(word, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.chars().count() / 4)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspellings_are_recognised() {
        assert_eq!(closest("gatway", &["subnet", "gateway"]), Some("gateway"));
        assert_eq!(closest("colour", &["subnet", "gateway"]), None);
    }
}
