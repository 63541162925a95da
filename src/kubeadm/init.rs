//! Runs `kubeadm init` on the master that the plan chose, only if no cluster exists.

use std::time::Duration;

use secrecy::ExposeSecret;
use serde_json::Value;

use super::error::Doing;
use super::unit::{self, State, Unit};
use super::{Error, config, files, keys, kubectl, path, preflight};
use crate::clock::{Clock, Expired, Wait};
use crate::cluster::{Cluster, Node};
use crate::report::event;
use crate::ssh::{Command, Remote};

/// How long image downloads may take, in addition to the control plane.
const PULLS: Duration = Duration::from_secs(15 * 60);
/// How long an existing API may take to come back, for example after a reboot of its node.
const COMEBACK: Duration = Duration::from_secs(90);
/// The pause between two checks.
const LOOK: Duration = Duration::from_secs(2);

/// The state of the cluster according to the API.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    /// Everything that joins need exists.
    Complete,
    /// It answers, but something that init creates is missing.
    Partial(String),
    /// It does not answer, or does not exist.
    Silent(String),
    /// It belongs to another cluster.
    Other(String),
}

/// Initialises the control plane on a master, or resumes an earlier attempt with the same
/// configuration, token, certificate key and certificates, never with new ones.
///
/// The files of an external etcd must be there already ([`super::etcd::prepare`]), and a load
/// balancer must hold the VIP ([`super::vip::check`]).
///
/// # Errors
/// [`Error::Unit`] with the end of kubeadm's log; [`Error::AnotherCluster`] if the node belongs to
/// another cluster.
pub async fn run(
    first: &Remote,
    node: &Node,
    cluster: &Cluster,
    clock: Clock,
) -> Result<bool, Error> {
    let changed = act(first, node, cluster, clock).await?;
    if !files::exists(first, path::INIT_OVER).await? {
        files::write(first, path::INIT_OVER, cluster.name.as_bytes()).await?;
    }
    Ok(changed)
}

/// Records on the master that ran it that `kubeadm init` succeeded, if a former release did not.
///
/// # Errors
/// If the node cannot be queried.
pub async fn record(master: &Remote) -> Result<bool, Error> {
    let (begun, over) = tokio::try_join!(
        files::exists(master, path::INIT),
        files::exists(master, path::INIT_OVER),
    )?;
    if begun && !over {
        files::write(master, path::INIT_OVER, b"").await?;
    }
    Ok(begun && !over)
}

async fn act(first: &Remote, node: &Node, cluster: &Cluster, clock: Clock) -> Result<bool, Error> {
    let limit = PULLS + cluster.kubernetes.control_plane_timeout * 2;
    let state = unit::state(first, Unit::Init).await?;
    if state == State::Running {
        event::progress("kubeadm init is already running; following it");
        unit::follow(first, Unit::Init, clock, limit).await?;
        return verify(first, cluster, clock).await.map(|()| true);
    }
    let seen = match (settle(first, cluster, &state, clock).await?, &state) {
        (Seen::Other(found), _) => {
            return Err(Error::AnotherCluster {
                node: first.node().to_owned(),
                found,
                wanted: cluster.name.clone(),
            });
        }
        // A failed unit may have got that far and no further: it is run again.
        (Seen::Complete, State::Absent | State::Done | State::Running) => return Ok(false),
        (seen, _) => seen,
    };
    // The state left behind decides, not the result of the last attempt.
    let again = files::exists(first, path::CA).await?;
    if again {
        event::progress(match seen {
            Seen::Partial(missing) => format!("an earlier init did not finish: {missing}"),
            _ => "an earlier init did not finish; continuing with its certificates".to_owned(),
        });
    }
    write_config(first, node, cluster).await?;
    validate(first, cluster).await?;
    unit::start(first, Unit::Init, &argv(cluster, again)).await?;
    event::progress("kubeadm init");
    unit::follow(first, Unit::Init, clock, limit).await?;
    verify(first, cluster, clock).await?;
    Ok(true)
}

/// Whether the first master has this cluster, completely initialised.
///
/// # Errors
/// If the node cannot be queried.
pub async fn is_done(first: &Remote, cluster: &Cluster) -> Result<bool, Error> {
    Ok(matches!(look(first, cluster).await?, Seen::Complete))
}

fn argv(cluster: &Cluster, again: bool) -> Vec<String> {
    let mut argv = ["/usr/bin/kubeadm", "init", "--config", path::INIT, "--upload-certs"]
        .map(str::to_owned)
        .to_vec();
    if again {
        let port = format!("Port-{}", cluster.api.port);
        let mut names = preflight::LEFT_BY_INIT.to_vec();
        if !names.contains(&port.as_str()) {
            names.push(&port);
        }
        argv.push(format!("--ignore-preflight-errors={}", names.join(",")));
    }
    argv
}

/// Writes the configuration, with the existing keys if there are any.
async fn write_config(first: &Remote, node: &Node, cluster: &Cluster) -> Result<(), Error> {
    let there = if files::exists(first, path::INIT).await? {
        Some(files::read(first, path::INIT).await?)
    } else {
        None
    };
    let keys = there.as_deref().and_then(keys::find).unwrap_or_else(keys::generate);
    let config = config::init(cluster, node, &keys)?;
    let wanted = config.text().expose_secret();
    if there.as_deref() != Some(wanted) {
        files::write(first, path::INIT, wanted.as_bytes()).await?;
    }
    Ok(())
}

async fn validate(first: &Remote, cluster: &Cluster) -> Result<(), Error> {
    // The command was added in 1.26 (kubernetes/kubernetes#113418).
    let version = cluster.kubernetes.version;
    if (version.major, version.minor) < (1, 26) {
        return Ok(());
    }
    let command = Command::sudo("kubeadm").args(["config", "validate", "--config", path::INIT]);
    first.run_ok(&command).await.doing("have kubeadm check its configuration")?;
    Ok(())
}

/// Queries the API, and gives it time if it must exist: init has succeeded, or the node was
/// rebooted.
async fn settle(
    first: &Remote,
    cluster: &Cluster,
    state: &State,
    clock: Clock,
) -> Result<Seen, Error> {
    let mut wait = Wait::new(clock, COMEBACK, LOOK)
        .telling(|seen: &String| event::progress(format!("waiting for the API: {seen}")));
    loop {
        let seen = look(first, cluster).await?;
        let Seen::Silent(text) = seen else { return Ok(seen) };
        let due = match state {
            State::Done => true,
            State::Absent => files::exists(first, path::KUBELET).await?,
            State::Running | State::Failed { .. } => false,
        };
        if !due {
            return Ok(Seen::Silent(text));
        }
        match wait.not_yet(text).await {
            Ok(()) => {}
            Err(Expired { seen, .. }) if *state == State::Absent => return Ok(Seen::Silent(seen)),
            Err(Expired { seen, limit }) => {
                let what = "the new API server did not answer";
                return Err(Error::too_long(first, what, limit, seen));
            }
        }
    }
}

async fn look(first: &Remote, cluster: &Cluster) -> Result<Seen, Error> {
    if !files::exists(first, path::ADMIN).await? {
        return Ok(Seen::Silent("there is no cluster".into()));
    }
    let maps = [("kube-system", "kubeadm-config"), ("kube-public", "cluster-info")];
    for (namespace, name) in maps {
        let args = ["-n", namespace, "get", "configmap", name, "-o", "json"];
        let output = kubectl::run(first, &args).await?;
        let stderr = output.stderr_text();
        if !output.success() {
            return Ok(if stderr.contains("(NotFound)") {
                Seen::Partial(format!("the ConfigMap `{name}` is missing"))
            } else {
                Seen::Silent(stderr.trim().to_owned())
            });
        }
        if name == "kubeadm-config"
            && let Some(found) = cluster_name(&output.stdout)
            && found != cluster.name
        {
            return Ok(Seen::Other(found));
        }
    }
    Ok(Seen::Complete)
}

/// The cluster's name in the ConfigMap `kubeadm-config`.
fn cluster_name(json: &[u8]) -> Option<String> {
    let map: Value = serde_json::from_slice(json).ok()?;
    let text = map["data"]["ClusterConfiguration"].as_str()?;
    let name = text.lines().find_map(|line| line.strip_prefix("clusterName:"))?;
    Some(name.trim().trim_matches(['"', '\'']).to_owned())
}

async fn verify(first: &Remote, cluster: &Cluster, clock: Clock) -> Result<(), Error> {
    let missing = match settle(first, cluster, &State::Done, clock).await? {
        Seen::Complete => return Ok(()),
        Seen::Partial(missing) | Seen::Silent(missing) => missing,
        Seen::Other(found) => format!("the cluster there is `{found}`"),
    };
    Err(Error::Incomplete { node: first.node().to_owned(), missing })
}

#[cfg(test)]
mod tests;
