//! Parses SSH public keys.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::{Schema, json_schema};

use crate::profile::at::Written;

words! {
    /// The public key of an SSH server, of a kind that k8sha can verify.
    HostKeyLine(String) = |word| host_key(word).map(|()| word.trim().to_owned()),
        { "type": "string", "pattern": "^(ssh-ed25519|ecdsa-sha2-nistp(256|384|521)) " };
    /// A public key as OpenSSH writes it.
    PublicKey(String) = |word| public_key(word).map(|()| word.trim().to_owned()),
        { "type": "string", "pattern": "^(ssh|ecdsa|sk)-" };
}

/// The kinds of keys that OpenSSH 8.9 and newer accept, each with the number of fields after its
/// name: RFC 4253 6.6 (RSA), RFC 5656 3.1 (ECDSA), RFC 8709 4 (Ed25519), and OpenSSH's
/// PROTOCOL.u2f. A certificate is not a key for `authorized_keys`, and DSA keys are no longer
/// accepted.
const KINDS: [(&str, usize); 7] = [
    ("ssh-ed25519", 1),
    ("ssh-rsa", 2),
    ("ecdsa-sha2-nistp256", 2),
    ("ecdsa-sha2-nistp384", 2),
    ("ecdsa-sha2-nistp521", 2),
    ("sk-ssh-ed25519@openssh.com", 2),
    ("sk-ecdsa-sha2-nistp256@openssh.com", 3),
];
/// The length of an Ed25519 key in bytes.
const ED25519: usize = 32;

/// Checks an OpenSSH public key without trusting its first word: the name inside the key counts, and
/// nothing may follow its fields.
fn public_key(word: &str) -> Result<(), String> {
    if word.contains("PRIVATE KEY") {
        return Err(
            "this is a private key\ntake the file that ends in `.pub`, and make a new key: \
                    this one was written into a profile"
                .into(),
        );
    }
    let fault = |why: &str| format!("this is not an OpenSSH public key: {why}");
    let mut words = word.split_whitespace();
    let (Some(kind), Some(body)) = (words.next(), words.next()) else {
        let hint = "\na line such as `ssh-ed25519 AAAA… you@home`";
        return Err(fault(&format!("the key type or the key data is missing{hint}")));
    };
    let known = KINDS.iter().find(|(name, _)| *name == kind);
    if known.is_none() && (kind.contains('=') || kind.contains(',')) {
        return Err(fault("it starts with options\nwrite only the key: type, key data, comment"));
    }
    let blob = STANDARD.decode(body).map_err(|_| fault("the key data is not base64"))?;
    let fields = fields(&blob).ok_or_else(|| fault("the key data is truncated"))?;
    let [name, values @ ..] = fields.as_slice() else {
        return Err(fault(&format!("the key data does not belong to a `{kind}` key")));
    };
    if *name != kind.as_bytes() {
        return Err(fault(&format!("the key data does not belong to a `{kind}` key")));
    }
    let Some((_, count)) = known else {
        let kinds: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
        let hint = format!("OpenSSH takes {}", kinds.join(", "));
        return Err(fault(&format!("the key type `{kind}` is unknown\n{hint}")));
    };
    let short = kind == "ssh-ed25519" && values.first().is_some_and(|key| key.len() != ED25519);
    if values.len() != *count || short {
        return Err(fault(&format!("the key data of the `{kind}` key is malformed")));
    }
    if word.contains("PRIVATE") || words.any(|word| KINDS.iter().any(|(name, _)| *name == word)) {
        return Err(fault("a second key follows the first\nwrite one key per list entry"));
    }
    Ok(())
}

/// The fields of a key: each a length of four bytes and that many bytes (RFC 4251 5, `string`).
/// `None` if they do not end with the key.
fn fields(mut blob: &[u8]) -> Option<Vec<&[u8]>> {
    let mut fields = Vec::new();
    while !blob.is_empty() {
        let (length, rest) = blob.split_at_checked(4)?;
        let length = usize::try_from(u32::from_be_bytes(length.try_into().ok()?)).ok()?;
        let (field, rest) = rest.split_at_checked(length)?;
        fields.push(field);
        blob = rest;
    }
    Some(fields)
}

/// The kinds of host keys that can be verified; every OpenSSH since 6.5 has the first.
const HOST_KEY_KINDS: [&str; 4] =
    ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"];

fn host_key(word: &str) -> Result<(), String> {
    if word.starts_with("SHA256:") || word.starts_with("MD5:") {
        return Err("this is a fingerprint, not a key\n\
             `ssh-keyscan -t ed25519 HOST` prints the key: use its line without the host name"
            .into());
    }
    public_key(word)?;
    let kind = word.split_whitespace().next().unwrap_or_default();
    if HOST_KEY_KINDS.contains(&kind) {
        return Ok(());
    }
    Err(format!(
        "a host key of the kind `{kind}` cannot be verified\n\
         take its ed25519 key: `ssh-keyscan -t ed25519 HOST`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint<T: Written + std::fmt::Debug>(word: &str) -> String {
        T::read(word).unwrap_err()
    }

    fn key(fields: &[&[u8]]) -> String {
        let length = |field: &[u8]| u32::try_from(field.len()).unwrap().to_be_bytes();
        let blob: Vec<u8> =
            fields.iter().flat_map(|field| [&length(field)[..], field].concat()).collect();
        format!("{} {}", String::from_utf8_lossy(fields[0]), STANDARD.encode(blob))
    }

    #[test]
    fn a_key_must_be_what_its_first_word_says() {
        let good = key(&[b"ssh-ed25519", &[7; 32]]);
        let body = good.split_once(' ').unwrap().1.to_owned();
        for word in [
            format!("{good} me@home"),
            format!("  {good} several words \"and\" {{{{ braces }}}} # signs"),
            key(&[b"ssh-rsa", &[1, 0, 1], &[9; 256]]),
            key(&[b"ecdsa-sha2-nistp256", b"nistp256", &[4; 65]]),
            key(&[b"sk-ssh-ed25519@openssh.com", &[7; 32], b"ssh:"]),
        ] {
            assert!(PublicKey::read(&word).is_ok(), "{word}");
        }
        assert!(hint::<PublicKey>(&format!("ssh-rsa {body}")).contains("`ssh-rsa`"));
        assert!(hint::<PublicKey>("-----BEGIN OPENSSH PRIVATE KEY-----").contains("private key"));
        assert!(HostKeyLine::read(&good).is_ok());
        assert!(hint::<HostKeyLine>("SHA256:AAAA").contains("fingerprint"));
        let rsa = key(&[b"ssh-rsa", &[1, 0, 1], &[9; 256]]);
        assert!(hint::<HostKeyLine>(&rsa).contains("`ssh-rsa` cannot be verified"));
    }

    #[test]
    fn what_is_not_exactly_one_whole_key_is_refused() {
        let good = key(&[b"ssh-ed25519", &[7; 32]]);
        for (word, why) in [
            ("ssh-ed25519".to_owned(), "key type or the key data is missing"),
            ("ssh-ed25519 AA==".to_owned(), "truncated"),
            (good[..good.len() - 8].to_owned(), "truncated"),
            (
                key(&[b"ssh-ed25519", &[7; 31]]),
                "the key data of the `ssh-ed25519` key is malformed",
            ),
            (
                key(&[b"ssh-ed25519", &[7; 32], b"more"]),
                "the key data of the `ssh-ed25519` key is malformed",
            ),
            (key(&[b"ssh-dss", b"p", b"q", b"g", b"y"]), "the key type `ssh-dss` is unknown"),
            (format!("{good} {good}"), "a second key follows"),
            (format!("command=\"reboot\" {good}"), "starts with options"),
        ] {
            let said = hint::<PublicKey>(&word);
            assert!(said.contains(why), "{word}: {said}");
        }
    }
}
