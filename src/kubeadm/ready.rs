//! Waits until the API and the nodes are ready.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::error::Doing;
use super::kubectl::Api;
use super::{Error, kubectl, path};
use crate::clock::{Clock, Expired, Wait};
use crate::cluster::{Cluster, Role};
use crate::report::event;
use crate::ssh::{Command, Remote};

/// The pause between two checks.
const LOOK: Duration = Duration::from_secs(2);
/// The prefix of a role's label; the rest is its name.
const ROLE_LABEL: &str = "node-role.kubernetes.io/";

/// A node as Kubernetes reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Registered {
    /// Its name; the host's FQDN.
    pub name: String,
    /// Its roles by label, such as `control-plane`.
    pub roles: Vec<String>,
    /// Whether it is Ready.
    pub ready: bool,
    /// Why it is not, such as `cni plugin not initialized`.
    pub message: Option<String>,
    /// The kubelet's version, such as `v1.28.4`.
    pub version: String,
    /// Its address.
    pub address: Option<String>,
    /// The machine id of the machine that registered it; as in [`super::facts::Facts`].
    pub machine_id: String,
    /// Whether it is cordoned.
    pub cordoned: bool,
    /// Whether k8sha has started to remove it ([`super::drain`]).
    pub leaving: bool,
}

impl Registered {
    /// Whether it has the label of a role.
    pub fn is(&self, role: Role) -> bool {
        let label = match role {
            Role::Master => "control-plane",
            Role::Worker => "worker",
            Role::LoadBalancer | Role::Etcd => return false,
        };
        self.roles.iter().any(|role| role == label)
    }
}

/// All nodes that have registered.
///
/// # Errors
/// If the API does not answer.
pub async fn nodes(via: &Remote) -> Result<Vec<Registered>, Error> {
    nodes_by(&Api::through_vip(via)).await
}

/// The same by either route.
///
/// # Errors
/// If the API does not answer.
pub async fn nodes_by(api: &Api) -> Result<Vec<Registered>, Error> {
    let list = api.json(&["get", "nodes", "-o", "json"]).await?;
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(items.iter().map(registered).collect())
}

fn registered(node: &Value) -> Registered {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let status = &node["status"];
    let ready = list(&status["conditions"]).into_iter().find(|c| c["type"] == "Ready");
    let is_ready = ready.as_ref().is_some_and(|condition| condition["status"] == "True");
    let labels = node["metadata"]["labels"].as_object();
    let addresses = list(&status["addresses"]);
    Registered {
        name: text(&node["metadata"]["name"]),
        roles: labels
            .into_iter()
            .flatten()
            .filter_map(|(label, _)| label.strip_prefix(ROLE_LABEL).map(str::to_owned))
            .collect(),
        ready: is_ready,
        message: ready.filter(|_| !is_ready).map(|condition| text(&condition["message"])),
        version: text(&status["nodeInfo"]["kubeletVersion"]),
        machine_id: super::facts::machine(
            status["nodeInfo"]["machineID"].as_str().unwrap_or_default(),
            status["nodeInfo"]["systemUUID"].as_str().unwrap_or_default(),
        ),
        address: addresses.iter().find(|a| a["type"] == "InternalIP").map(|a| text(&a["address"])),
        cordoned: node["spec"]["unschedulable"] == true,
        leaving: node["metadata"]["annotations"][super::drain::ANNOTATION].is_string(),
    }
}

/// The output of `kubectl get nodes -o wide`, unchanged.
///
/// # Errors
/// If the API does not answer.
pub async fn wide(first: &Remote) -> Result<String, Error> {
    kubectl::text(first, &["get", "nodes", "-o", "wide"]).await
}

/// Waits until the API answers under its name through the VIP, with a certificate of the cluster's
/// own CA: the route that every other node will use.
///
/// # Errors
/// [`Error::TooLong`] with the last answer.
pub async fn through_vip(
    first: &Remote,
    cluster: &Cluster,
    clock: Clock,
    limit: Duration,
) -> Result<(), Error> {
    let url = format!("https://{}:{}/readyz", cluster.api.fqdn, cluster.api.port);
    let command = Command::sudo("curl")
        .args(["-sS", "--max-time", "5", "--cacert", path::CA])
        .arg(url.clone());
    let mut wait = Wait::new(clock, limit, LOOK)
        .telling(|seen: &String| event::progress(format!("waiting for {url}: {seen}")));
    loop {
        let seen = match first.run(&command).await {
            Ok(output) if output.success() && output.stdout_text().trim() == "ok" => return Ok(()),
            Ok(output) if output.success() => output.stdout_text().trim().to_owned(),
            Ok(output) => output.stderr_text().trim().to_owned(),
            Err(error) if error.is_transient() => error.to_string(),
            Err(source) => return Err(source).doing(format!("ask {url}")),
        };
        wait.not_yet(seen).await.map_err(|Expired { seen, limit }| {
            Error::too_long(first, format!("{url} did not answer `ok`"), limit, seen)
        })?;
    }
}

/// Waits until all these nodes have registered, and are Ready if requested.
///
/// # Errors
/// [`Error::TooLong`] with what is missing.
pub async fn all(
    first: &Remote,
    names: &[&str],
    ready: bool,
    clock: Clock,
    limit: Duration,
) -> Result<Vec<Registered>, Error> {
    let mut wait = Wait::new(clock, limit, LOOK);
    let mut said = usize::MAX;
    loop {
        let (missing, found) = match nodes(first).await {
            Ok(found) => (missing(names, ready, &found), found),
            // The API may be briefly unavailable while masters join or leave.
            Err(error) => (vec![error.to_string()], Vec::new()),
        };
        if missing.is_empty() {
            return Ok(found);
        }
        let text = missing.join("; ");
        if missing.len() != said {
            said = missing.len();
            event::progress(format!("waiting for {text}"));
        }
        wait.not_yet(text).await.map_err(|Expired { seen, limit }| {
            let what = format!("not all nodes were {}", if ready { "Ready" } else { "there" });
            Error::too_long(first, what, limit, seen)
        })?;
    }
}

fn missing(names: &[&str], ready: bool, found: &[Registered]) -> Vec<String> {
    let state = |name: &&str| match found.iter().find(|node| node.name == **name) {
        None => Some(format!("{name} has not registered")),
        Some(node) if ready && !node.ready => {
            let why = node.message.as_deref().unwrap_or("no reason given");
            Some(format!("{name} is NotReady ({why})"))
        }
        Some(_) => None,
    };
    names.iter().filter_map(state).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, ready: bool) -> Value {
        json!({
            "metadata": {"name": name, "labels": {
                "kubernetes.io/hostname": name,
                "node-role.kubernetes.io/control-plane": "",
            }},
            "status": {
                "addresses": [
                    {"type": "Hostname", "address": name},
                    {"type": "InternalIP", "address": "10.101.1.101"},
                ],
                "conditions": [
                    {"type": "MemoryPressure", "status": "False", "message": "enough"},
                    {
                        "type": "Ready",
                        "status": if ready { "True" } else { "False" },
                        "reason": "KubeletNotReady",
                        "message": "container runtime network not ready: cni plugin not initialized",
                    },
                ],
                "nodeInfo": {"kubeletVersion": "v1.28.4"},
            },
        })
    }

    #[test]
    fn a_node_is_read_with_role_readiness_and_reason() {
        let seen = registered(&node("m1.kloud.lan", false));
        assert_eq!((seen.name.as_str(), seen.version.as_str()), ("m1.kloud.lan", "v1.28.4"));
        assert!(seen.is(Role::Master) && !seen.is(Role::Worker) && !seen.ready);
        assert_eq!(seen.address.as_deref(), Some("10.101.1.101"));
        assert!(seen.message.unwrap().contains("cni plugin not initialized"));
        assert_eq!(registered(&node("m1", true)).message, None);
    }

    #[test]
    fn what_is_missing_depends_on_what_is_asked_for() {
        let found = [registered(&node("a", false)), registered(&node("b", true))];
        assert!(missing(&["a", "b"], false, &found).is_empty());
        let seen = missing(&["a", "b", "c"], true, &found);
        assert_eq!(seen.len(), 2);
        assert!(seen[0].starts_with("a is NotReady (container runtime"), "{seen:?}");
        assert_eq!(seen[1], "c has not registered");
    }

    #[test]
    fn who_waits_in_vain_for_readiness_is_told_where_to_look() {
        let found = [registered(&node("a", false))];
        let late = |ready| Error::TooLong {
            what: "not all nodes were Ready".into(),
            node: "m1".into(),
            seconds: 600,
            seen: missing(&["a", "b"], ready, &found).join("; "),
        };
        assert!(late(true).hint().unwrap().contains("get pods -o wide"));
        assert_eq!(late(false).hint(), None);
    }

    #[tokio::test]
    async fn the_vip_is_waited_for_and_its_last_words_are_told() {
        use crate::cluster::fixture::k8s1;
        use crate::kubeadm::fake::Host;
        use crate::ssh::fake::Reply;
        use std::sync::atomic::{AtomicUsize, Ordering};

        let tries = AtomicUsize::new(0);
        let host = Host::start(move |words, _| match words {
            ["curl", .., "--cacert", path::CA, "https://k8s1api.kloud.lan:6443/readyz"] => {
                let text = "curl: (7) Failed to connect to k8s1api.kloud.lan port 6443";
                Some(match tries.fetch_add(1, Ordering::SeqCst) {
                    0 => Reply::code(7, text),
                    1 => Reply::out("ok"),
                    _ => Reply::code(60, "curl: (60) SSL certificate problem"),
                })
            }
            _ => None,
        })
        .await;
        let (first, clock) = (host.remote("m1"), Clock::simulated(1000.0).hurried(1000.0));
        through_vip(&first, &k8s1(), clock, Duration::from_secs(600)).await.unwrap();
        let error = through_vip(&first, &k8s1(), clock, Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "https://k8s1api.kloud.lan:6443/readyz did not answer `ok` within 5 s on `m1`; last seen: \
             curl: (60) SSL certificate problem"
        );
    }
}
