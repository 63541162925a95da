//! Runs `kubeadm join` on the other masters and on the workers.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

use super::config::{self, Join, Keys};
use super::facts::{self, Facts};
use super::unit::{self, State, Unit};
use super::{Error, files, keys, path, ready};
use crate::clock::Clock;
use crate::cluster::{Cluster, Node, Role};
use crate::report::event;
use crate::ssh::Remote;

/// How long image downloads may take, in addition to the control plane.
const PULLS: Duration = Duration::from_secs(15 * 60);
/// How long a node that has joined may take to register.
const SHOW_UP: Duration = Duration::from_secs(90);

/// The join credentials: one set for all joins of a run, so that what has expired is renewed once.
#[derive(Default)]
pub struct JoinCredentials {
    held: Mutex<Option<Held>>,
}

struct Held {
    keys: Keys,
    ca_hash: String,
    /// Counts renewals: a node refused with an older set just takes the newer.
    round: u32,
}

/// The credentials of one join.
struct Ticket {
    token: SecretString,
    certificate_key: SecretString,
    ca_hash: String,
    round: u32,
}

impl Held {
    fn ticket(&self) -> Ticket {
        Ticket {
            token: self.keys.token.clone(),
            certificate_key: self.keys.certificate_key.clone(),
            ca_hash: self.ca_hash.clone(),
            round: self.round,
        }
    }
}

impl JoinCredentials {
    /// Checks, through a master, that token and certificate key are valid, and renews what is about
    /// to expire.
    ///
    /// # Errors
    /// If the API does not answer or kubeadm fails.
    pub async fn prepare(&self, via: &Remote, cluster: &Cluster) -> Result<(), Error> {
        self.ticket(via, cluster).await.map(drop)
    }

    /// The token and key to join with. What has less than ten minutes left is renewed before the
    /// first use.
    async fn ticket(&self, via: &Remote, cluster: &Cluster) -> Result<Ticket, Error> {
        let mut held = self.held.lock().await;
        if let Some(held) = held.as_ref() {
            return Ok(held.ticket());
        }
        let ca_hash = files::ca_hash(via).await?;
        let (keys, lost) = match keys::stored(via).await? {
            Some(keys) => (keys, false),
            None => (keys::generate(), true),
        };
        // Uploaded certificates are useless without the key that decrypts them.
        let (keys, _) = keys::renew(via, cluster, keys, lost).await?;
        Ok(held.insert(Held { keys, ca_hash, round: 0 }).ticket())
    }

    /// New credentials for a node that was refused with these.
    async fn renew(
        &self,
        via: &Remote,
        cluster: &Cluster,
        refused: &Ticket,
    ) -> Result<Ticket, Error> {
        let mut held = self.held.lock().await;
        let (keys, ca_hash, round) = match held.take() {
            Some(newer) if newer.round > refused.round => {
                let ticket = newer.ticket();
                *held = Some(newer);
                return Ok(ticket);
            }
            Some(same) => (same.keys, same.ca_hash, same.round),
            None => {
                drop(held);
                return self.ticket(via, cluster).await;
            }
        };
        let (keys, _) = keys::renew(via, cluster, keys, true).await?;
        Ok(held.insert(Held { keys, ca_hash, round: round + 1 }).ticket())
    }
}

/// What has to be done on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Nothing.
    Nothing,
    /// Its join is running: follow it.
    Follow,
    /// Join.
    Join,
    /// It has Kubernetes state that no join of this node explains: it is left unchanged.
    Refuse,
}

fn next(role: Role, facts: &Facts, seen: Option<&ready::Registered>) -> Next {
    let own = seen.filter(|node| node.machine_id == facts.machine_id);
    let complete = match role {
        Role::Master => facts.apiserver && own.is_some_and(|node| node.is(Role::Master)),
        Role::Worker | Role::LoadBalancer | Role::Etcd => own.is_some(),
    };
    match facts.join {
        State::Running => Next::Follow,
        State::Absent | State::Done if complete && facts.kubelet => Next::Nothing,
        _ if facts.is_fresh() => Next::Join,
        _ => Next::Refuse,
    }
}

/// Joins a node through a healthy master; a worker gets no label here ([`super::label`]).
///
/// With stacked etcd, masters must join one after the other; with an external one, all may join at
/// once. The remains of an earlier unfinished join are removed before ([`super::reset`]), as is the
/// Node object of a lost machine ([`super::forget`]): nothing is reset here.
///
/// # Errors
/// [`Error::Unit`] with the end of kubeadm's log. An expired token or key is renewed first, and the
/// join is tried once more. [`Error::NotFresh`] if the node already has Kubernetes state.
pub async fn run(
    remote: &Remote,
    via: &Remote,
    node: &Node,
    cluster: &Cluster,
    credentials: &JoinCredentials,
    clock: Clock,
) -> Result<bool, Error> {
    let limit = PULLS + cluster.kubernetes.control_plane_timeout * 2;
    let mut changed = false;
    let mut refused: Option<Ticket> = None;
    loop {
        let facts = facts::gather(remote).await?;
        // A missing name is not waited for, but an API that is briefly unavailable is.
        let registered = ready::all(via, &[], false, clock, SHOW_UP).await?;
        let seen = registered.iter().find(|seen| seen.name == node.fqdn);
        let todo = next(node.role, &facts, seen);
        let ticket = match (todo, &refused) {
            (Next::Nothing, _) => break,
            (Next::Refuse, _) => {
                return Err(Error::NotFresh { node: remote.node().to_owned() });
            }
            (Next::Follow, _) | (_, None) => credentials.ticket(via, cluster).await?,
            (_, Some(refused)) => credentials.renew(via, cluster, refused).await?,
        };
        changed = true;
        if todo == Next::Follow {
            event::progress("kubeadm join is already running; following it");
        } else {
            start(remote, node, cluster, &ticket).await?;
        }
        match unit::follow(remote, Unit::Join, clock, limit).await {
            Ok(()) => {
                ready::all(via, &[&node.fqdn], false, clock, SHOW_UP).await?;
                break;
            }
            Err(Error::Unit { last, .. }) if refused.is_none() && has_run_out(&last) => {
                event::progress("the join was refused: its token or certificate key has expired");
                refused = Some(ticket);
            }
            Err(error) => return Err(error),
        }
    }
    // It contains secrets that are no longer needed, and is the record of an unfinished join.
    if changed || files::exists(remote, path::JOIN).await? {
        files::remove(remote, path::JOIN).await?;
    }
    Ok(changed)
}

async fn start(
    remote: &Remote,
    node: &Node,
    cluster: &Cluster,
    ticket: &Ticket,
) -> Result<(), Error> {
    let certificate_key = (node.role == Role::Master).then(|| ticket.certificate_key.clone());
    let join = Join {
        token: ticket.token.clone(),
        ca_hashes: vec![ticket.ca_hash.clone()],
        certificate_key,
    };
    let config = config::join(cluster, node, &join)?;
    files::write(remote, path::JOIN, config.text().expose_secret().as_bytes()).await?;
    let argv = ["/usr/bin/kubeadm", "join", "--config", path::JOIN].map(str::to_owned);
    unit::start(remote, Unit::Join, &argv).await?;
    event::progress("kubeadm join");
    Ok(())
}

/// Whether kubeadm's output means that the token or the certificate key is no longer valid.
///
/// Sources: `cmd/kubeadm/app/discovery/token/token.go` and
/// `cmd/kubeadm/app/phases/copycerts/copycerts.go` of kubernetes/kubernetes.
fn has_run_out(lines: &[String]) -> bool {
    const WORDS: [&str; 5] = [
        r#"Secret "kubeadm-certs" was not found"#,
        "message authentication failed",
        "the Secret does not include the required certificate or key",
        "could not find a JWS signature in the cluster-info ConfigMap",
        "there is no JWS signed token in the cluster-info ConfigMap",
    ];
    lines.iter().any(|line| WORDS.iter().any(|words| line.contains(words)))
}

#[cfg(test)]
mod tests;
