//! Parses the scalar values of a profile. An error may carry a hint after a newline.

/// Declares newtypes for words, each parsed by a function.
macro_rules! words {
    ($($(#[$doc:meta])* $name:ident($inner:ty) = $read:expr, $schema:tt;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(pub $inner);

        impl Written for $name {
            fn read(word: &str) -> Result<Self, String> {
                let read: fn(&str) -> Result<$inner, String> = $read;
                read(word).map($name)
            }

            fn word_schema() -> Schema {
                json_schema!($schema)
            }
        }
    )*};
}

mod keys;
mod proxmox;
mod sources;
mod words;

use std::fmt::Display;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::time::Duration;

use ipnet::Ipv4Net;
use schemars::{Schema, json_schema};

use crate::profile::at::{Written, listed};
use crate::profile::fault::closest;
pub use keys::*;
pub use proxmox::*;
pub use sources::*;
pub use words::*;

use crate::cluster::{CalicoDataplane, CloneMode, Failover, Kernel, ProxyMode, Role, Version};

impl Written for String {
    fn read(word: &str) -> Result<Self, String> {
        if word.is_empty() {
            Err("expected a word, found an empty one".into())
        } else {
            Ok(word.into())
        }
    }

    fn word_schema() -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}

impl Written for bool {
    fn read(word: &str) -> Result<Self, String> {
        word.parse().map_err(|_| format!("`{word}` is neither `true` nor `false`"))
    }

    fn word_schema() -> Schema {
        json_schema!({ "type": "boolean" })
    }
}

fn number<T: FromStr + Display>(word: &str, most: T) -> Result<T, String> {
    if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("`{word}` is not a whole number"));
    }
    word.parse().map_err(|_| format!("`{word}` is too large: the most is {most}"))
}

macro_rules! numbers {
    ($($int:ty),*) => {$(
        impl Written for $int {
            fn read(word: &str) -> Result<Self, String> {
                number(word, <$int>::MAX)
            }

            fn word_schema() -> Schema {
                json_schema!({ "type": "integer", "minimum": 0 })
            }
        }
    )*};
}

numbers!(u8, u32, usize);

impl Written for Ipv4Addr {
    fn read(word: &str) -> Result<Self, String> {
        word.parse().map_err(|_| {
            let why = match word.split_once('/') {
                Some((address, _)) => format!("\nan address alone: `{address}`"),
                None => "\nfour numbers of 0 to 255, such as `10.101.1.10`".to_owned(),
            };
            format!("`{word}` is not an IPv4 address{why}")
        })
    }

    fn word_schema() -> Schema {
        json_schema!({ "type": "string", "format": "ipv4" })
    }
}

impl Written for Ipv4Net {
    fn read(word: &str) -> Result<Self, String> {
        let net: Ipv4Net = word.parse().map_err(|_| {
            format!("`{word}` is not an IPv4 network\nan address and a prefix length, such as `10.101.1.0/24`")
        })?;
        if net.network() == net.addr() {
            return Ok(net);
        }
        Err(format!("`{word}` is an address inside a network\nthe network is `{}`", net.trunc()))
    }

    fn word_schema() -> Schema {
        json_schema!({ "type": "string", "pattern": r"^[0-9.]+/[0-9]{1,2}$" })
    }
}

impl Written for Version {
    fn read(word: &str) -> Result<Self, String> {
        word.parse()
    }

    fn word_schema() -> Schema {
        json_schema!({ "type": "string", "pattern": r"^v?[0-9]+\.[0-9]+\.[0-9]+$" })
    }
}

impl Written for Kernel {
    fn read(word: &str) -> Result<Self, String> {
        let fault = || format!("`{word}` is not a kernel\n`stock`, `hwe` or `mainline-6.6.1`");
        match word {
            "stock" => Ok(Kernel::Stock),
            "hwe" => Ok(Kernel::Hwe),
            _ => {
                let version = word.strip_prefix("mainline-").ok_or_else(fault)?;
                version.parse().map(Kernel::Mainline).map_err(|_| fault())
            }
        }
    }

    fn word_schema() -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^(stock|hwe|mainline-[0-9]+\.[0-9]+\.[0-9]+)$",
        })
    }
}

fn choice<T: Copy>(word: &str, choices: &[(&'static str, T)]) -> Result<T, String> {
    if let Some((_, value)) = choices.iter().find(|(name, _)| *name == word) {
        return Ok(*value);
    }
    let names: Vec<&'static str> = choices.iter().map(|(name, _)| *name).collect();
    let hint = match closest(word, &names) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("known here: {}", listed(names)),
    };
    Err(format!("`{word}` is not known here\n{hint}"))
}

macro_rules! choices {
    ($($type:ty: [$(($name:literal, $value:expr)),* $(,)?];)*) => {$(
        impl Written for $type {
            fn read(word: &str) -> Result<Self, String> {
                choice(word, &[$(($name, $value)),*])
            }

            fn word_schema() -> Schema {
                json_schema!({ "enum": [$($name),*] })
            }
        }
    )*};
}

choices! {
    Role: [
        ("load-balancer", Role::LoadBalancer),
        ("etcd", Role::Etcd),
        ("master", Role::Master),
        ("worker", Role::Worker),
    ];
    ProxyMode: [
        ("none", ProxyMode::None),
        ("iptables", ProxyMode::Iptables),
        ("nftables", ProxyMode::Nftables),
        ("ipvs", ProxyMode::Ipvs),
    ];
    Failover: [("normal", Failover::Normal), ("fast", Failover::Fast)];
    CalicoDataplane: [
        ("ebpf", CalicoDataplane::Ebpf),
        ("iptables", CalicoDataplane::Iptables),
        ("nftables", CalicoDataplane::Nftables),
    ];
    CloneMode: [("linked", CloneMode::Linked), ("full", CloneMode::Full)];
}

/// A number and its unit.
fn quantity(word: &str) -> Option<(u64, &str)> {
    let end = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
    Some((word[..end].parse().ok()?, &word[end..]))
}

impl Written for Duration {
    fn read(word: &str) -> Result<Self, String> {
        let fault = || format!("`{word}` is not a duration\nsuch as `2m`, `90s` or `500ms`");
        let mut rest = word;
        let mut sum = Duration::ZERO;
        while !rest.is_empty() {
            let (count, after) = quantity(rest).ok_or_else(fault)?;
            let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
            let unit_ms = match &after[..end] {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                _ => return Err(fault()),
            };
            let part = count.checked_mul(unit_ms).ok_or_else(fault)?;
            sum = sum.checked_add(Duration::from_millis(part)).ok_or_else(fault)?;
            rest = &after[end..];
        }
        if word.is_empty() { Err(fault()) } else { Ok(sum) }
    }

    fn word_schema() -> Schema {
        json_schema!({ "type": "string", "pattern": r"^([0-9]+(ms|s|m|h))+$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint<T: Written + std::fmt::Debug>(word: &str) -> String {
        T::read(word).unwrap_err()
    }

    #[test]
    fn spans_of_time_may_have_parts() {
        assert_eq!(Duration::read("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(Duration::read("500ms"), Ok(Duration::from_millis(500)));
        for word in ["", "2", "m", "2 m", "2d", "99999999999999999h"] {
            assert!(Duration::read(word).is_err(), "{word}");
        }
    }

    #[test]
    fn a_network_has_no_host_bits() {
        assert!(hint::<Ipv4Net>("10.101.1.5/24").contains("`10.101.1.0/24`"));
        assert!(hint::<Ipv4Addr>("10.101.1.5/24").contains("`10.101.1.5`"));
    }

    #[test]
    fn kernels_have_three_spellings() {
        assert_eq!(Kernel::read("hwe"), Ok(Kernel::Hwe));
        let version = Version { major: 6, minor: 6, patch: 1 };
        assert_eq!(Kernel::read("mainline-6.6.1"), Ok(Kernel::Mainline(version)));
        assert!(Kernel::read("6.6.1").is_err());
        assert!(hint::<Role>("masterr").contains("did you mean `master`?"));
    }
}
