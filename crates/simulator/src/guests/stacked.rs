//! The etcd on the masters of a cluster: its files, and its running members.
//!
//! The member list belongs to the cluster and outlives the machines: a lost machine leaves a member
//! that counts for the quorum and never answers.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::etcd::{Base, Etcd, Member};
use super::guest::Guest;
use super::member::DATA;
use super::pki::{Authority, Pair};
use super::{Guests, pki};

/// The static pod.
pub const MANIFEST: &str = "/etc/kubernetes/manifests/etcd.yaml";
/// The log of its container.
pub const LOG: &str = "/var/log/pods/kube-system_etcd/etcd/0.log";
/// The folder of the certificates.
const PKI: &str = "/etc/kubernetes/pki";

/// A member's peer address, and its client address.
pub fn addresses(ip: Ipv4Addr) -> (SocketAddrV4, SocketAddrV4) {
    (SocketAddrV4::new(ip, 2380), SocketAddrV4::new(ip, 2379))
}

impl Guest {
    /// Whether the static pod of etcd runs.
    fn etcd_pod_runs(&self) -> bool {
        let begun = self.run.as_ref().is_some_and(|run| run.etcd_at.is_some());
        begun && self.active("containerd") && self.disk.files.contains_key(MANIFEST)
    }

    /// The certificate of the etcd on this master.
    pub fn stacked_server(&self) -> Option<&str> {
        self.text(&format!("{PKI}/etcd/server.crt"))
    }
}

impl Guests {
    /// Creates a new cluster of one member on a machine.
    pub(super) fn begin_stacked(&mut self, key: &str, name: &str, ca: Authority) -> Option<Etcd> {
        let ip = self.all.get(key)?.address()?;
        let (peer, client) = addresses(ip);
        let (cluster, id): (u64, u64) = (rand::random_range(1..u64::MAX), rand::random());
        let member = Member {
            id,
            name: name.to_owned(),
            peer: Some(peer),
            client: Some(client),
            learner: false,
        };
        self.keep_data(key, cluster, id);
        let kv = std::collections::BTreeMap::new();
        let client = Pair::default();
        Some(Etcd { ca, client, cluster, members: vec![member], kv, revision: 1 })
    }

    /// A member's data directory, and its start.
    pub(super) fn keep_data(&mut self, key: &str, cluster: u64, id: u64) {
        let now = self.now;
        if let Some(guest) = self.all.get_mut(key) {
            guest.write(DATA, format!("{cluster} {id}"), "0600");
            let line = r#"{"level":"info","msg":"ready to serve client requests"}"#;
            guest.append(LOG, &[line.to_owned()]);
            if let Some(run) = &mut guest.run {
                run.etcd_at = Some(now);
            }
        }
    }

    /// Writes the certificates of etcd on a master (phases/certs), including the CA's own.
    ///
    /// # Errors
    /// If a certificate cannot contain one of the names.
    pub(super) fn stacked_certificates(
        &mut self,
        key: &str,
        ca: &Authority,
        node: &str,
    ) -> std::io::Result<()> {
        let unix = self.unix();
        let Some(guest) = self.all.get_mut(key) else { return Ok(()) };
        let ip = guest.address().map(|ip| ip.to_string());
        let mut names = vec![node.to_owned(), "localhost".to_owned(), "127.0.0.1".to_owned()];
        names.extend(ip);
        let masters = Some("system:masters");
        let server = ca.issue(node, None, &names, unix)?;
        let peer = ca.issue(node, None, &names, unix)?;
        let health = ca.issue("kube-etcd-healthcheck-client", masters, &[], unix)?;
        let api = ca.issue("kube-apiserver-etcd-client", masters, &[], unix)?;
        for (name, pair) in [
            ("etcd/ca", &ca.pair),
            ("etcd/server", &server),
            ("etcd/peer", &peer),
            ("etcd/healthcheck-client", &health),
            ("apiserver-etcd-client", &api),
        ] {
            guest.write(&format!("{PKI}/{name}.crt"), pair.cert.clone(), "0644");
            guest.write(&format!("{PKI}/{name}.key"), pair.key.clone(), "0600");
        }
        Ok(())
    }

    /// The etcd CA on a machine, or a new one.
    ///
    /// # Errors
    /// If no key can be created.
    pub(super) fn stacked_authority(&self, key: &str) -> std::io::Result<Authority> {
        let text = |name: &str| {
            let guest = self.all.get(key)?;
            guest.text(&format!("{PKI}/etcd/{name}")).map(str::to_owned)
        };
        match text("ca.crt").zip(text("ca.key")) {
            Some((cert, private)) => {
                let pair = Pair { cert, key: private };
                let mut known = self.kubes.values().filter_map(|kube| kube.etcd.as_ref());
                let since = known.find(|etcd| etcd.ca.pair == pair).map(|etcd| etcd.ca.since);
                let since = since.unwrap_or(self.unix() - 300);
                Ok(Authority { name: "etcd-ca".to_owned(), pair, since })
            }
            None => pki::Authority::new("etcd-ca", self.unix() - 300),
        }
    }

    /// Whether a member runs on the machine that has its address now: with its own data, and a running
    /// pod.
    pub(super) fn stacked_up(&self, ip: Ipv4Addr, id: u64) -> bool {
        self.at(ip).is_some_and(|(_, guest)| {
            guest.etcd_pod_runs()
                && guest.etcd_data().is_some_and(|(_, own)| own == id)
                && !self.member_down(ip)
        })
    }

    /// The cluster member that a master's own etcd is; `None` if it does not run or was removed.
    pub(super) fn own_member(&self, key: &str) -> Option<(Base, &Member)> {
        let guest = self.all.get(key).filter(|guest| guest.etcd_pod_runs())?;
        let (cluster, id) = guest.etcd_data()?;
        self.kubes.iter().find_map(|(kube, known)| {
            let etcd = known.etcd.as_ref().filter(|etcd| etcd.cluster == cluster)?;
            let member = etcd.members.iter().find(|member| member.id == id)?;
            let ip = *member.peer?.ip();
            let here = guest.address() == Some(ip) && !self.member_down(ip);
            here.then(|| (Base::Stacked(kube.clone()), member))
        })
    }

    /// The service on a master's client port: `None` if it is not a master with an etcd.
    pub(super) fn stacked_at(&self, to: SocketAddrV4) -> Option<Option<Base>> {
        let (key, guest) = self.at(*to.ip()).filter(|_| to.port() == 2379)?;
        let is_master = guest.disk.files.contains_key(MANIFEST);
        is_master.then(|| self.own_member(key).map(|(base, _)| base))
    }

    /// A started member publishes its name and client URL to its cluster.
    pub(super) fn settle_stacked(&mut self) {
        let mut started = Vec::new();
        for (id, kube) in &self.kubes {
            let members = kube.etcd.iter().flat_map(|etcd| &etcd.members);
            let fresh = members.filter(|member| member.client.is_none());
            for (member, peer) in fresh.filter_map(|member| Some((member, member.peer?))) {
                if self.stacked_up(*peer.ip(), member.id) {
                    let name = self.at(*peer.ip()).map(|(_, guest)| guest.node_name());
                    started.push((id.clone(), member.id, name.unwrap_or_default(), peer));
                }
            }
        }
        for (kube, id, name, peer) in started {
            let etcd = self.kubes.get_mut(&kube).and_then(|kube| kube.etcd.as_mut());
            let members = etcd.into_iter().flat_map(|etcd| &mut etcd.members);
            for member in members.filter(|member| member.id == id) {
                member.name.clone_from(&name);
                member.client = Some(addresses(*peer.ip()).1);
            }
        }
        self.complain_of_removal();
    }

    /// etcd's message on a machine whose member was removed: it does not start with that data.
    fn complain_of_removal(&mut self) {
        let lost: Vec<String> = self
            .all
            .iter()
            .filter(|(key, guest)| {
                guest.etcd_pod_runs() && guest.address().is_some() && self.own_member(key).is_none()
            })
            .map(|(key, _)| key.clone())
            .collect();
        for key in lost {
            if let Some(guest) = self.all.get_mut(&key) {
                let line = "the member has been permanently removed from the cluster".to_owned();
                if guest.text(LOG).is_none_or(|text| !text.contains(&line)) {
                    guest.append(LOG, &[line]);
                }
            }
        }
    }

    /// Removes clusters whose etcd has no data left.
    pub(super) fn forget_stacked(&mut self) {
        let data: Vec<u64> =
            self.all.values().filter_map(|guest| guest.etcd_data().map(|(of, _)| of)).collect();
        self.kubes.retain(|_, kube| match &kube.etcd {
            Some(etcd) => data.contains(&etcd.cluster),
            None => kube.external,
        });
    }
}

impl Guest {
    /// The name in this machine's kubelet credentials, or its host name.
    fn node_name(&self) -> String {
        let conf = self.text(super::node::KUBELET_CONF);
        let named = conf.and_then(|text| super::node::field(text, "user: system:node:"));
        named.map_or_else(|| self.disk.hostname.clone(), str::to_owned)
    }
}
