//! The firewall's configuration files, as data (pve-firewall src/PVE/Firewall.pm). They are stored and
//! shown; no packet of a guest is filtered.

mod spec;
mod verify;

pub use verify::{Env, formats, verify};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha1::{Digest, Sha1};

/// Settings by name, as in a file.
pub type Fields = BTreeMap<String, String>;

/// One file: of the cluster, of a node or of a VM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firewall {
    /// The options that are set.
    pub options: Fields,
    /// The rules, in order.
    pub rules: Vec<Fields>,
    /// The IP sets by name.
    pub sets: BTreeMap<String, IpSet>,
}

/// A set of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpSet {
    /// A comment.
    pub comment: Option<String>,
    /// Its entries by address.
    pub entries: BTreeMap<String, Fields>,
}

/// The digest of consecutive settings: a SHA-1 over their lines, as Proxmox computes it.
pub fn digest<'a>(all: impl IntoIterator<Item = &'a Fields>) -> String {
    let mut hash = Sha1::new();
    for (key, value) in all.into_iter().flatten() {
        hash.update(format!("{key}:{value}\n"));
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Settings as they are read back: those with these names as numbers.
pub fn shown(fields: &Fields, digest: &str, numbers: impl Fn(&str) -> bool) -> Value {
    let mut value = json!({"digest": digest});
    for (key, text) in fields {
        value[key] = match text.parse::<i64>() {
            Ok(number) if numbers(key) => json!(number),
            _ => json!(text),
        };
    }
    value
}

/// A rule as stored in its file: of a security group's rule only its position.
pub fn kept(mut rule: Fields) -> Fields {
    if rule.get("type").is_some_and(|kind| kind == "group") {
        let keys = ["action", "comment", "enable", "iface", "type"];
        rule.retain(|key, _| keys.contains(&key.as_str()));
    }
    if let Some(enable) = rule.get_mut("enable") {
        *enable = String::from(if enable == "0" { "0" } else { "1" });
    }
    rule.retain(|key, text| key != "comment" || !text.trim().is_empty());
    rule
}

/// An address of an IP set in its stored form: without host bits, and without the prefix length that a
/// single address has by default.
///
/// # Errors
/// The error in it.
pub fn entry(cidr: &str) -> Result<String, &'static str> {
    spec::network(cidr).ok_or("value does not look like a valid IP address or CIDR network\n")
}

/// Whether a text is the name of an alias, which may include its scope.
pub fn is_alias(text: &str) -> bool {
    spec::is_alias(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_covers_the_lines_and_no_settings_have_that_of_an_empty_file() {
        assert_eq!(digest([]), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
        let fields = Fields::from([("enable".to_owned(), "1".to_owned())]);
        // `printf 'enable:1\n' | sha1sum`
        assert_eq!(digest([&fields]), "bb9ed91416c7ca9fe0bdb701360217e37ab4497f");
    }

    #[test]
    fn addresses_are_stored_as_networks() {
        for (given, kept) in [
            ("10.0.0.7/8", Ok("10.0.0.0/8")),
            ("10.0.0.7/32", Ok("10.0.0.7")),
            ("10.0.0.7", Ok("10.0.0.7")),
            ("fd00::7/64", Ok("fd00::/64")),
            ("fd00::7/128", Ok("fd00::7")),
        ] {
            assert_eq!(entry(given).as_deref(), kept.map_err(|_: &str| &""), "{given}");
        }
        for wrong in ["10.0.0.7/33", "10.0.0", "fd00::/129", "net", "10.0.0.1-10.0.0.9"] {
            assert!(entry(wrong).is_err(), "{wrong}");
        }
    }
}
