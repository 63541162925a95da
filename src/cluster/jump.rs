//! The jump host through which nodes are reached if there is no direct route.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Serialize;

/// The default port of an SSH server.
const SSH_PORT: u16 = 22;

/// A jump host, and the source of its host key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Jump {
    /// Its name or address.
    pub host: String,
    /// The port of its SSH server.
    pub port: u16,
    /// The login user there.
    pub user: String,
    /// Its host key, in the form of an OpenSSH public key.
    pub host_key: Option<String>,
    /// The `known_hosts` file with its key, if `host_key` is not set; by default the operator's
    /// own.
    pub known_hosts: Option<PathBuf>,
}

impl FromStr for Jump {
    type Err = String;

    /// Parses `user@host[:port]`; an IPv6 address with a port needs brackets.
    fn from_str(text: &str) -> Result<Self, String> {
        let such = "such as `ops@bastion.example.org:22`";
        let (user, place) = text
            .rsplit_once('@')
            .ok_or_else(|| format!("`{text}` contains no user for the jump host: {such}"))?;
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(|| {
                    format!("`{place}` has no `]`: such as `ops@[2001:db8::1]:22`")
                })?;
                (host, port.strip_prefix(':'))
            }
            // More than one colon means an IPv6 address without a port.
            None if place.matches(':').count() > 1 => (place, None),
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        let port = match port {
            None => SSH_PORT,
            Some(port) => port
                .parse()
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(|| format!("`{port}` is not a port: 1 to 65535"))?,
        };
        let (host, user) = (host_name(host)?, account(user)?);
        Ok(Self { host, port, user, host_key: None, known_hosts: None })
    }
}

impl fmt::Display for Jump {
    /// `user@host:port`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "{}@[{}]:{}", self.user, self.host, self.port)
        } else {
            write!(f, "{}@{}:{}", self.user, self.host, self.port)
        }
    }
}

/// Parses the name or address of a machine, in lower case.
///
/// # Errors
/// If it is neither.
pub(crate) fn host_name(word: &str) -> Result<String, String> {
    let fault = || format!("`{word}` is neither a host name nor an address");
    if let Ok(address) = word.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    let label = |label: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(inner)
            && !label.starts_with('-')
    };
    // Digits and dots that are not an address are a mistyped one.
    let numeric = word.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if numeric || word.len() > 253 || !word.split('.').all(label) {
        return Err(fault());
    }
    Ok(word.to_ascii_lowercase())
}

/// Parses the name of an account on a machine that k8sha did not create; it may be root.
///
/// # Errors
/// If no system allows such a name.
pub(crate) fn account(word: &str) -> Result<String, String> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '@' | '+');
    if !word.is_empty() && !word.starts_with('-') && word.chars().all(inner) {
        return Ok(word.to_owned());
    }
    Err(format!("`{word}` is not a user name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_host_is_written_as_for_ssh() {
        for (text, host, port, shown) in [
            ("ops@bastion", "bastion", 22, "ops@bastion:22"),
            (
                "ops@Bastion.Example.org:2222",
                "bastion.example.org",
                2222,
                "ops@bastion.example.org:2222",
            ),
            ("ops@10.0.0.5:22", "10.0.0.5", 22, "ops@10.0.0.5:22"),
            ("ops@[2001:db8::1]:2222", "2001:db8::1", 2222, "ops@[2001:db8::1]:2222"),
            ("ops@2001:db8::1", "2001:db8::1", 22, "ops@[2001:db8::1]:22"),
        ] {
            let jump: Jump = text.parse().unwrap();
            assert_eq!((jump.host.as_str(), jump.port), (host, port), "{text}");
            assert_eq!(jump.to_string(), shown);
        }
        assert_eq!("me@corp.org@bastion".parse::<Jump>().unwrap().user, "me@corp.org");
    }

    #[test]
    fn what_is_no_jump_host_is_told_why() {
        for (text, why) in [
            ("bastion", "contains no user"),
            ("@bastion", "not a user name"),
            ("-oProxyCommand=x@bastion", "not a user name"),
            ("ops@", "neither a host name"),
            ("ops@10.0.0.300", "neither a host name"),
            ("ops@-bastion", "neither a host name"),
            ("ops@bastion:0", "not a port"),
            ("ops@bastion:ssh", "not a port"),
            ("ops@[2001:db8::1", "has no `]`"),
            ("ops@bas tion", "neither a host name"),
        ] {
            let error = text.parse::<Jump>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
