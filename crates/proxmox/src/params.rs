//! Parameters of a call, and the encoding of parameters and paths.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// All but RFC 3986's unreserved characters: Proxmox VE splits pairs at `;` as well as at `&`, and a
/// `+` would become a space.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Percent-encodes a value.
pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// The parameters of a call, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// No parameters.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more parameter.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.0.push((key.to_owned(), value.to_string()));
        self
    }

    /// With one more parameter if there is a value.
    #[must_use]
    pub fn maybe(self, key: &str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// With a boolean, which Proxmox VE accepts as 0 or 1 only.
    #[must_use]
    pub fn flag(self, key: &str, value: bool) -> Self {
        self.with(key, u8::from(value))
    }

    /// The value of a parameter.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// The parameters in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As a form body or a query.
    pub(super) fn encoded(&self) -> String {
        let pairs = self.iter().map(|(key, value)| format!("{}={}", encode(key), encode(value)));
        pairs.collect::<Vec<_>>().join("&")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_can_break_out_of_its_pair() {
        let params = Params::new()
            .with("description", "a;cores=1&b=2+3 4%\nü")
            .flag("full", false)
            .maybe("pool", None::<&str>);
        assert_eq!(
            params.encoded(),
            "description=a%3Bcores%3D1%26b%3D2%2B3%204%25%0A%C3%BC&full=0"
        );
    }
}
