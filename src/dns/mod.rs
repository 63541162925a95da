//! Checks on every name server that each name of the cluster resolves to the right address.
//!
//! [`questions`] lists the expected answers, [`Resolver`] or [`node`] collects the actual ones, and
//! `verdict` compares them. A wrong zone costs seconds if it is found here, and minutes if kubeadm
//! finds it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::Serialize;
use tokio::task::JoinSet;

use crate::cluster::{Cluster, Role};
use crate::net::Dialer;

mod matrix;
pub mod node;
mod records;
mod resolver;
mod verdict;
mod wildcard;

pub use records::Records;
pub use resolver::{Error, Resolver};
pub use verdict::{Cell, Finding, Heard, Report, Row, Severity, judge};

/// The port of name servers.
const PORT: u16 = 53;

/// How a name is queried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The API's short name, completed by the search domain.
    ApiBySearch,
    /// The API's full name.
    Api,
    /// A node's full name.
    Node,
    /// The name of an address: a reverse lookup.
    Reverse,
    /// A made-up name that must not resolve.
    Nowhere,
}

/// A query, and the answer that every server must give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// How the name is queried.
    pub kind: Kind,
    /// The name; for [`Kind::Reverse`], the name that the address must have.
    pub name: String,
    /// The address that the name must have; for [`Kind::Reverse`], the queried address.
    pub address: Ipv4Addr,
}

/// The answer of a server, or of a node's own resolver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Addresses, sorted.
    Addresses(Vec<Ipv4Addr>),
    /// Names of an address, without the trailing dot.
    Names(Vec<String>),
    /// The name does not exist.
    NxDomain,
    /// The name exists, but has no record of this type.
    NoRecords,
    /// The server refuses the query.
    Refused,
    /// No answer within the limit.
    Silent,
    /// Any other error, verbatim.
    Failed(String),
}

/// All questions about a cluster. The API's name must resolve to exactly the VIP, both in full and
/// through the search domain, and every node's name to exactly its address. Each address must have
/// its name, but a wrong reverse record is only a warning.
pub fn questions(cluster: &Cluster) -> Vec<Question> {
    let api = &cluster.api;
    let ask = |kind, name: &str, address| Question { kind, name: name.to_owned(), address };
    let mut all =
        vec![ask(Kind::ApiBySearch, &api.name, api.vip), ask(Kind::Api, &api.fqdn, api.vip)];
    all.extend(cluster.nodes.iter().map(|node| ask(Kind::Node, &node.fqdn, node.ip)));
    all.push(ask(Kind::Reverse, &api.fqdn, api.vip));
    all.extend(cluster.nodes.iter().map(|node| ask(Kind::Reverse, &node.fqdn, node.ip)));
    all
}

/// The questions for a node: the API's names, its own name and those of the masters. Its bootstrap
/// needs no other names, and this machine has already queried the reverse records.
pub(crate) fn questions_of_node(cluster: &Cluster, fqdn: &str) -> Vec<Question> {
    let wanted = |name: &str| {
        name == fqdn || cluster.with_role(Role::Master).any(|master| master.fqdn == name)
    };
    questions(cluster)
        .into_iter()
        .filter(|question| match question.kind {
            Kind::ApiBySearch | Kind::Api => true,
            Kind::Node => wanted(&question.name),
            Kind::Reverse | Kind::Nowhere => false,
        })
        .collect()
}

/// Sends every question, and one for a made-up name, to every configured server, concurrently from
/// this machine.
///
/// # Errors
/// If a resolver cannot be created. The servers' answers, or their absence, are in the report.
pub async fn check(cluster: &Cluster, dialer: &Dialer) -> Result<Report, Error> {
    let mut asking = JoinSet::new();
    let made_up = wildcard::question(&cluster.network.domain);
    for server in &cluster.network.nameservers {
        let at = dialer.name_server(SocketAddr::new(IpAddr::V4(*server), PORT));
        let resolver = Resolver::new(at, &cluster.network.domain)?;
        for question in questions(cluster).into_iter().chain([made_up.clone()]) {
            let (resolver, server) = (resolver.clone(), *server);
            asking.spawn(async move {
                let answer = resolver.ask(&question).await;
                Heard { from: None, server: Some(server), question, answer }
            });
        }
    }
    let heard = asking.join_all().await;
    Ok(judge(&cluster.network.domain, heard))
}

#[cfg(test)]
mod tests;
