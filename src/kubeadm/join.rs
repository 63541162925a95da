//! `kubeadm join` on the other masters and on the workers.

use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::ParsedCertificate;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

use super::config::{self, Join, Keys};
use super::error::Doing;
use super::facts::{self, Facts};
use super::unit::{self, State, Unit};
use super::{Error, files, keys, path, ready};
use crate::cluster::{Cluster, Node, Role};
use crate::report::event;
use crate::ssh::{Command, Remote};
use crate::tempo::Tempo;

/// How long images may take to come, on top of what the control plane may take.
const PULLS: Duration = Duration::from_secs(15 * 60);
/// How long a reset may take.
const RESET: Duration = Duration::from_secs(5 * 60);
/// How long a node that has joined may take to show up.
const SHOW_UP: Duration = Duration::from_secs(90);

/// What lets nodes in: one for all joins of a run, so that what has run out is renewed once.
pub struct Admission {
    first: Remote,
    held: Mutex<Option<Held>>,
}

struct Held {
    keys: Keys,
    ca_hash: String,
    /// Counts renewals: who was refused with an older round just takes the newer.
    round: u32,
}

/// What one join takes along.
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

impl Admission {
    /// Lets nodes in by way of the first master.
    pub fn new(first: Remote) -> Self {
        Self { first, held: Mutex::new(None) }
    }

    /// Sees that token and certificate key are alive, and renews what runs out.
    ///
    /// # Errors
    /// Where the API does not answer or kubeadm fails.
    pub async fn prepare(&self, cluster: &Cluster) -> Result<(), Error> {
        self.ticket(cluster).await.map(drop)
    }

    /// The token and key to join with. What has less than ten minutes left is renewed before the
    /// first is given out.
    async fn ticket(&self, cluster: &Cluster) -> Result<Ticket, Error> {
        let mut held = self.held.lock().await;
        if let Some(held) = held.as_ref() {
            return Ok(held.ticket());
        }
        let ca_hash = ca_hash(&self.first).await?;
        let (keys, lost) = match keys::stored(&self.first).await? {
            Some(keys) => (keys, false),
            None => (keys::generate(), true),
        };
        // Uploaded certificates are of no use without the key that opens them.
        let (keys, _) = keys::renew(&self.first, cluster, keys, lost).await?;
        Ok(held.insert(Held { keys, ca_hash, round: 0 }).ticket())
    }

    /// Another ticket for who was refused with this one.
    async fn renew(&self, cluster: &Cluster, refused: &Ticket) -> Result<Ticket, Error> {
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
                return self.ticket(cluster).await;
            }
        };
        let (keys, _) = keys::renew(&self.first, cluster, keys, true).await?;
        Ok(held.insert(Held { keys, ca_hash, round: round + 1 }).ticket())
    }
}

/// The hash by which a joining node knows the cluster's CA: SHA-256 of its public key
/// (SubjectPublicKeyInfo), as `--discovery-token-ca-cert-hash` wants it.
async fn ca_hash(first: &Remote) -> Result<String, Error> {
    let pem = files::read(first, path::CA).await?;
    spki_hash(&pem).map_err(|cause| Error::Unread {
        what: format!("`{}`", path::CA),
        node: first.node().to_owned(),
        cause,
    })
}

fn spki_hash(pem: &str) -> Result<String, String> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| error.to_string())?;
    let certificate = ParsedCertificate::try_from(&der).map_err(|error| error.to_string())?;
    let key = certificate.subject_public_key_info();
    Ok(format!("sha256:{}", files::sha256(key.as_ref())))
}

/// What has to be done on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Nothing.
    Nothing,
    /// Its join runs: follow it.
    Follow,
    /// Join.
    Join,
    /// Clean up what a join left that did not finish, then join.
    Reset,
}

fn next(role: Role, facts: &Facts, seen: Option<&ready::Registered>) -> Next {
    let complete = match role {
        Role::Master => facts.apiserver && seen.is_some_and(|node| node.is(Role::Master)),
        Role::Worker | Role::LoadBalancer | Role::Etcd => seen.is_some(),
    };
    match facts.join {
        State::Running => Next::Follow,
        State::Absent | State::Done if complete && facts.kubelet => Next::Nothing,
        _ if facts.is_fresh() => Next::Join,
        _ => Next::Reset,
    }
}

/// Joins a node, whatever an earlier try left; a worker gets no label here ([`super::label`]).
///
/// With stacked etcd, masters must join one after the other; with an external one, all may at once.
///
/// # Errors
/// [`Error::Unit`] with kubeadm's last lines. A token or key that had run out is renewed first, and
/// the join tried once more.
pub async fn run(
    remote: &Remote,
    node: &Node,
    cluster: &Cluster,
    admission: &Admission,
    tempo: Tempo,
) -> Result<bool, Error> {
    let limit = PULLS + cluster.kubernetes.control_plane_timeout * 2;
    let mut changed = false;
    let mut refused: Option<Ticket> = None;
    loop {
        let facts = facts::gather(remote).await?;
        // No name is waited for, but an API that is away for a moment is.
        let registered = ready::all(&admission.first, &[], false, tempo, SHOW_UP).await?;
        let seen = registered.iter().find(|seen| seen.name == node.fqdn);
        let todo = next(node.role, &facts, seen);
        let ticket = match (todo, &refused) {
            (Next::Nothing, _) => break,
            (Next::Follow, _) | (_, None) => admission.ticket(cluster).await?,
            (_, Some(refused)) => admission.renew(cluster, refused).await?,
        };
        changed = true;
        if todo == Next::Follow {
            event::progress("kubeadm join runs already; following it");
        } else {
            if todo == Next::Reset {
                reset(remote).await?;
            }
            start(remote, node, cluster, &ticket).await?;
        }
        match unit::follow(remote, Unit::Join, tempo, limit).await {
            Ok(()) => {
                ready::all(&admission.first, &[&node.fqdn], false, tempo, SHOW_UP).await?;
                break;
            }
            Err(Error::Unit { last, .. }) if refused.is_none() && has_run_out(&last) => {
                event::progress("the join was refused: its token or certificate key has run out");
                refused = Some(ticket);
            }
            Err(error) => return Err(error),
        }
    }
    // It holds secrets that nobody needs any more; an interrupted run may have left it.
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

/// Undoes half a join. Never used on the first master.
async fn reset(remote: &Remote) -> Result<(), Error> {
    event::progress("an earlier join did not finish: kubeadm reset");
    unit::forget(remote, Unit::Join).await?;
    let command = Command::sudo("kubeadm")
        .args(["reset", "-f", "--cri-socket", "unix:///run/containerd/containerd.sock"])
        .limit(RESET);
    remote.run_ok(&command).await.doing("undo half a join")?;
    Ok(())
}

/// Whether kubeadm's words mean that the token or the certificate key is no longer good.
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
