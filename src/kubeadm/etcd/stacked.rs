//! The members of a stacked etcd: one beside each master's API server, run by its kubelet.
//!
//! A master has kubeadm's own files to query it (`cmd/kubeadm/app/constants/constants.go`,
//! `EtcdHealthcheckClientCertName`). A member of a lost machine stays listed: it counts for the
//! quorum, and no other master can join.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::{Value, json};

use super::fault::Trouble;
use super::member::Listed;
use super::{Fault, Files, call, said};
use crate::cause::cause;
use crate::clock::Clock;
use crate::cluster::ETCD_CLIENT_PORT;
use crate::kubeadm::Error;
use crate::report::event;
use crate::ssh::Remote;

/// kubeadm's client of a stacked etcd.
const HEALTHCHECK: Files = Files {
    ca: "/etc/kubernetes/pki/etcd/ca.crt",
    cert: "/etc/kubernetes/pki/etcd/healthcheck-client.crt",
    key: "/etc/kubernetes/pki/etcd/healthcheck-client.key",
};

/// The time between the two checks that a member must fail before it is removed.
const BETWEEN_LOOKS: Duration = Duration::from_secs(10);

/// A member as etcd lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id, a 64-bit number in decimal digits.
    pub id: String,
    /// Its name; empty until its first start.
    pub name: String,
    /// The address at which other members reach it.
    pub address: Option<Ipv4Addr>,
}

/// The members, as the one on a master reports them.
///
/// # Errors
/// If that member does not answer: without its list, no member counts as lost.
pub async fn members(on: &Remote) -> Result<Vec<Member>, Error> {
    let answer = ask(on, "list", &json!({})).await?;
    let listed: Vec<Listed> =
        serde_json::from_value(answer["members"].clone()).map_err(|error| Error::Unread {
            what: "etcd's list of members".into(),
            node: on.node().to_owned(),
            cause: cause(error),
        })?;
    Ok(listed.into_iter().map(member).collect())
}

fn member(listed: Listed) -> Member {
    let address = listed.peers.first().and_then(|url| address(url));
    Member { id: listed.id, name: listed.name, address }
}

/// The address in a URL such as `https://10.101.1.101:2380`.
fn address(url: &str) -> Option<Ipv4Addr> {
    let (_, rest) = url.split_once("://")?;
    rest.rsplit_once(':').map_or(rest, |(host, _)| host).parse().ok()
}

/// Removes the members that a lost machine has left at these addresses, and returns whether there
/// were any.
///
/// Each must fail to answer in two checks, and the members that answer must be a quorum without it;
/// otherwise nothing is removed.
///
/// # Errors
/// [`Fault::Alive`] if one still answers, [`Fault::NoQuorum`] if too few others do.
pub async fn remove(on: &Remote, addresses: &[Ipv4Addr], clock: Clock) -> Result<bool, Error> {
    let lost = |member: &Member| member.address.is_some_and(|at| addresses.contains(&at));
    let mut changed = false;
    while let Some(member) = members(on).await?.into_iter().find(|member| lost(member)) {
        for look in 0..2 {
            if look > 0 {
                clock.pause(BETWEEN_LOOKS).await;
            }
            prove_lost(on, &member).await?;
        }
        let address = member.address.map(|at| at.to_string()).unwrap_or_default();
        event::progress(format!("remove the lost member at {address} from etcd"));
        ask(on, "remove", &json!({"ID": member.id})).await?;
        changed = true;
    }
    Ok(changed)
}

/// Checks that a member does not answer, and that those that answer are a quorum of the rest.
async fn prove_lost(on: &Remote, lost: &Member) -> Result<(), Error> {
    let node = || on.node().to_owned();
    let (mut answering, mut silent, mut voters) = (0, Vec::new(), 0);
    for member in members(on).await? {
        let Some(address) = member.address else { continue };
        let answers = answers(on, address).await?;
        if member.id == lost.id {
            if answers {
                return Err(Fault::Alive { node: node(), member: address.to_string() }.into());
            }
            continue;
        }
        voters += 1;
        if answers {
            answering += 1;
        } else {
            silent.push(address.to_string());
        }
    }
    let needed = voters / 2 + 1;
    if answering < needed {
        return Err(Fault::NoQuorum { node: node(), silent, answering, needed }.into());
    }
    Ok(())
}

/// Whether the member at an address answers a master, even with a refusal.
///
/// # Errors
/// If the master cannot be queried.
pub async fn answers(on: &Remote, address: Ipv4Addr) -> Result<bool, Error> {
    let url = format!("https://{address}:{ETCD_CLIENT_PORT}/health");
    let answer = call(on, &HEALTHCHECK, &url, None).await?;
    // A member that refuses the request or is unhealthy is still running.
    Ok(!matches!(answer, Err(Trouble::Refused(_) | Trouble::Silent(_))))
}

async fn ask(on: &Remote, verb: &str, body: &Value) -> Result<Value, Error> {
    // Its own address, not the loopback one: both are in the member's certificate.
    let endpoint = format!("https://{}:{ETCD_CLIENT_PORT}", on.address().ip());
    let fault =
        |trouble| Fault::Call { node: on.node().to_owned(), endpoint: endpoint.clone(), trouble };
    let url = format!("{endpoint}/v3/cluster/member/{verb}");
    let answer = call(on, &HEALTHCHECK, &url, Some(body)).await?.map_err(fault)?;
    match said(&answer) {
        None => Ok(answer),
        Some(said) => Err(fault(Trouble::Said(said.to_owned())).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_known_by_the_address_of_its_peer_url() {
        assert_eq!(address("https://10.101.1.101:2380"), Some(Ipv4Addr::new(10, 101, 1, 101)));
        assert_eq!(address("https://k8s1master1:2380"), None);
    }
}
