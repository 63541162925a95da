//! Parses OpenSSH's `known_hosts` (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT").
//!
//! The SSH library has a parser too, but it supports neither markers (so a revoked key would count
//! as known), nor patterns, nor tabs, stops at the first invalid line, and allows another key of
//! the same kind to override the right one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use russh::keys::{Algorithm, PublicKey};
use sha1::Sha1;

use super::hostkey::{HostKey, HostKeys, is_verifiable};

/// What the files contain about a server.
#[derive(Clone, Debug, Default)]
pub struct Known {
    known: Vec<HostKey>,
    revoked: Vec<HostKey>,
    unverifiable: Vec<String>,
    authority: bool,
}

impl Known {
    /// Adds what the text of a file contains about a server. Invalid lines are skipped, as OpenSSH
    /// does.
    pub fn read(&mut self, text: &str, host: &str, port: u16) {
        let wanted = match port {
            22 => host.to_ascii_lowercase(),
            port => format!("[{}]:{port}", host.to_ascii_lowercase()),
        };
        for line in text.lines() {
            let mut words = line.split_whitespace().peekable();
            let marker = words.next_if(|word| word.starts_with('@'));
            let (Some(hosts), Some(kind), Some(body)) = (words.next(), words.next(), words.next())
            else {
                continue;
            };
            if hosts.starts_with('#') || !names(hosts, &wanted) {
                continue;
            }
            let Ok(key) = PublicKey::from_openssh(&format!("{kind} {body}")) else { continue };
            match marker {
                Some("@revoked") => self.revoked.push(HostKey::from(key)),
                Some("@cert-authority") => self.authority = true,
                // An unknown marker of a later version must not mean "trust this".
                Some(_) => {}
                None if is_verifiable(&key.algorithm()) => self.known.push(HostKey::from(key)),
                None => self.unverifiable.push(algorithm(&key.algorithm())),
            }
        }
    }

    /// The keys that the server may present.
    ///
    /// # Errors
    /// If there is none: what there is instead.
    pub fn keys(self) -> Result<HostKeys, String> {
        if !self.known.is_empty() {
            return Ok(HostKeys::new(self.known, self.revoked));
        }
        Err(if !self.unverifiable.is_empty() {
            let kinds = self.unverifiable.join(", ");
            format!(
                "only its {kinds} key is known, but k8sha supports only ed25519 and ECDSA host keys"
            )
        } else if self.authority {
            "only a certificate authority is known for it, but k8sha does not support host certificates".into()
        } else if !self.revoked.is_empty() {
            "all its known keys are revoked".into()
        } else {
            "its host key is not known".into()
        })
    }
}

impl Known {
    /// The one ed25519 key that the server may present.
    ///
    /// # Errors
    /// If there is not exactly one: what there is instead.
    pub fn only(mut self) -> Result<HostKey, String> {
        let revoked = std::mem::take(&mut self.revoked);
        let mut good: Vec<HostKey> = std::mem::take(&mut self.known);
        let other = !good.is_empty();
        good.retain(|key| key.is_ed25519() && !revoked.contains(key));
        good.dedup();
        match good.as_slice() {
            [key] => Ok(key.clone()),
            [] if other => Err("it has no known ed25519 key that is not revoked".into()),
            [] => Err(Self { revoked, ..self }.keys().err().unwrap_or_default()),
            _ => Err("several ed25519 keys are known for it".into()),
        }
    }
}

fn algorithm(kind: &Algorithm) -> String {
    kind.as_str().to_owned()
}

/// Whether a list of names, patterns or hashed names contains this one and does not exclude it.
fn names(hosts: &str, wanted: &str) -> bool {
    let mut found = false;
    for entry in hosts.split(',') {
        if let Some(hashed) = entry.strip_prefix("|1|") {
            found |= is_hash_of(hashed, wanted);
        } else if let Some(excluded) = entry.strip_prefix('!') {
            if matches(&excluded.to_ascii_lowercase(), wanted) {
                return false;
            }
        } else {
            found |= matches(&entry.to_ascii_lowercase(), wanted);
        }
    }
    found
}

/// Whether `SALT|HASH` is the HMAC-SHA1 of a name.
fn is_hash_of(hashed: &str, name: &str) -> bool {
    let check = || {
        let (salt, hash) = hashed.split_once('|')?;
        let (salt, hash) = (STANDARD.decode(salt).ok()?, STANDARD.decode(hash).ok()?);
        let mac = Hmac::<Sha1>::new_from_slice(&salt).ok()?.chain_update(name);
        mac.verify_slice(&hash).ok()
    };
    check().is_some()
}

/// Whether a pattern with `*` and `?` matches a name.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    // The position of the last `*`, and the end of its match.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, eaten)) => {
                    star = Some((at, eaten + 1));
                    (p, n) = (at + 1, eaten + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::super::KeyPair;
    use super::*;

    fn line_of(pair: &KeyPair) -> String {
        pair.public.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    }

    fn known(text: &str, host: &str, port: u16) -> Result<String, String> {
        let mut known = Known::default();
        known.read(text, host, port);
        known.keys().map(|keys| keys.fingerprints())
    }

    #[test]
    fn a_server_is_found_by_name_port_pattern_and_hash_and_by_nothing_else() {
        let pair = KeyPair::generate("x").unwrap();
        let key = line_of(&pair);
        let print = HostKey::parse(&key).unwrap().fingerprint();
        // `ssh-keygen -H` created the hash, of `bastion.example.org`.
        let hashed = "|1|6/IgQD+l3OqCZm/okb2Tez8jYb4=|aoiZsujXT59EYDhOh8qYVA3fFf0=";
        for (hosts, host, port, found) in [
            ("bastion", "bastion", 22, true),
            ("bastion", "BASTION", 22, true),
            ("bastion", "bastion", 2222, false),
            ("[bastion]:2222", "bastion", 2222, true),
            ("[bastion]:2222", "bastion", 22, false),
            ("other,bastion,10.0.0.1", "10.0.0.1", 22, true),
            ("*.example.org", "a.example.org", 22, true),
            ("*.example.org,!bad.example.org", "bad.example.org", 22, false),
            ("!bad.example.org,*.example.org", "bad.example.org", 22, false),
            ("bastio?", "bastion", 22, true),
            ("bastio?", "bastio", 22, false),
            ("#bastion", "bastion", 22, false),
            (hashed, "bastion.example.org", 22, true),
            (hashed, "bastion.example.net", 22, false),
            (hashed, "bastion.example.org", 2222, false),
        ] {
            let text = format!("\n# a comment\nnonsense\n{hosts}\t{key} a comment\r\n");
            let seen = known(&text, host, port);
            assert_eq!(seen.ok() == Some(print.clone()), found, "{hosts} for {host}:{port}");
        }
    }

    #[test]
    fn revoked_keys_authorities_and_keys_that_cannot_be_verified_do_not_count_as_known() {
        let key = line_of(&KeyPair::generate("x").unwrap());
        let rsa = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDI5aHhsTsXbsI5qyO8ToCvDiaJveXroVLbdHjpbW\
                   2/E9jq7aSKt0YqjIsRrBvUlGk3OPVrxSvBhwSYDXMZMO1DBxgw4mrqhDFJLMfIzlzNhhMtkEwxiuNuvJ\
                   AkO31UIbD8awtGlg7fZh0iC49cPfBa0K13MybHo/znB3bqAUvlzw==";
        for (text, why) in [
            (String::new(), "is not known"),
            (format!("@revoked bastion {key}"), "are revoked"),
            (format!("@cert-authority * {key}"), "a certificate authority"),
            (format!("@later bastion {key}"), "is not known"),
            (format!("bastion {rsa}"), "only its ssh-rsa key"),
        ] {
            let error = known(&text, "bastion", 22).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn the_only_key_is_neither_one_of_several_nor_revoked() {
        let key = || line_of(&KeyPair::generate("x").unwrap());
        let (one, other) = (key(), key());
        let only = |text: &str| {
            let mut known = Known::default();
            known.read(text, "pve1", 22);
            known.only().map(|key| key.fingerprint())
        };
        let print = HostKey::parse(&one).unwrap().fingerprint();
        assert_eq!(only(&format!("pve1 {one}\npve1,10.0.0.1 {one}\n")), Ok(print.clone()));
        let revoked = format!("@revoked * {other}\npve1 {other}\npve1 {one}\n");
        assert_eq!(only(&revoked), Ok(print));
        for (text, why) in [
            (format!("pve2 {one}\n"), "is not known"),
            (format!("pve1 {one}\npve1 {other}\n"), "several"),
            (format!("pve1 {one}\n@revoked pve1 {one}\n"), "not revoked"),
        ] {
            let error = only(&text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_key_that_is_revoked_elsewhere_is_not_taken() {
        let (good, bad) = (KeyPair::generate("x").unwrap(), KeyPair::generate("x").unwrap());
        let (good, bad) = (line_of(&good), line_of(&bad));
        let mut known = Known::default();
        known.read(&format!("bastion {good}\nbastion {bad}\n"), "bastion", 22);
        known.read(&format!("@revoked * {bad}\n"), "bastion", 22);
        let keys = known.keys().unwrap();
        let shown = |line: &str| russh::keys::PublicKeyOrCertificate::PublicKey {
            key: PublicKey::from_openssh(line).unwrap(),
            hash_alg: None,
        };
        assert_eq!(keys.check(&shown(&good)), Ok(()));
        assert!(keys.check(&shown(&bad)).unwrap_err().contains("revoked"));
    }
}
