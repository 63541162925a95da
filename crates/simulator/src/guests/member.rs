//! etcd on guests: when it starts, when it refuses to, and when it has a quorum.
//!
//! Source of rules and words: etcd's server/etcdserver/bootstrap.go and server/embed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};

use sha2::{Digest as _, Sha256};

use super::etcd::{Etcd, Member};
use super::guest::Guest;
use super::pki::{Authority, Pair};
use super::units::{State, Unit};
use super::{Guests, kube, tls};

/// The unit's name.
pub const UNIT: &str = "etcd";
/// Its condition: it does not start before this file exists.
pub const INITIAL: &str = "/etc/etcd/initial.env";
const SETTINGS: &str = "/etc/etcd/etcd.env";
/// The data directory; it identifies the cluster and the member.
pub(super) const DATA: &str = "/var/lib/etcd/member/wal";

/// A member's settings, as in its environment.
struct Settings(BTreeMap<String, String>);

impl Settings {
    fn of(guest: &Guest) -> Self {
        let texts = [SETTINGS, INITIAL].map(|path| guest.text(path).unwrap_or_default());
        let lines = texts.iter().flat_map(|text| text.lines());
        let pairs = lines.filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (key, value) = line.split_once('=')?;
            Some((key.trim().to_owned(), value.trim().to_owned()))
        });
        Self(pairs.collect())
    }

    fn get(&self, key: &str) -> &str {
        self.0.get(&format!("ETCD_{key}")).map(String::as_str).unwrap_or_default()
    }

    /// Every member's name and peer address.
    fn initial(&self) -> Vec<(String, SocketAddrV4)> {
        let pairs = self.get("INITIAL_CLUSTER").split(',');
        pairs
            .filter_map(|pair| pair.split_once('='))
            .filter_map(|(name, url)| Some((name.to_owned(), address(url)?)))
            .collect()
    }
}

/// The address in `https://ADDRESS:PORT`.
pub fn address(url: &str) -> Option<SocketAddrV4> {
    url.strip_prefix("https://")?.parse().ok()
}

fn number(text: &str) -> u64 {
    Sha256::digest(text).iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

impl Guest {
    /// The first result of starting the unit: whether there is a quorum shows later.
    pub fn etcd_started(&self) -> Unit {
        if self.text(INITIAL).is_none() {
            let line = format!(
                "etcd.service was skipped because of a failed condition check \
                 (ConditionPathExists={INITIAL})."
            );
            return Unit::new(State::Inactive, "dead", vec![line]);
        }
        let there = ["/usr/local/bin/etcd", "/usr/bin/etcd"].iter().any(|path| self.exists(path));
        if !there && !self.disk.packages.contains_key("etcd-server") {
            let line = "etcd.service: Failed at step EXEC spawning etcd: No such file or directory";
            return Unit::new(State::Failed, "failed", vec![line.to_owned()]);
        }
        Unit::new(State::Activating, "start", vec!["Starting etcd...".to_owned()])
    }

    /// The cluster and the member that its data belongs to.
    pub(super) fn etcd_data(&self) -> Option<(u64, u64)> {
        let (cluster, member) = self.text(DATA)?.split_once(' ')?;
        Some((cluster.parse().ok()?, member.parse().ok()?))
    }

    fn etcd_runs(&self) -> bool {
        let unit = self.run.as_ref().and_then(|run| run.units.get(UNIT));
        unit.is_some_and(|unit| matches!(unit.state, State::Active | State::Activating))
    }

    /// The certificate of this member's server.
    pub fn etcd_server(&self) -> Option<&str> {
        self.text(Settings::of(self).get("CERT_FILE"))
    }
}

impl Guests {
    /// Starts the etcd on guests, or makes it fail, as far as possible now.
    pub(super) fn settle_etcd(&mut self) {
        let starting: Vec<String> = self
            .all
            .iter()
            .filter(|(_, guest)| guest.address().is_some())
            .filter(|(_, guest)| {
                let unit = guest.run.as_ref().and_then(|run| run.units.get(UNIT));
                unit.is_some_and(|unit| unit.state == State::Activating)
            })
            .map(|(key, _)| key.clone())
            .collect();
        let mut entered = Vec::new();
        for key in starting {
            match self.enter(&key) {
                Ok(()) => entered.push(key),
                // systemd restarts it repeatedly; the next look is the next attempt.
                Err(line) => self.set_etcd(&key, State::Activating, "auto-restart", line),
            }
        }
        if !self.etcd_quorum() {
            return;
        }
        for key in entered {
            self.set_etcd(&key, State::Active, "running", "ready to serve client requests".into());
            let Some(guest) = self.all.get(&key) else { continue };
            let settings = Settings::of(guest);
            let client = address(settings.get("ADVERTISE_CLIENT_URLS"));
            let (name, id) = (settings.get("NAME").to_owned(), guest.etcd_data());
            let members = self.etcd.iter_mut().flat_map(|etcd| &mut etcd.members);
            for member in members.filter(|member| id.is_some_and(|(_, id)| id == member.id)) {
                member.name.clone_from(&name);
                member.client = client;
            }
        }
    }

    fn set_etcd(&mut self, key: &str, state: State, sub: &str, line: String) {
        let run = self.all.get_mut(key).and_then(|guest| guest.run.as_mut());
        if let Some(unit) = run.and_then(|run| run.units.get_mut(UNIT)) {
            unit.state = state;
            sub.clone_into(&mut unit.sub);
            if unit.journal.last() != Some(&line) {
                unit.journal.push(line);
            }
        }
    }

    /// Admits a member to its cluster, or returns why not.
    fn enter(&mut self, key: &str) -> Result<(), String> {
        let unix = self.unix();
        let Some(guest) = self.all.get(key) else { return Err("gone".to_owned()) };
        let settings = Settings::of(guest);
        if guest.address().is_some_and(|ip| self.member_down(ip)) {
            return Err("panic: failed to open WAL: read: input/output error".to_owned());
        }
        let ca = certificates(guest, &settings, unix)?;
        if let Some((cluster, id)) = guest.etcd_data() {
            return match &self.etcd {
                Some(etcd) if etcd.cluster != cluster => {
                    Err("request cluster ID mismatch".to_owned())
                }
                Some(etcd) if etcd.members.iter().any(|member| member.id == id) => Ok(()),
                _ => Err("the member has been permanently removed from the cluster".to_owned()),
            };
        }
        let initial = settings.initial();
        let name = settings.get("NAME");
        let own = address(settings.get("INITIAL_ADVERTISE_PEER_URLS"));
        let Some(own) = own.filter(|own| initial.contains(&(name.to_owned(), *own))) else {
            return Err(format!(
                "couldn't find local name \"{name}\" in the initial cluster configuration"
            ));
        };
        let token = settings.get("INITIAL_CLUSTER_TOKEN").to_owned();
        let (cluster, id) = match settings.get("INITIAL_CLUSTER_STATE") {
            "new" => self.begin(&token, &initial, own, &ca)?,
            _ => self.join(&initial, own)?,
        };
        if let Some(guest) = self.all.get_mut(key) {
            guest.write(DATA, format!("{cluster} {id}"), "0600");
        }
        Ok(())
    }

    /// A member that starts together with its cluster.
    fn begin(
        &mut self,
        token: &str,
        initial: &[(String, SocketAddrV4)],
        own: SocketAddrV4,
        ca: &str,
    ) -> Result<(u64, u64), String> {
        let cluster = number(&format!("{token} {initial:?}"));
        let id = |peer: &SocketAddrV4| number(&format!("{token} {peer}"));
        match &self.etcd {
            None => {
                let members = initial.iter().map(|(name, peer)| Member {
                    id: id(peer),
                    name: name.clone(),
                    peer: Some(*peer),
                    client: None,
                    learner: false,
                });
                self.etcd = Some(Etcd {
                    ca: Authority {
                        pair: Pair { cert: ca.to_owned(), key: String::new() },
                        ..Authority::default()
                    },
                    client: Pair::default(),
                    cluster,
                    members: members.collect(),
                    kv: BTreeMap::new(),
                    revision: 1,
                });
            }
            Some(etcd) if etcd.cluster != cluster => {
                return Err("request cluster ID mismatch".to_owned());
            }
            Some(etcd) => {
                let known = etcd.members.iter().find(|member| member.peer == Some(own));
                if known.is_some_and(|member| member.client.is_some()) {
                    return Err(format!("member {:x} has already been bootstrapped", id(&own)));
                }
            }
        }
        Ok((cluster, id(&own)))
    }

    /// A member that was added to a working cluster.
    fn join(
        &self,
        initial: &[(String, SocketAddrV4)],
        own: SocketAddrV4,
    ) -> Result<(u64, u64), String> {
        let Some(etcd) = self.etcd.as_ref().filter(|_| self.etcd_quorum()) else {
            return Err("cannot fetch cluster info from peer urls: could not retrieve cluster \
                        information from the given URLs"
                .to_owned());
        };
        let peers: BTreeSet<SocketAddrV4> = etcd.members.iter().filter_map(|m| m.peer).collect();
        let given: BTreeSet<SocketAddrV4> = initial.iter().map(|(_, peer)| *peer).collect();
        if peers != given {
            return Err("error validating peerURLs: member count is unequal".to_owned());
        }
        let own = etcd.members.iter().find(|member| member.peer == Some(own));
        own.map(|member| (etcd.cluster, member.id)).ok_or_else(|| "not a member".to_owned())
    }

    /// Whether a member on a guest runs; `None` if no guest has its address.
    pub(super) fn machine_up(&self, ip: Ipv4Addr, id: u64) -> Option<bool> {
        let (_, guest) = self.at(ip)?;
        let own = guest.etcd_data().is_some_and(|(_, own)| own == id);
        Some(own && guest.etcd_runs() && !self.member_down(ip))
    }

    /// Whether a member on a guest serves clients.
    pub(super) fn machine_serves(&self, ip: Ipv4Addr) -> bool {
        self.at(ip).is_some_and(|(_, guest)| guest.active(UNIT)) && !self.member_down(ip)
    }

    /// Removes an etcd without any data left.
    pub(super) fn forget_etcd(&mut self) {
        let Some(etcd) = self.etcd.as_ref().filter(|etcd| etcd.is_on_guests()) else { return };
        let cluster = etcd.cluster;
        let mut data = self.all.values().filter_map(Guest::etcd_data);
        if !data.any(|(of, _)| of == cluster) {
            self.etcd = None;
            self.kubes.remove(kube::EXTERNAL);
        }
    }
}

/// Reads a member's certificates as etcd does at its start, and returns the CA.
fn certificates(guest: &Guest, settings: &Settings, unix: i64) -> Result<String, String> {
    let read = |key: &str| {
        let path = settings.get(key);
        let text = guest.text(path);
        let file = guest.disk.files.get(path);
        match text {
            None => Err(format!("open {path}: no such file or directory")),
            Some(_) if file.is_some_and(|file| file.owner != "etcd:etcd") => {
                Err(format!("open {path}: permission denied"))
            }
            Some(text) => Ok(text),
        }
    };
    let ca = read("TRUSTED_CA_FILE")?;
    for (cert, key) in [("CERT_FILE", "KEY_FILE"), ("PEER_CERT_FILE", "PEER_KEY_FILE")] {
        let (cert, key) = (read(cert)?, read(key)?);
        if !tls::belong(cert, key) {
            return Err("tls: private key does not match public key".to_owned());
        }
        // Members connect to each other, and etcd's gateway to its own server, as clients.
        if !tls::admits(ca, cert, unix) {
            return Err("remote error: tls: bad certificate".to_owned());
        }
    }
    Ok(ca.to_owned())
}
