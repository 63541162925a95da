//! Version numbers, and which kubeadm configuration API a Kubernetes version reads.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// A version of three numbers, such as 1.28.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The first number.
    pub major: u16,
    /// The second number.
    pub minor: u16,
    /// The third number.
    pub patch: u16,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Version {
    type Err = String;

    /// Parses `1.28.4`; a leading `v` is accepted too, because Kubernetes writes it.
    fn from_str(text: &str) -> Result<Self, String> {
        let fault = || format!("`{text}` is not a version of three numbers, such as 1.28.4");
        let mut parts = text.strip_prefix('v').unwrap_or(text).split('.');
        let mut next = || -> Result<u16, String> {
            let part = parts.next().ok_or_else(fault)?;
            if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
                return Err(fault());
            }
            part.parse().map_err(|_| fault())
        };
        let version = Version { major: next()?, minor: next()?, patch: next()? };
        match parts.next() {
            None => Ok(version),
            Some(_) => Err(fault()),
        }
    }
}

/// The version of kubeadm's configuration API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KubeadmApi {
    /// Read by 1.22 to 1.36, and the only one up to 1.30.
    V1Beta3,
    /// Read from 1.31 on, and the only one from 1.37 on.
    V1Beta4,
}

impl Version {
    /// The configuration API that this version's kubeadm uses.
    ///
    /// Source: Kubernetes release notes 1.31 (v1beta4 added) and 1.37 (v1beta3 removed).
    pub fn kubeadm_api(self) -> KubeadmApi {
        if (self.major, self.minor) >= (1, 31) { KubeadmApi::V1Beta4 } else { KubeadmApi::V1Beta3 }
    }

    /// `1.28`, the form in the package repositories' names.
    pub(crate) fn minor_text(self) -> String {
        format!("{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_written() {
        for (text, want) in [("1.28.4", "1.28.4"), ("v1.37.1", "1.37.1")] {
            assert_eq!(text.parse::<Version>().unwrap().to_string(), want);
        }
        for text in ["1.28", "1.28.4.5", "1.x.4", "", "1.+2.3"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_configuration_api_changes_at_1_31() {
        assert_eq!("1.30.9".parse::<Version>().unwrap().kubeadm_api(), KubeadmApi::V1Beta3);
        assert_eq!("1.31.0".parse::<Version>().unwrap().kubeadm_api(), KubeadmApi::V1Beta4);
    }
}
