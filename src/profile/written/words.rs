//! Words with their own rules: names, sizes, addresses, keys.

use std::net::Ipv4Addr;

use schemars::{Schema, json_schema};

use super::{number, quantity};
use crate::cluster::jump;
use crate::profile::at::Written;

words! {
    /// Memory in MiB, written as `2G` or `1700M`.
    Mib(u32) = |word| size(word, "memory", &[("M", 1), ("MiB", 1), ("G", 1024), ("GiB", 1024)], "4G"),
        { "type": "string", "pattern": "^[0-9]+(M|MiB|G|GiB)$" };
    /// A disk in GiB, written as `20G`.
    Gib(u32) = |word| size(word, "a disk", &[("G", 1), ("GiB", 1), ("T", 1024), ("TiB", 1024)], "20G"),
        { "type": "string", "pattern": "^[0-9]+(G|GiB|T|TiB)$" };
    /// A host name without its domain (RFC 1123), in lower case.
    DnsLabel(String) = |word| label(word).map(|()| word.to_owned()),
        { "type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" };
    /// A name of the cluster: a DNS label, since it also becomes a tag and part of file names.
    ClusterName(String) = |word| label(word).map(|()| word.to_owned()),
        { "type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" };
    /// A domain or a full host name, in lower case and without the trailing dot.
    DnsName(String) = dns_name,
        { "type": "string", "pattern": "^[a-z0-9.-]{1,253}$" };
    /// A TCP port.
    Port(u16) = |word| ranged(word, 1, 65_535, "a port"),
        { "type": "integer", "minimum": 1, "maximum": 65535 };
    /// A VLAN tag.
    Vlan(u16) = |word| ranged(word, 1, 4_094, "a VLAN tag"),
        { "type": "integer", "minimum": 1, "maximum": 4094 };
    /// A Linux bridge.
    Bridge(String) = bridge,
        { "type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_.-]{0,14}$" };
    /// A Proxmox VE storage.
    StorageName(String) = storage,
        { "type": "string", "pattern": "^[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]$" };
    /// A login user.
    UserName(String) = user,
        { "type": "string", "pattern": "^[a-z_][a-z0-9_-]{0,31}$" };
    /// The name or address of a machine that k8sha did not create.
    HostAddress(String) = |word| jump::host_name(word).map_err(|why| format!("{why}\nsuch as `bastion.example.org`")),
        { "type": "string", "minLength": 1 };
    /// A user on a machine that k8sha did not create; it may be root.
    AccountName(String) = jump::account,
        { "type": "string", "pattern": "^[A-Za-z0-9_.@+][A-Za-z0-9_.@+-]*$" };
    /// A path, absolute or relative to the profile.
    FilePath(String) = path,
        { "type": "string", "minLength": 1 };
    /// The SHA-256 of a file, as 64 lower-case hex digits.
    Sha256(String) = |word| digest(word).map(hex::encode),
        { "type": "string", "pattern": "^[0-9a-fA-F]{64}$" };
    /// The SHA-256 of a certificate; colons between the bytes are allowed.
    CertificateDigest([u8; 32]) = |word| digest(word),
        { "type": "string", "pattern": "^([0-9a-fA-F]{2}:?){31}[0-9a-fA-F]{2}$" };
    /// The URL of a download.
    HttpsUrl(String) = download,
        { "type": "string", "format": "uri", "pattern": "^https?://" };
}

/// Declares `https://HOST:PORT` addresses with their default port.
macro_rules! endpoints {
    ($($(#[$doc:meta])* $name:ident = $port:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            /// `https://HOST:PORT`.
            pub url: String,
            /// The host alone.
            pub host: String,
        }

        impl Written for $name {
            fn read(word: &str) -> Result<Self, String> {
                let (host, port) = https(word, $port)?;
                Ok($name { url: format!("https://{host}:{port}"), host })
            }

            fn word_schema() -> Schema {
                json_schema!({ "type": "string", "format": "uri", "pattern": "^https://" })
            }
        }
    )*};
}

endpoints! {
    /// The address of a Proxmox VE API.
    PveUrl = 8006;
    /// The address of an etcd member.
    EtcdUrl = 2379;
}

fn size(word: &str, what: &str, units: &[(&str, u32)], such: &str) -> Result<u32, String> {
    let fault =
        |why: &str| format!("`{word}` is not a valid size for {what}{why}\nsuch as `{such}`");
    let (count, unit) = quantity(word).ok_or_else(|| fault(""))?;
    if unit.is_empty() {
        return Err(fault(": the unit is missing"));
    }
    let (_, factor) = units.iter().find(|(name, _)| *name == unit).ok_or_else(|| fault(""))?;
    let size = u32::try_from(count).ok().and_then(|count| count.checked_mul(*factor));
    let size = size.filter(|size| *size > 0).ok_or_else(|| fault(""))?;
    if size > SIZE_MAX { Err(fault(": it is larger than any host can provide")) } else { Ok(size) }
}

/// The largest size, in MiB of memory (16 TiB) or GiB of disk (16 PiB): anything larger is a typing
/// error.
const SIZE_MAX: u32 = 16 << 20;

/// Names that a machine's `/etc/hosts` assigns to itself or to groups of hosts.
const TAKEN: [&str; 7] = [
    "localhost",
    "localhost4",
    "localhost6",
    "ip6-localhost",
    "ip6-loopback",
    "ip6-allnodes",
    "ip6-allrouters",
];

pub(super) fn ranged(word: &str, least: u16, most: u16, what: &str) -> Result<u16, String> {
    let fault = || format!("`{word}` is not {what}\n{least} to {most}");
    let value: u16 = number(word, most).map_err(|_| fault())?;
    if (least..=most).contains(&value) { Ok(value) } else { Err(fault()) }
}

fn label(word: &str) -> Result<(), String> {
    let why = if word.is_empty() || word.len() > 63 {
        "1 to 63 characters"
    } else if word.contains('_') {
        "no underscores: DNS names have none"
    } else if word.contains('.') {
        "the short name, without the domain"
    } else if word.bytes().any(|byte| byte.is_ascii_uppercase()) {
        "lower case only"
    } else if !word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        "letters a to z, digits and hyphens"
    } else if word.starts_with('-') || word.ends_with('-') {
        "no hyphen at either end"
    } else if TAKEN.contains(&word) {
        "the name is reserved: it has its own entry in /etc/hosts"
    } else {
        return Ok(());
    };
    Err(format!("`{word}` is not a host name\n{why}"))
}

pub(super) fn dns_name(word: &str) -> Result<String, String> {
    let fault = |why: &str| format!("`{word}` is not a domain name\n{why}");
    if word.ends_with('.') {
        return Err(fault("without the last dot"));
    }
    if word.is_empty() || word.len() > 253 {
        return Err(fault("1 to 253 characters"));
    }
    for part in word.split('.') {
        if let Err(why) = label(part) {
            let (_, why) = why.split_once('\n').unwrap_or_default();
            let why = if part.is_empty() { "no two dots in a row" } else { why };
            return Err(fault(why));
        }
    }
    Ok(word.to_owned())
}

fn bridge(word: &str) -> Result<String, String> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let fits = word.starts_with(|c: char| c.is_ascii_alphabetic())
        && word.len() <= 15
        && word.chars().all(inner);
    if fits { Ok(word.into()) } else { Err(format!("`{word}` is not a bridge\nsuch as `vmbr0`")) }
}

/// Source: pve-storage, `src/PVE/JSONSchema.pm`'s `pve-storage-id`.
fn storage(word: &str) -> Result<String, String> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let fits = word.starts_with(|c: char| c.is_ascii_alphabetic())
        && word.len() >= 2
        && word.ends_with(|c: char| c.is_ascii_alphanumeric())
        && word.chars().all(inner);
    if fits {
        Ok(word.into())
    } else {
        Err(format!("`{word}` is not a valid Proxmox VE name\nsuch as `local-lvm`"))
    }
}

fn user(word: &str) -> Result<String, String> {
    if word == "root" {
        return Err("`root` cannot be the login user\nname another one: it gets sudo".into());
    }
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    let fits = word.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && word.len() <= 32
        && word.chars().all(inner);
    if fits {
        Ok(word.into())
    } else {
        Err(format!("`{word}` is not a user name\nsuch as `ubuntu`"))
    }
}

pub(super) fn path(word: &str) -> Result<String, String> {
    match word {
        "" => Err("expected a path, found an empty word".into()),
        _ if word.starts_with('~') => Err(format!(
            "`{word}` starts with `~`, which only a shell expands\nwrite the path in full"
        )),
        _ => Ok(word.into()),
    }
}

fn digest(word: &str) -> Result<[u8; 32], String> {
    let fault = || format!("`{word}` is not a SHA-256\n64 hex digits, with or without colons");
    let digits: Vec<u32> = word
        .chars()
        .filter(|c| *c != ':')
        .map(|c| c.to_digit(16).ok_or_else(fault))
        .collect::<Result<_, _>>()?;
    let bytes: Vec<u8> = digits
        .chunks_exact(2)
        .filter_map(|pair| u8::try_from(pair[0] * 16 + pair[1]).ok())
        .collect();
    if digits.len() == 64 { bytes.try_into().map_err(|_| fault()) } else { Err(fault()) }
}

/// The host and port of an address without a path.
fn https(word: &str, default_port: u16) -> Result<(String, u16), String> {
    let fault = |why: &str| format!("`{word}` is not an https URL\n{why}");
    let rest = word.strip_prefix("https://").ok_or_else(|| {
        let host = word.rsplit("://").next().unwrap_or(word);
        fault(&format!("write `https://{host}`"))
    })?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#', '@']) {
        return Err(fault("host and port only, without a path or a user"));
    }
    let (host, port) = match rest.split_once(':') {
        Some((host, port)) => {
            let port =
                ranged(port, 1, 65_535, "a port").map_err(|_| fault("the port is 1 to 65535"))?;
            (host, port)
        }
        None => (rest, default_port),
    };
    let numeric = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if host.is_empty() {
        return Err(fault("the host is missing"));
    }
    if numeric && host.parse::<Ipv4Addr>().is_err() || !numeric && dns_name(host).is_err() {
        return Err(fault("the host is neither a name nor an IPv4 address"));
    }
    Ok((host.to_owned(), port))
}

pub(super) fn download(word: &str) -> Result<String, String> {
    let rest = word.strip_prefix("https://").or_else(|| word.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let printable = word.bytes().all(|byte| byte.is_ascii_graphic());
    if host.contains('@') {
        // It would appear in plans, in logs and in the process lists of nodes.
        let hint = "URLs are printed and logged: serve the file without authentication";
        return Err(format!("a URL must not contain a user name or a password\n{hint}"));
    }
    if host.is_empty() || !printable {
        return Err(format!(
            "`{word}` is not an http(s) URL\nsuch as `https://cloud-images.ubuntu.com/…`"
        ));
    }
    Ok(word.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint<T: Written + std::fmt::Debug>(word: &str) -> String {
        T::read(word).unwrap_err()
    }

    #[test]
    fn an_address_with_a_password_is_refused_and_not_repeated() {
        for word in ["https://me:hunter2@mirror.lan/x.img", "http://me@mirror.lan/x"] {
            let said = hint::<HttpsUrl>(word);
            assert!(said.contains("user name or a password"), "{said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
        assert!(HttpsUrl::read("https://mirror.lan/at@home.img").is_ok());
    }

    #[test]
    fn sizes_need_their_unit() {
        assert_eq!(Mib::read("4G"), Ok(Mib(4096)));
        assert_eq!(Mib::read("1700M"), Ok(Mib(1700)));
        assert_eq!(Gib::read("1T"), Ok(Gib(1024)));
        assert!(hint::<Mib>("4096").contains("the unit is missing"));
        for word in ["0G", "-1G", "4g", "99999999999G", "4294967295G", ""] {
            assert!(Mib::read(word).is_err(), "{word}");
        }
        assert_eq!(Mib::read("16384G"), Ok(Mib(16 << 20)));
        assert!(hint::<Mib>("16385G").contains("larger than any host"));
        assert!(hint::<Mib>("4000000G").contains("larger than any host"));
    }

    #[test]
    fn host_names_are_lower_case_labels() {
        for word in ["a", "k8s1master1", "a-b", "0a"] {
            assert!(DnsLabel::read(word).is_ok(), "{word}");
        }
        for (word, why) in [
            ("k8s_1", "underscores"),
            ("K8s", "lower case"),
            ("a.b", "without the domain"),
            ("-a", "hyphen"),
            ("", "1 to 63"),
            ("ä", "letters"),
            ("localhost", "/etc/hosts"),
        ] {
            assert!(hint::<DnsLabel>(word).contains(why), "{word}");
        }
        assert!(DnsName::read("k8s1-prod.lan").is_ok());
        assert!(hint::<DnsName>("a..b").contains("two dots"));
        assert!(hint::<DnsName>("kloud.lan.").contains("last dot"));
    }

    #[test]
    fn endpoints_are_https_with_a_host() {
        assert_eq!(PveUrl::read("https://pve1.lan").unwrap().url, "https://pve1.lan:8006");
        assert_eq!(EtcdUrl::read("https://10.0.0.1:2379").unwrap().host, "10.0.0.1");
        for (word, why) in [
            ("http://pve1:8006", "write `https://pve1:8006`"),
            ("pve1", "write `https://pve1`"),
            ("https://", "the host is missing"),
            ("https://pve1:0", "1 to 65535"),
            ("https://pve1/api2", "without a path"),
            ("https://root@pve1", "or a user"),
            ("https://10.0.0.300", "neither"),
        ] {
            assert!(hint::<PveUrl>(word).contains(why), "{word}: {}", hint::<PveUrl>(word));
        }
    }

    #[test]
    fn digests_may_have_colons() {
        let colons = vec!["aB"; 32].join(":");
        assert_eq!(CertificateDigest::read(&colons), Ok(CertificateDigest([0xab; 32])));
        assert_eq!(Sha256::read(&"aB".repeat(32)), Ok(Sha256("ab".repeat(32))));
        for word in ["", "ab", &"g".repeat(64), &"ab".repeat(33)] {
            assert!(Sha256::read(word).is_err(), "{word}");
        }
    }
}
