//! An external etcd: its files, its health, and the owner of its data. [`form`] creates one that
//! k8sha manages; for the masters it is then like any other.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::error::Doing;
use super::{Error, files, path};
use crate::cause::{Cause, cause};
use crate::cluster::Cluster;
use crate::files as local;
use crate::pki::Pair;
use crate::report::event;
use crate::ssh::{Command, Remote};

mod fault;
pub mod form;
pub mod member;
pub(crate) mod stacked;

pub use fault::{Fault, Trouble};

/// The prefix of all of Kubernetes' data: kube-apiserver's default `--etcd-prefix`.
const REGISTRY: &str = "/registry/";
/// The first key after it.
const REGISTRY_END: &str = "/registry0";
/// The key in which k8sha records the owner of that data.
const OWNER: &str = "/k8sha/owner";

/// The exit status of `curl` if the connection broke while it was sending (curl(1), EXIT CODES).
const CURL_SEND_ERROR: u32 = 55;

/// The owner of an etcd's data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The cluster's name.
    pub cluster: String,
    /// The creation id, which distinguishes clusters with that name.
    pub creation: String,
}

/// The API servers' credentials for etcd.
#[derive(Clone, Debug)]
pub enum Client {
    /// The operator's files: CA, certificate, key.
    Files([PathBuf; 3]),
    /// Credentials that k8sha created for its own etcd.
    Made {
        /// The CA certificate, PEM.
        ca: String,
        /// The client certificate and its key.
        pair: Pair,
    },
}

impl Client {
    /// The files with their paths on a master.
    async fn read(&self) -> Result<[(&'static str, Vec<u8>); 3], Fault> {
        let [ca, cert, key] = match self {
            Client::Files([ca, cert, key]) => [
                read_pem(ca, "CERTIFICATE").await?,
                read_pem(cert, "CERTIFICATE").await?,
                read_pem(key, "PRIVATE KEY").await?,
            ],
            Client::Made { ca, pair } => {
                let key = pair.key.expose_secret().as_bytes().to_vec();
                [ca.clone().into_bytes(), pair.cert.clone().into_bytes(), key]
            }
        };
        Ok([(path::ETCD_CA, ca), (path::ETCD_CERT, cert), (path::ETCD_KEY, key)])
    }
}

/// How existing Kubernetes keys in an etcd are handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// There must be none.
    Refused,
    /// This cluster's own are kept: its `kubeadm init` has begun to write them, and resumes.
    Resumed,
    /// They are deleted, as the user requested. Keys that k8sha marked as another cluster's are
    /// deleted only if the user typed that cluster's name.
    Wiped {
        /// The name that the user typed.
        of: Option<String>,
    },
}

/// Prepares an external etcd for `kubeadm init`: copies the client's files to the first master,
/// checks that every member is healthy with them, and writes k8sha's mark. Stacked etcd needs none
/// of this.
///
/// # Errors
/// [`Error::Etcd`] with the cause per member, or the owner of the data.
pub async fn prepare(
    first: &Remote,
    cluster: &Cluster,
    client: &Client,
    owner: &Owner,
    keys: Keys,
) -> Result<bool, Error> {
    let copied = copy(first, client).await?;
    prove(first, cluster).await?;
    let claimed = claim(first, cluster, owner, keys).await?;
    Ok(copied || claimed)
}

/// Copies the client's three files to a master if they differ. A running API server reads them
/// again at its next connection (etcd client/pkg/transport/listener.go, `GetClientCertificate`).
///
/// # Errors
/// If a file cannot be read, has the wrong content, or cannot be written.
pub async fn copy(master: &Remote, client: &Client) -> Result<bool, Error> {
    let wanted = client.read().await?;
    let there = files::hashes(master, &wanted.each_ref().map(|(to, _)| *to)).await?;
    let mut changed = false;
    for (to, body) in wanted {
        if there.get(to) != Some(&files::sha256(&body)) {
            event::progress(format!("write `{to}`"));
            files::write(master, to, &body).await?;
            changed = true;
        }
    }
    Ok(changed)
}

/// Whether a master has such files, but different ones.
///
/// # Errors
/// If a file cannot be read, on this machine or on the master.
pub(crate) async fn is_outdated(master: &Remote, client: &Client) -> Result<bool, Error> {
    let wanted = client.read().await?;
    let there = files::hashes(master, &wanted.each_ref().map(|(to, _)| *to)).await?;
    Ok(wanted
        .iter()
        .any(|(to, body)| there.get(*to).is_some_and(|hash| *hash != files::sha256(body))))
}

async fn read_pem(from: &Path, holds: &'static str) -> Result<Vec<u8>, Fault> {
    let path = || PathBuf::from(from);
    let body = local::read(from, local::Kind::Certificate)
        .map_err(|source| Fault::NoFile { path: path(), source: source.into() })?;
    let text = String::from_utf8_lossy(&body);
    let heads = |line: &str| line.starts_with("-----BEGIN") && line.contains(holds);
    if text.contains("PRIVATE KEY-----") {
        crate::secrets::learn(&text);
    }
    if text.lines().any(heads) { Ok(body) } else { Err(Fault::NotPem { path: path(), holds }) }
}

/// Checks that every member answers, with the files that the API server will use.
///
/// # Errors
/// [`Fault::Members`] with the problem of each.
pub async fn prove(first: &Remote, cluster: &Cluster) -> Result<(), Error> {
    let Some(endpoints) = cluster.etcd.endpoints() else { return Ok(()) };
    let mut asking = JoinSet::new();
    for (index, endpoint) in endpoints.iter().cloned().enumerate() {
        let first = first.clone();
        asking.spawn(async move {
            let trouble = examine(&first, &API_SERVER, &endpoint).await;
            (index, endpoint, trouble)
        });
    }
    let mut answers = asking.join_all().await;
    answers.sort_by_key(|(index, ..)| *index);
    let mut troubles = Vec::new();
    for (_, endpoint, trouble) in answers {
        if let Some(trouble) = trouble? {
            troubles.push((endpoint, trouble));
        }
    }
    if troubles.is_empty() {
        event::progress(format!("all {} etcd members are healthy", endpoints.len()));
        return Ok(());
    }
    let (node, all) = (first.node().to_owned(), endpoints.len());
    Err(Fault::Members { node, all, troubles }.into())
}

/// The problem of a member, queried from a node with the files there.
async fn examine(from: &Remote, with: &Files, endpoint: &str) -> Result<Option<Trouble>, Error> {
    let version = match call(from, with, &format!("{endpoint}/version"), None).await? {
        Ok(version) => version,
        Err(trouble) => return Ok(Some(trouble)),
    };
    if version["etcdserver"].as_str().is_none() {
        return Ok(Some(Trouble::NotEtcd(version.to_string())));
    }
    Ok(match call(from, with, &format!("{endpoint}/health"), None).await? {
        Ok(health) if health["health"] == "true" || health["health"] == true => None,
        Ok(health) => {
            let reason = health["reason"].as_str().filter(|reason| !reason.is_empty());
            Some(Trouble::Unhealthy(reason.unwrap_or("no reason given").to_owned()))
        }
        Err(trouble) => Some(trouble),
    })
}

/// Writes k8sha's mark to the etcd, after it has checked that no existing cluster's data is there:
/// neither another cluster's nor this one's, because a new control plane over it would have another
/// CA.
///
/// # Errors
/// [`Fault::Foreign`] if it holds another cluster's data, [`Fault::Own`] if it holds this one's,
/// and `keys` does not allow that.
pub async fn claim(
    first: &Remote,
    cluster: &Cluster,
    owner: &Owner,
    keys: Keys,
) -> Result<bool, Error> {
    let Some(mut etcd) = Gateway::of(first, cluster) else { return Ok(false) };
    let found = etcd.owner().await?;
    let ours = found.as_ref() == Some(owner);
    let data = etcd.has_registry().await?;
    match keys {
        _ if ours && !data => return Ok(false),
        Keys::Resumed if ours => return Ok(false),
        Keys::Wiped { of } if data && may_go(found.as_ref(), owner, of.as_deref()) => {
            event::progress("delete the data of Kubernetes from etcd, as asked");
            etcd.delete(REGISTRY, Some(REGISTRY_END)).await?;
        }
        Keys::Wiped { of } if may_go(found.as_ref(), owner, of.as_deref()) => {}
        _ if ours => return Err(Fault::Own { creation: owner.creation.clone() }.into()),
        _ if data || found.is_some() => return Err(Fault::Foreign { found }.into()),
        _ => {}
    }
    etcd.put(OWNER, &json!(owner).to_string()).await?;
    Ok(true)
}

/// Whether data with this mark may be deleted after the user requested a deletion: another k8sha
/// cluster may be running, so the user must have typed its name.
fn may_go(found: Option<&Owner>, owner: &Owner, typed: Option<&str>) -> bool {
    found
        .is_none_or(|found| found.cluster == owner.cluster || typed == Some(found.cluster.as_str()))
}

/// Whether the data in etcd has this cluster's mark.
///
/// # Errors
/// If etcd cannot be queried.
pub async fn is_ours(first: &Remote, cluster: &Cluster, owner: &Owner) -> Result<bool, Error> {
    let Some(mut etcd) = Gateway::of(first, cluster) else { return Ok(false) };
    Ok(etcd.owner().await?.as_ref() == Some(owner))
}

/// Deletes the cluster's data and mark, if the mark is this cluster's. Other data is kept.
///
/// # Errors
/// If etcd cannot be queried.
pub async fn remove_ours(first: &Remote, cluster: &Cluster, owner: &Owner) -> Result<bool, Error> {
    let Some(mut etcd) = Gateway::of(first, cluster) else { return Ok(false) };
    if etcd.owner().await?.as_ref() != Some(owner) {
        return Ok(false);
    }
    // The mark last: after an interruption here the next run still finds it.
    etcd.delete(REGISTRY, Some(REGISTRY_END)).await?;
    etcd.delete(OWNER, None).await?;
    Ok(true)
}

/// etcd's key-value API over its JSON gateway: keys and values in base64
/// (etcd.io/docs/latest/dev-guide/api_grpc_gateway). Any member can be used: it reads and writes
/// what the quorum agrees on.
struct Gateway<'a> {
    first: &'a Remote,
    endpoints: &'a [String],
    /// The endpoint that answered last: the next request goes there, so that a write never waits at
    /// a member that hangs and may execute it much later.
    at: usize,
}

impl<'a> Gateway<'a> {
    fn of(first: &'a Remote, cluster: &'a Cluster) -> Option<Self> {
        let endpoints = cluster.etcd.endpoints().filter(|endpoints| !endpoints.is_empty())?;
        Some(Self { first, endpoints, at: 0 })
    }

    /// The answer of the first member that answers; the others are tried only if the problem is the
    /// member's own. All requests here are idempotent.
    async fn kv(&mut self, verb: &str, body: Value) -> Result<Value, Error> {
        let (node, all) = (self.first.node(), self.endpoints.len());
        let mut troubles: Vec<(String, Trouble)> = Vec::new();
        for nth in (0..all).map(|tried| (self.at + tried) % all) {
            let endpoint = self.endpoints[nth].clone();
            let url = format!("{endpoint}/v3/kv/{verb}");
            let trouble = match call(self.first, &API_SERVER, &url, Some(&body)).await? {
                Ok(answer) => match refusal(&answer) {
                    None => {
                        self.at = nth;
                        return Ok(answer);
                    }
                    Some(trouble) => trouble,
                },
                Err(trouble) => trouble,
            };
            if !trouble.is_the_members() {
                return Err(Fault::Call { node: node.to_owned(), endpoint, trouble }.into());
            }
            event::progress(format!("etcd at {endpoint}: {trouble}"));
            troubles.push((endpoint, trouble));
        }
        Err(Fault::Members { node: node.to_owned(), all, troubles }.into())
    }

    async fn owner(&mut self) -> Result<Option<Owner>, Error> {
        let answer = self.kv("range", json!({"key": STANDARD.encode(OWNER)})).await?;
        let Some(value) = answer["kvs"][0]["value"].as_str() else { return Ok(None) };
        let unread = |cause: Cause| Error::Unread {
            what: format!("etcd's `{OWNER}`"),
            node: self.first.node().to_owned(),
            cause,
        };
        let bytes = STANDARD.decode(value).map_err(|error| unread(cause(error)))?;
        serde_json::from_slice(&bytes).map(Some).map_err(|error| unread(cause(error)))
    }

    async fn has_registry(&mut self) -> Result<bool, Error> {
        let (from, to) = (STANDARD.encode(REGISTRY), STANDARD.encode(REGISTRY_END));
        let question = json!({"key": from, "range_end": to, "limit": 1, "keys_only": true});
        let answer = self.kv("range", question).await?;
        Ok(answer["kvs"].as_array().is_some_and(|kvs| !kvs.is_empty()))
    }

    async fn put(&mut self, key: &str, value: &str) -> Result<(), Error> {
        let body = json!({"key": STANDARD.encode(key), "value": STANDARD.encode(value)});
        self.kv("put", body).await.map(drop)
    }

    async fn delete(&mut self, key: &str, end: Option<&str>) -> Result<(), Error> {
        let mut body = json!({"key": STANDARD.encode(key)});
        if let Some(end) = end {
            body["range_end"] = STANDARD.encode(end).into();
        }
        self.kv("deleterange", body).await.map(drop)
    }
}

/// The gateway's response if it did not execute the request: `message` in all releases, and the
/// same under `error` in those before 3.6.
fn said(answer: &Value) -> Option<&str> {
    answer["message"].as_str().or(answer["error"].as_str())
}

/// The codes with which a member says that it cannot execute any request now: gRPC's
/// `DEADLINE_EXCEEDED` and `UNAVAILABLE`. It has no leader, is about to stop, or is a learner (etcd
/// api/v3rpc/rpctypes/error.go).
const NOT_NOW: [u64; 2] = [4, 14];

/// Why the gateway did not execute the request, if it did not.
fn refusal(answer: &Value) -> Option<Trouble> {
    let said = said(answer)?.to_owned();
    let not_now = answer["code"].as_u64().is_some_and(|code| NOT_NOW.contains(&code));
    Some(if not_now { Trouble::Unhealthy(said) } else { Trouble::Said(said) })
}

/// The files with which a node connects to etcd.
struct Files {
    ca: &'static str,
    cert: &'static str,
    key: &'static str,
}

/// Those of the API server, on a master.
const API_SERVER: Files = Files { ca: path::ETCD_CA, cert: path::ETCD_CERT, key: path::ETCD_KEY };

/// One request from a node, with the files there.
async fn call(
    from: &Remote,
    with: &Files,
    url: &str,
    body: Option<&Value>,
) -> Result<Result<Value, Trouble>, Error> {
    let mut command = Command::sudo("curl")
        .args(["-sS", "--max-time", "5", "--cacert", with.ca])
        .args(["--cert", with.cert, "--key", with.key]);
    if let Some(body) = body {
        command = command.arg("-d").arg(body.to_string());
    }
    let command = command.arg(url);
    let mut output = from.run(&command).await.doing(format!("ask {url}"))?;
    if output.code == CURL_SEND_ERROR {
        // With TLS 1.3 a member that rejects the client certificate may close the connection before
        // the request is sent, and curl does not see why; in TLS 1.2 that is part of the handshake.
        let again = command.args(["--tls-max", "1.2"]);
        output = from.run(&again).await.doing(format!("ask {url}"))?;
    }
    if !output.success() {
        return Ok(Err(Trouble::of_curl(output.code, output.stderr_text().trim())));
    }
    let text = output.stdout_text();
    Ok(serde_json::from_str(&text).map_err(|_| Trouble::NotEtcd(text.trim().to_owned())))
}

#[cfg(test)]
mod tests;
