//! The machine that answers at an address: guests, the virtual address, etcd's members, or none.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

use super::super::Guests;
use super::super::etcd::Base;
use super::super::guest::Guest;
use super::lb;

/// The result of a TCP connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// No machine has the address.
    NoRoute,
    /// A machine has it, but nothing listens on the port.
    Refused,
    /// The sshd of this guest.
    Ssh(String),
    /// The API server of this guest, directly or through a load balancer.
    Api(String),
    /// An API server whose etcd does not answer: it listens and serves nothing.
    Ill(String),
    /// A load balancer without a server that is up: it accepts and closes.
    Closed,
    /// An etcd member.
    Etcd(Base),
}

/// Seconds for which a neighbour caches what it has learned of an address (Linux's
/// `base_reachable_time`).
const NEIGHBOUR: u64 = 30;

impl Guests {
    /// The guest that has an address of its own now.
    ///
    /// If several guests have it, all of them answer ARP, and the client caches one answer. Here the
    /// guests take turns, each for [`NEIGHBOUR`] seconds: connections reach one machine or the other,
    /// and open ones end.
    pub(crate) fn at(&self, ip: Ipv4Addr) -> Option<(&String, &Guest)> {
        let mut holders = self.all.iter().filter(|(_, guest)| guest.address() == Some(ip));
        let first = holders.next()?;
        let rest: Vec<_> = holders.collect();
        let turn = (self.now.0 / 1000 / NEIGHBOUR) as usize % (rest.len() + 1);
        Some(turn.checked_sub(1).and_then(|index| rest.get(index).copied()).unwrap_or(first))
    }

    /// The addresses that more than one running guest has, with the names of their VMs.
    pub fn conflicts(&self) -> BTreeMap<Ipv4Addr, Vec<String>> {
        let mut held: BTreeMap<Ipv4Addr, Vec<String>> = BTreeMap::new();
        for guest in self.all.values() {
            if let Some(address) = guest.address() {
                held.entry(address).or_default().push(guest.machine.name.clone());
            }
        }
        held.retain(|_, names| names.len() > 1);
        held
    }

    /// The cluster CA of a master's API server, which signed its certificate.
    pub(crate) fn api_ca(&self, key: &str) -> Option<&str> {
        self.all.get(key)?.text("/etc/kubernetes/pki/ca.crt")
    }

    /// Whether this guest's API server runs.
    fn api_runs(&self, key: &str) -> bool {
        let Some(guest) = self.all.get(key) else { return false };
        let Some(run) = &guest.run else { return false };
        run.api_at.is_some_and(|at| at <= self.now)
            && guest.active("kubelet")
            && guest.active("containerd")
            && guest.exists("/etc/kubernetes/manifests/kube-apiserver.yaml")
            && self.store(key).is_some()
    }

    /// The etcd that a guest's API server is connected to: the machine's own if etcd is on the masters.
    fn store(&self, key: &str) -> Option<Base> {
        let id = self.all.get(key)?.disk.kube.as_ref()?;
        if self.kubes.get(id)?.external {
            return Some(Base::Site);
        }
        // An API server that does not find its etcd at its start exits.
        let (base, member) = self.own_member(key)?;
        (base == Base::Stacked(id.clone()) && !member.learner).then_some(base)
    }

    /// Whether this guest's API server serves.
    pub(crate) fn api_up(&self, key: &str) -> bool {
        self.api_runs(key) && self.store(key).is_some_and(|base| self.quorum(&base))
    }

    /// The result of a connection to an address and port.
    pub(crate) fn dial(&self, to: SocketAddrV4) -> Reach {
        if let Some(up) = self.etcd_member(to) {
            return if up { Reach::Etcd(Base::Site) } else { Reach::Refused };
        }
        if let Some(base) = self.stacked_at(to) {
            return base.map_or(Reach::Refused, Reach::Etcd);
        }
        let found = self.at(*to.ip()).or_else(|| {
            let key = self.vips.get(to.ip())?;
            self.all.get_key_value(key)
        });
        let Some((key, guest)) = found else { return Reach::NoRoute };
        if to.port() == 22 {
            let sshd = guest.run.as_ref().is_some_and(|run| run.sshd);
            return if sshd { Reach::Ssh(key.clone()) } else { Reach::Refused };
        }
        if guest.active("haproxy")
            && let Some(frontend) = self.frontends(guest).into_iter().find(|frontend| {
                frontend.port == to.port() && frontend.address.is_none_or(|ip| ip == *to.ip())
            })
        {
            let up = frontend.servers.iter().find_map(|server| {
                let (key, _) = self.at(*server.ip()).filter(|_| server.port() == 6443)?;
                self.api_up(key).then(|| key.clone())
            });
            return up.map_or(Reach::Closed, Reach::Api);
        }
        match to.port() {
            6443 if self.api_up(key) => Reach::Api(key.clone()),
            6443 if self.api_runs(key) => Reach::Ill(key.clone()),
            _ => Reach::Refused,
        }
    }

    /// The configuration that haproxy has loaded; the file may have changed since.
    fn frontends(&self, guest: &Guest) -> Vec<lb::Frontend> {
        lb::haproxy(lb::HAPROXY, guest.in_use("haproxy")).unwrap_or_default()
    }
}
