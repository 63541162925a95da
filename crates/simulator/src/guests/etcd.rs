//! An etcd: members, certificates, keys. It is part of the site from the start, or it runs on guests
//! ([`super::member`]).

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::Guests;
use super::network::EtcdFiles;
use super::pki::{Authority, Pair};

/// Seconds.
const YEAR: i64 = 365 * 86_400;
/// The version that `/version` reports.
pub const VERSION: &str = "3.6.6";

/// An etcd cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Etcd {
    /// The CA that its members and clients trust.
    pub ca: Authority,
    /// The client certificate issued for the API servers.
    pub client: Pair,
    /// The id of its cluster; 0 for the site's etcd.
    pub cluster: u64,
    /// Its members.
    pub members: Vec<Member>,
    /// The keys.
    pub kv: BTreeMap<String, Entry>,
    /// The store's revision.
    pub revision: u64,
}

/// A member as the member list has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// Its name; empty until an added member has started.
    pub name: String,
    /// Its peer URL; unused for the site's etcd.
    pub peer: Option<SocketAddrV4>,
    /// Its client URL, once it has been ready.
    pub client: Option<SocketAddrV4>,
    /// Whether it is a learner, without a vote.
    #[serde(default)]
    pub learner: bool,
}

/// The etcd at the end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// The site's, or the one on dedicated guests.
    Site,
    /// The one on the masters of this cluster ([`super::kube::Kube::etcd`]).
    Stacked(String),
}

/// A key's value and history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The value, base64 as the JSON gateway carries it.
    pub value: String,
    /// The revision that created it.
    pub created: u64,
    /// The revision that last changed it.
    pub modified: u64,
    /// The number of changes since its creation.
    pub version: u64,
}

impl Etcd {
    /// An empty cluster.
    ///
    /// # Errors
    /// If its certificates cannot be created.
    pub fn new(members: Vec<SocketAddrV4>, unix: i64) -> io::Result<Self> {
        let ca = Authority::new("etcd-ca", unix - 3600)?;
        let members = (1..).zip(members).map(|(id, client)| Member {
            id,
            name: String::new(),
            peer: None,
            client: Some(client),
            learner: false,
        });
        let members = members.collect();
        let client = Pair::default();
        let mut etcd = Self { ca, client, cluster: 0, members, kv: BTreeMap::new(), revision: 1 };
        etcd.client = etcd.client(unix)?;
        Ok(etcd)
    }

    /// A client certificate for the API servers, issued at a Unix time.
    fn client(&self, unix: i64) -> io::Result<Pair> {
        self.ca.issue("kube-apiserver-etcd-client", Some("system:masters"), &[], unix)
    }

    /// Whether its members are guests.
    pub fn is_on_guests(&self) -> bool {
        self.cluster != 0
    }

    /// Writes a key.
    pub fn put(&mut self, key: &str, value: String) {
        self.revision += 1;
        let revision = self.revision;
        let fresh = Entry { value: String::new(), created: revision, modified: 0, version: 0 };
        let entry = self.kv.entry(key.to_owned()).or_insert(fresh);
        entry.value = value;
        entry.modified = revision;
        entry.version += 1;
    }

    /// The keys from `start` up to but excluding `end` in etcd's sense: an empty end means this key
    /// only, a zero byte means all keys from `start`.
    pub fn range(&self, start: &[u8], end: &[u8]) -> Vec<String> {
        self.kv
            .keys()
            .filter(|key| {
                let key = key.as_bytes();
                match end {
                    [] => key == start,
                    [0] => key >= start,
                    end => key >= start && key < end,
                }
            })
            .cloned()
            .collect()
    }

    /// Deletes keys and returns their number.
    pub fn delete(&mut self, start: &[u8], end: &[u8]) -> usize {
        let keys = self.range(start, end);
        for key in &keys {
            self.kv.remove(key);
        }
        if !keys.is_empty() {
            self.revision += 1;
        }
        keys.len()
    }

    /// Whether an API server has written here.
    pub fn holds_kubernetes(&self) -> bool {
        self.kv
            .range("/registry/".to_owned()..)
            .next()
            .is_some_and(|(key, _)| key.starts_with("/registry/"))
    }
}

impl Guests {
    /// The operator's files for the site's etcd, if it has one: good files, unless a fault spoils them.
    ///
    /// # Errors
    /// If a certificate cannot be created.
    pub fn etcd_files(&self) -> io::Result<Option<EtcdFiles>> {
        let etcd = self.etcd.as_ref().filter(|etcd| !etcd.is_on_guests());
        let Some(etcd) = etcd else { return Ok(None) };
        let file = |name: &str, whole: &str| {
            let kept = if self.faulty("etcd-file-broken", &[name]) {
                whole.len() / 2
            } else {
                whole.len()
            };
            whole[..kept].to_owned()
        };
        let client = if self.faulty("etcd-cert-expired", &["cert"]) {
            etcd.client(self.epoch - 2 * YEAR)?
        } else {
            etcd.client.clone()
        };
        Ok(Some(EtcdFiles {
            ca: file("ca", &etcd.ca.pair.cert),
            cert: file("cert", &client.cert),
            key: file("key", &client.key),
        }))
    }

    /// Whether this address is a running etcd member; `None` if it is not a member.
    pub fn etcd_member(&self, at: SocketAddrV4) -> Option<bool> {
        let etcd = self.etcd.as_ref()?;
        if etcd.is_on_guests() {
            // Without a guest, no kernel refuses the connection either.
            return (at.port() == 2379 && self.at(*at.ip()).is_some())
                .then(|| self.machine_serves(*at.ip()))
                .filter(|serves| *serves || etcd.members.iter().any(|m| m.client == Some(at)));
        }
        let known = etcd.members.iter().any(|member| member.client == Some(at));
        known.then(|| !self.member_down(*at.ip()))
    }

    pub(crate) fn member_down(&self, ip: Ipv4Addr) -> bool {
        self.faulty("etcd-member-down", &[&ip.to_string()])
    }

    /// Whether more than half of the members run.
    pub(crate) fn etcd_quorum(&self) -> bool {
        self.quorum(&Base::Site)
    }

    /// Writes a key of a cluster's API server into its etcd.
    pub(crate) fn note_in_etcd(&mut self, kube: &str, key: &str) {
        let base = match self.kubes.get(kube).map(|kube| kube.external) {
            Some(false) => Base::Stacked(kube.to_owned()),
            _ => Base::Site,
        };
        if let Some(etcd) = self.etcd_of_mut(&base) {
            // The value that the API server writes is protobuf after this magic number.
            etcd.put(key, STANDARD.encode(b"k8s\0"));
        }
    }

    /// An etcd.
    pub(crate) fn etcd_of(&self, base: &Base) -> Option<&Etcd> {
        match base {
            Base::Site => self.etcd.as_ref(),
            Base::Stacked(id) => self.kubes.get(id)?.etcd.as_ref(),
        }
    }

    /// An etcd.
    pub(crate) fn etcd_of_mut(&mut self, base: &Base) -> Option<&mut Etcd> {
        match base {
            Base::Site => self.etcd.as_mut(),
            Base::Stacked(id) => self.kubes.get_mut(id)?.etcd.as_mut(),
        }
    }

    /// Whether a member runs.
    pub(crate) fn member_up(&self, base: &Base, member: &Member) -> bool {
        match (base, member.peer, member.client) {
            (Base::Stacked(_), Some(peer), _) => self.stacked_up(*peer.ip(), member.id),
            (Base::Site, Some(peer), _) => self.machine_up(*peer.ip(), member.id) == Some(true),
            (_, None, Some(client)) => !self.member_down(*client.ip()),
            (_, None, None) => false,
        }
    }

    /// Whether more than half of an etcd's voters run.
    pub(crate) fn quorum(&self, base: &Base) -> bool {
        self.etcd_of(base).is_some_and(|etcd| {
            let voters = etcd.members.iter().filter(|member| !member.learner);
            let up = voters.clone().filter(|member| self.member_up(base, member)).count();
            up * 2 > voters.count()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_half_open_and_a_zero_byte_means_the_end() {
        let mut etcd = Etcd::new(Vec::new(), 1_790_000_000).unwrap();
        for key in ["/k8sha/owner", "/registry/a", "/registry/b", "/zoo"] {
            etcd.put(key, String::new());
        }
        assert_eq!(etcd.range(b"/registry/", b"/registry0").len(), 2);
        assert_eq!(etcd.range(b"/registry/a", b"").len(), 1);
        assert_eq!(etcd.range(b"/k8sha/owner", &[0]).len(), 4);
        assert!(etcd.holds_kubernetes());
        assert_eq!(etcd.delete(b"/registry/", b"/registry0"), 2);
        assert!(!etcd.holds_kubernetes());
    }
}
