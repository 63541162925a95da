//! The certificates of k8sha's etcd: the CA's key stays in the state folder, the others are
//! installed on the nodes.
//!
//! Each file contains a certificate and its key. A second file records the subject, so that a
//! changed row gets a new certificate.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use secrecy::{ExposeSecret as _, SecretString};

use super::{State, fault};
use crate::cluster::{Cluster, Node, NodeName, Role};
use crate::error::{Exit, Failure};
use crate::files::{Kind, read_text};
use crate::pki::{self, Authority, Pair, Subject};
use crate::secrets;

/// A certificate with less time left than this is renewed. Runs are infrequent, and all members'
/// certificates expire on the same day: a run must renew them before etcd is affected.
const RENEWED: i64 = 30 * 86_400;

/// All certificates of k8sha's etcd.
#[derive(Clone, Debug)]
pub struct EtcdKeys {
    /// The CA's certificate, PEM. Its key stays in the state folder.
    pub ca: String,
    /// Each member's certificates.
    pub members: BTreeMap<NodeName, MemberKeys>,
    /// The API servers' client certificate.
    pub client: Pair,
}

/// A member's certificates.
#[derive(Clone, Debug)]
pub struct MemberKeys {
    /// The certificate for clients.
    pub server: Pair,
    /// The certificate for the other members.
    pub peer: Pair,
}

impl State {
    /// The certificates of k8sha's etcd. Those that are missing, expire within a month or are for
    /// another address are created.
    ///
    /// # Errors
    /// When a file cannot be read, created or written.
    pub fn etcd_keys(&self, cluster: &Cluster) -> Result<EtcdKeys, Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.etcd_keys_at(cluster, i64::try_from(now).unwrap_or(i64::MAX))
    }

    fn etcd_keys_at(&self, cluster: &Cluster, now: i64) -> Result<EtcdKeys, Failure> {
        let shelf = Shelf { state: self };
        let name = format!("etcd-ca of {}", cluster.name);
        let made = || Authority::new(&name, now).map(|authority| authority.pair().clone());
        // A CA is not renewed: every certificate that it has signed would have to be replaced too.
        let pair = shelf.keep("ca", &name, i64::MIN, made)?;
        let authority = Authority::of(&name, pair);
        let signed = |file: &str, subject: &Subject| {
            let whom = format!("{subject} by {}", authority.pair().cert);
            shelf.keep(file, &whom, now + RENEWED, || authority.issue(subject, now))
        };
        let mut members = BTreeMap::new();
        for node in cluster.with_role(Role::Etcd) {
            let subject = member(node);
            let server = signed(&format!("server-{}", node.name), &subject)?;
            let peer = signed(&format!("peer-{}", node.name), &subject)?;
            members.insert(node.name.clone(), MemberKeys { server, peer });
        }
        let client = Subject { name: "kube-apiserver-etcd-client".into(), called: Vec::new() };
        let client = signed("apiserver-etcd-client", &client)?;
        Ok(EtcdKeys { ca: authority.pair().cert.clone(), members, client })
    }

    /// The folder of etcd's keys.
    pub fn etcd_folder(&self) -> PathBuf {
        self.folder.join("etcd")
    }

    /// The file that records that k8sha's etcd has been formed: from then on, a member without data
    /// has lost its data.
    pub(crate) fn etcd_formed(&self) -> PathBuf {
        self.etcd_folder().join("formed")
    }

    /// The existing certificates, each with its expiry in seconds since 1970.
    ///
    /// # Errors
    /// When the folder or a file cannot be read.
    pub(crate) fn etcd_ends(&self) -> io::Result<Vec<(PathBuf, Option<i64>)>> {
        let mut ends = Vec::new();
        for entry in fs::read_dir(self.etcd_folder())? {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == "pem") {
                let text = SecretString::from(read_text(&path, Kind::State)?);
                ends.push((path, pki::ends(text.expose_secret())));
            }
        }
        ends.sort();
        Ok(ends)
    }

    pub(super) fn forget_etcd(&self) -> io::Result<()> {
        match fs::remove_dir_all(self.etcd_folder()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// A member is reached at its address, and at `localhost` on its own machine.
fn member(node: &Node) -> Subject {
    let called = [&node.ip.to_string(), "127.0.0.1", "localhost", node.name.as_str(), &node.fqdn];
    Subject { name: node.fqdn.clone(), called: called.map(str::to_owned).into() }
}

struct Shelf<'a> {
    state: &'a State,
}

impl Shelf<'_> {
    /// The pair of that name; created if there is none for `whom` that is valid beyond `least`.
    fn keep(
        &self,
        name: &str,
        whom: &str,
        least: i64,
        make: impl FnOnce() -> Result<Pair, pki::Error>,
    ) -> Result<Pair, Failure> {
        let (file, beside) = (self.path(name, "pem"), self.path(name, "for"));
        let doing = || format!("read etcd's key `{}`", file.display());
        let read = |path: &Path| self.state.known(path).map_err(|error| fault(&doing(), error));
        let there = read(&file)?;
        // A CA needs no record of its subject, and is never replaced by another one.
        let lasting = least == i64::MIN;
        let known = read(&beside)?.map_or(lasting, |text| text.expose_secret() == whom);
        let pair = there.and_then(|text| Pair::parse(text.expose_secret()));
        if let Some(pair) =
            pair.filter(|pair| known && pair.ends().is_some_and(|ends| ends > least))
        {
            secrets::learn(pair.key.expose_secret());
            return Ok(pair);
        }
        let pair =
            make().map_err(|error| Failure::caused(Exit::Local, "make etcd's keys", error))?;
        secrets::learn(pair.key.expose_secret());
        // The subject is written last: a pair without it, after an interruption, does not count.
        let mut made = self.state.made();
        made.push((file, pair.text()));
        made.push((beside, SecretString::from(whom.to_owned())));
        Ok(pair)
    }

    fn path(&self, name: &str, ending: &str) -> PathBuf {
        self.state.etcd_folder().join(format!("{name}.{ending}"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::cluster::fixture::own_etcd;

    const NOW: i64 = 1_795_000_000;
    const DAY: i64 = 86_400;

    fn all(keys: &EtcdKeys) -> Vec<String> {
        let members = keys.members.values();
        let mut all: Vec<String> =
            members.flat_map(|keys| [keys.server.cert.clone(), keys.peer.cert.clone()]).collect();
        all.push(keys.client.cert.clone());
        all
    }

    #[test]
    fn keys_are_made_once_and_kept_for_their_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path().to_owned()).unwrap();
        let first = state.etcd_keys_at(&own_etcd(), NOW).unwrap();
        let again = state.etcd_keys_at(&own_etcd(), NOW + 300 * DAY).unwrap();
        assert_eq!((&first.ca, all(&first)), (&again.ca, all(&again)));
        assert_eq!(first.members.len(), 3);
        assert!(state.new_keys().etcd && !state.etcd_folder().exists());
        state.keep().unwrap();
        for entry in fs::read_dir(state.etcd_folder()).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let mode = fs::metadata(state.etcd_folder()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn what_ends_within_a_month_is_renewed_under_the_same_authority() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path().to_owned()).unwrap();
        let first = state.etcd_keys_at(&own_etcd(), NOW).unwrap();
        let later = state.etcd_keys_at(&own_etcd(), NOW + 336 * DAY).unwrap();
        assert_eq!(first.ca, later.ca);
        assert!(all(&first).iter().zip(all(&later)).all(|(before, after)| *before != after));
        state.keep().unwrap();
        let ends = state.etcd_ends().unwrap();
        assert_eq!(ends.len(), 1 + 2 * 3 + 1);
        assert!(ends.iter().all(|(_, ends)| *ends >= Some(NOW + (336 + 365) * DAY)));
    }

    #[test]
    fn a_row_with_another_address_gets_another_certificate_and_its_neighbours_none() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path().to_owned()).unwrap();
        let mut cluster = own_etcd();
        let before = all(&state.etcd_keys_at(&cluster, NOW).unwrap());
        let row = cluster.nodes.iter_mut().find(|node| node.role == Role::Etcd).unwrap();
        row.ip = [10, 103, 1, 150].into();
        let after = all(&state.etcd_keys_at(&cluster, NOW).unwrap());
        let changed: Vec<bool> = before.iter().zip(&after).map(|(a, b)| a != b).collect();
        assert_eq!(changed, [true, true, false, false, false, false, false]);
    }

    #[test]
    fn a_forgotten_cluster_takes_its_authority_along() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path().to_owned()).unwrap();
        let before = state.etcd_keys_at(&own_etcd(), NOW).unwrap();
        state.keep().unwrap();
        fs::write(state.etcd_formed(), "").unwrap();
        state.forget().unwrap();
        assert!(!state.etcd_formed().exists());
        assert_ne!(state.etcd_keys_at(&own_etcd(), NOW).unwrap().ca, before.ca);
    }
}
