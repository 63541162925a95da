//! Checks on every name server that each name of the cluster resolves to the right address.
//!
//! [`questions`] says what must be true, [`Resolver`] or [`node`] finds out what is answered, and
//! `verdict` compares. A wrong zone found here costs seconds; found by kubeadm it costs minutes.

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

/// How a name is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The API's short name, completed by the search domain.
    ApiBySearch,
    /// The API's full name.
    Api,
    /// A node's full name.
    Node,
    /// The name that belongs to an address.
    Reverse,
    /// A name that was made up: no server may know it.
    Nowhere,
}

/// One thing that must be true of every server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// How it is asked.
    pub kind: Kind,
    /// The name; of [`Kind::Reverse`], the name that the address must have.
    pub name: String,
    /// The address that the name must have; of [`Kind::Reverse`], the address that is asked for.
    pub address: Ipv4Addr,
}

/// What a server, or a node's own resolver, says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Addresses, in order.
    Addresses(Vec<Ipv4Addr>),
    /// Names that an address has, without trailing dot.
    Names(Vec<String>),
    /// The name does not exist.
    NxDomain,
    /// The name exists, but not with a record of this type.
    NoRecords,
    /// The server does not serve us.
    Refused,
    /// No answer within the limit.
    Silent,
    /// Any other error, verbatim.
    Failed(String),
}

/// What must be true: the API's name by search domain and in full is exactly the VIP, every node's
/// name is exactly its address; and, less strictly, each address has its name.
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

/// What a node has to ask: the API's names, its own and those of the masters. The names of others
/// are no business of its bootstrap, and the records' other side was asked from here already.
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

/// Asks every configured server every question and for a name that was made up, all at once, from
/// this machine.
///
/// # Errors
/// Where a resolver cannot be made. What servers say, or that they are silent, is in the report.
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
