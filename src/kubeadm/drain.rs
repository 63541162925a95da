//! Takes a node out of a running cluster: drains it, stops its kubelet and deletes its Node object; or
//! returns it to service.
//!
//! Order and reasons: pods leave before their node does, as far as disruption budgets allow
//! (kubernetes.io/docs/tasks/administer-cluster/safely-drain-node); a kubelet that still runs would
//! register its Node again. An annotation shows that a removal was started, so that a node whose row
//! comes back in between does not stay cordoned.

use std::time::Duration;

use serde_json::{Value, json};

use super::error::Doing;
use super::{Error, facts, files, forget, kubectl, path, ready};
use crate::clock::{Clock, Wait};
use crate::limits::{excerpt, ssh};
use crate::report::event;
use crate::ssh::{Command, Remote, mask};

/// The annotation of a node whose removal was started.
pub const ANNOTATION: &str = "k8sha/removal";
/// Its value if the node was cordoned before: then it stays cordoned if it is not removed.
const CORDONED: &str = "cordoned";
/// Its value otherwise.
const SCHEDULED: &str = "scheduled";
/// How long the pods of a node may take to leave it.
const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// How long a kubelet that was started may take to register its Node.
const REGISTERS: Duration = Duration::from_secs(2 * 60);
/// The label that a volume on a node's disk is usually bound to.
const HOSTNAME: &str = "kubernetes.io/hostname";
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_secs(5);
/// How long one attempt may take, as an argument of kubectl: short, so that what it waits for is shown.
const ATTEMPT: &str = "--timeout=20s";
/// What kubectl adds to an obstacle that only a flag overrides: waiting does not remove it
/// (staging/src/k8s.io/kubectl/pkg/drain/filters.go of kubernetes/kubernetes).
const OVERRIDE: &str = "(use --";

/// A node by its name and the machine that registered it.
#[derive(Clone, Copy, Debug)]
pub struct Leaving<'a> {
    /// The name of its Node object.
    pub name: &'a str,
    /// The machine id in it.
    pub machine_id: &'a str,
}

impl Leaving<'_> {
    /// Its Node object; `None` if there is none.
    async fn find(&self, via: &Remote) -> Result<Option<ready::Registered>, Error> {
        let nodes = ready::nodes(via).await?;
        let Some(node) = nodes.into_iter().find(|node| node.name == self.name) else {
            return Ok(None);
        };
        if node.machine_id == self.machine_id {
            return Ok(Some(node));
        }
        Err(Error::OtherMachine {
            node: via.node().to_owned(),
            name: self.name.to_owned(),
            found: node.machine_id,
            wanted: self.machine_id.to_owned(),
        })
    }

    fn stays(&self, said: impl Into<String>) -> Error {
        Error::Drain { name: self.name.to_owned(), said: said.into() }
    }
}

/// Cordons a node and evicts its pods. If they do not leave it in time, the node is returned to service.
///
/// # Errors
/// [`Error::Drain`] with kubectl's words, or with the volumes whose data only this node has;
/// [`Error::OtherMachine`] if another machine has registered under its name.
pub async fn run(via: &Remote, leaving: Leaving<'_>, clock: Clock) -> Result<bool, Error> {
    let name = leaving.name;
    let Some(node) = leaving.find(via).await? else { return Ok(false) };
    check_volumes(via, name).await?;
    if !node.leaving {
        let was = if node.cordoned { CORDONED } else { SCHEDULED };
        let mark = format!("{ANNOTATION}={was}");
        kubectl::text(via, &["annotate", "--overwrite", "node", name, &mark]).await?;
    }
    let Err(said) = evict(via, name, clock).await? else { return Ok(true) };
    let back = release(via, name).await;
    let after = match back {
        Ok(true) => "it was returned to service".to_owned(),
        Ok(false) => "it stays cordoned, as it was before".to_owned(),
        Err(error) => format!("it is still cordoned: {error}"),
    };
    Err(leaving.stays(format!("{said}\n{after}")))
}

/// Evicts the pods; what keeps them there, if they stay.
async fn evict(via: &Remote, name: &str, clock: Clock) -> Result<Result<(), String>, Error> {
    let mut wait = Wait::new(clock, PATIENCE, PAUSE);
    loop {
        let args = ["drain", name, "--ignore-daemonsets", "--delete-emptydir-data", ATTEMPT];
        let output = kubectl::run(via, &args).await?;
        if output.success() {
            return Ok(Ok(()));
        }
        let said = last(&output.stderr_text());
        event::progress(format!("waiting for its pods to leave: {said}"));
        if said.contains(OVERRIDE) {
            return Ok(Err(said));
        }
        if let Err(expired) = wait.not_yet(said).await {
            let seconds = expired.limit.as_secs();
            return Ok(Err(format!("its pods did not leave within {seconds} s: {}", expired.seen)));
        }
    }
}

/// The last lines that say what keeps pods on a node.
fn last(text: &str) -> String {
    let told = |line: &&str| {
        let line = line.trim();
        line.starts_with("error when ") || line.starts_with("cannot ") || line.starts_with("Error ")
    };
    let mut lines: Vec<&str> = text.lines().filter(told).map(str::trim).collect();
    lines.dedup();
    let said = match lines.last() {
        Some(line) => (*line).to_owned(),
        None => text.trim().lines().last().unwrap_or("no output").to_owned(),
    };
    // The end says that the time is over; the line before says why.
    let why = lines.iter().rev().find(|line| line.contains("(will retry"));
    mask::mask(&excerpt(why.map_or(&*said, |why| why), ssh::QUOTED))
}

/// Checks that no volume in use can be reached from this node only.
///
/// # Errors
/// [`Error::Drain`] with the volumes.
pub async fn check_volumes(via: &Remote, name: &str) -> Result<(), Error> {
    let list = kubectl::json(via, &["get", "pv", "-o", "json"]).await?;
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let used = items.iter().filter(|volume| volume["status"]["phase"] != "Available");
    let bound: Vec<&Value> = used.filter(|volume| !terms(volume).is_empty()).collect();
    if bound.is_empty() {
        return Ok(());
    }
    let nodes = kubectl::json(via, &["get", "nodes", "-o", "json"]).await?;
    let nodes = nodes["items"].as_array().cloned().unwrap_or_default();
    let called = |node: &&Value| node["metadata"]["name"] == name;
    // A Node that was deleted had at least this label.
    let gone = json!({"metadata": {"labels": {HOSTNAME: name}}});
    let this = nodes.iter().find(called).unwrap_or(&gone);
    let only = |volume: &&&Value| {
        is_reached(volume, this, true)
            && !nodes
                .iter()
                .filter(|node| !called(node))
                .any(|node| is_reached(volume, node, false))
    };
    let volumes: Vec<String> = bound.iter().filter(only).map(|volume| describe(volume)).collect();
    if volumes.is_empty() {
        return Ok(());
    }
    let volumes = excerpt(&volumes.join(", "), ssh::QUOTED);
    let said = format!("it has the only copy of the data of {volumes}");
    Err(Error::Drain { name: name.to_owned(), said })
}

/// The alternative terms of a volume's node affinity.
fn terms(volume: &Value) -> Vec<Value> {
    let terms = &volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"];
    terms.as_array().cloned().unwrap_or_default()
}

/// Whether a volume can be reached from a node, by the node's labels; `unknown` for what is not evaluated
/// here (kubernetes.io/docs/concepts/storage/persistent-volumes, "Node Affinity").
fn is_reached(volume: &Value, node: &Value, unknown: bool) -> bool {
    let holds = |one: &Value| {
        let label = one["key"].as_str().and_then(|key| node["metadata"]["labels"].get(key));
        let listed =
            one["values"].as_array().is_some_and(|all| all.iter().any(|it| Some(it) == label));
        match one["operator"].as_str() {
            Some("In") => listed,
            Some("NotIn") => !listed,
            Some("Exists") => label.is_some(),
            Some("DoesNotExist") => label.is_none(),
            _ => unknown,
        }
    };
    terms(volume).iter().any(|term| {
        let expressions = term["matchExpressions"].as_array();
        expressions.is_none_or(|all| all.iter().all(holds))
    })
}

fn describe(volume: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("unnamed").to_owned();
    let claim = &volume["spec"]["claimRef"];
    match claim["name"].as_str() {
        Some(claimed) => format!(
            "the volume {} (claim {}/{claimed})",
            text(&volume["metadata"]["name"]),
            text(&claim["namespace"])
        ),
        None => format!("the volume {}", text(&volume["metadata"]["name"])),
    }
}

/// Stops a drained node's kubelet and deletes its Node object. `machine` is `None` if it is off: then the
/// object must not be Ready.
///
/// # Errors
/// [`Error::Drain`] if the node is not cordoned any more, or if its machine is off and has the only copy
/// of a volume's data; [`Error::OtherMachine`] if the Node or the machine is another one;
/// [`Error::StillReports`] if a kubelet still reports under its name.
pub async fn delete(
    via: &Remote,
    machine: Option<&Remote>,
    leaving: Leaving<'_>,
    clock: Clock,
) -> Result<bool, Error> {
    let Leaving { name, machine_id } = leaving;
    let Some(node) = leaving.find(via).await? else { return Ok(false) };
    match machine {
        Some(machine) => {
            if !node.cordoned {
                return Err(leaving.stays("it was uncordoned after it was drained"));
            }
            stop(machine, leaving).await?;
        }
        None => {
            check_volumes(via, name).await?;
            let gone = forget::Gone {
                name: name.to_owned(),
                machine_id: machine_id.to_owned(),
                members: Vec::new(),
            };
            forget::silent(via, &gone, clock).await?;
        }
    }
    event::progress(format!("delete the Node object `{name}`"));
    kubectl::text(via, &["delete", "node", name]).await?;
    match leaving.find(via).await? {
        None => Ok(true),
        Some(_) => Err(Error::StillReports { node: via.node().to_owned(), name: name.to_owned() }),
    }
}

/// Checks that a machine has no Node object: it may have registered again since it was deleted.
///
/// # Errors
/// [`Error::Drain`] if it has one.
pub async fn has_left(via: &Remote, name: &str) -> Result<(), Error> {
    let nodes = ready::nodes(via).await?;
    if nodes.iter().all(|node| node.name != name) {
        return Ok(());
    }
    let said = "its machine has registered it again, and pods may run there".to_owned();
    Err(Error::Drain { name: name.to_owned(), said })
}

/// Stops the kubelet of the machine that registered the Node, and of no other.
async fn stop(machine: &Remote, leaving: Leaving<'_>) -> Result<(), Error> {
    let facts = facts::gather(machine).await?;
    if facts.machine_id != leaving.machine_id {
        return Err(Error::OtherMachine {
            node: machine.node().to_owned(),
            name: leaving.name.to_owned(),
            found: facts.machine_id,
            wanted: leaving.machine_id.to_owned(),
        });
    }
    if facts.apiserver {
        return Err(leaving.stays("its machine has a control plane"));
    }
    let stop = Command::sudo("systemctl").args(["stop", "kubelet"]);
    files::write(machine, path::LEAVING, b"").await?;
    machine.run_ok(&stop).await.doing("stop the kubelet")?;
    Ok(())
}

/// Returns a node to service whose removal was started: starts its kubelet, which registers the Node again
/// if it was deleted, and uncordons it unless it was cordoned before.
///
/// # Errors
/// [`Error::OtherMachine`] if another machine has registered under its name; [`Error::TooLong`] if the
/// kubelet does not register.
pub async fn undo(
    via: &Remote,
    machine: &Remote,
    leaving: Leaving<'_>,
    clock: Clock,
) -> Result<bool, Error> {
    let start = Command::sudo("systemctl").args(["start", "kubelet"]);
    machine.run_ok(&start).await.doing("start the kubelet")?;
    let mut wait = Wait::new(clock, REGISTERS, PAUSE);
    while leaving.find(via).await?.is_none() {
        event::progress("waiting until its kubelet registers the Node");
        if let Err(expired) = wait.not_yet(()).await {
            let what = format!("its kubelet did not register the Node `{}`", leaving.name);
            return Err(Error::too_long(machine, what, expired.limit, "no such Node"));
        }
    }
    release(via, leaving.name).await?;
    files::remove(machine, path::LEAVING).await?;
    Ok(true)
}

/// Uncordons a node, unless it was cordoned before its removal was started, and removes the annotation;
/// returns whether it is not cordoned now.
async fn release(via: &Remote, name: &str) -> Result<bool, Error> {
    let node = kubectl::json(via, &["get", "node", name, "-o", "json"]).await?;
    let was = node["metadata"]["annotations"][ANNOTATION].as_str();
    if was == Some(SCHEDULED) {
        kubectl::text(via, &["uncordon", name]).await?;
    }
    if was.is_some() {
        let mark = format!("{ANNOTATION}-");
        kubectl::text(via, &["annotate", "node", name, &mark]).await?;
    }
    Ok(was != Some(CORDONED))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::json;

    use super::*;
    use crate::kubeadm::fake::Host;
    use crate::ssh::fake::Reply;

    #[test]
    fn what_keeps_a_pod_on_its_node_is_quoted() {
        let budget = "node/w1 already cordoned\nevicting pod default/web-0\nerror when evicting \
                      pods/\"web-0\" -n \"default\" (will retry after 5s): Cannot evict pod as it would \
                      violate the pod's disruption budget.\nThere are pending nodes to be drained:\n w1\n\
                      error when evicting pods/\"web-0\" -n \"default\": global timeout reached: 20s\n";
        assert_eq!(
            last(budget),
            "error when evicting pods/\"web-0\" -n \"default\" (will retry after 5s): Cannot evict pod \
             as it would violate the pod's disruption budget."
        );
        let bare = "node/w1 cordoned\nerror: unable to drain node \"w1\" due to error: cannot delete \
                    cannot delete Pods that declare no controller (use --force to override): default/a, \
                    continuing command...\nThere are pending nodes to be drained:\n w1\ncannot delete \
                    cannot delete Pods that declare no controller (use --force to override): default/a\n";
        assert!(
            last(bare).contains(OVERRIDE) && last(bare).ends_with("default/a"),
            "{}",
            last(bare)
        );
        assert_eq!(last("strange"), "strange");
    }

    #[test]
    fn what_kubectl_prints_is_shown_in_a_bounded_length() {
        let long =
            format!("cannot delete Pods (use --force to override): {}", "a/b, ".repeat(100_000));
        assert!(last(&long).len() < 2 * ssh::QUOTED && last(&long).contains(OVERRIDE));
    }

    const LEAVING: Leaving<'static> = Leaving { name: "w1.lan", machine_id: "id/uuid" };

    /// A master whose API has this Node, and the commands on it that change something.
    async fn master(machine: &'static str, cordoned: bool) -> (Host, Arc<Mutex<Vec<String>>>) {
        let done = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&done);
        let host = Host::start(move |words, _| {
            let ["kubectl", "--kubeconfig", _, rest @ ..] = words else { return None };
            Some(Reply::out(
                match rest {
                    ["get", "nodes", ..] => json!({"items": [{
                        "metadata": {"name": "w1.lan"},
                        "spec": {"unschedulable": cordoned},
                        "status": {"nodeInfo": {"machineID": machine, "systemUUID": "uuid"}},
                    }]}),
                    ["get", "pv", ..] => json!({"items": []}),
                    other => {
                        log.lock().unwrap().push(other.join(" "));
                        json!({})
                    }
                }
                .to_string(),
            ))
        })
        .await;
        (host, done)
    }

    #[tokio::test]
    async fn the_node_of_another_machine_is_neither_drained_nor_deleted_nor_returned() {
        let (master, done) = master("other", true).await;
        let via = master.remote("m1");
        let clock = Clock::real();
        for error in [
            run(&via, LEAVING, clock).await.unwrap_err(),
            delete(&via, Some(&via), LEAVING, clock).await.unwrap_err(),
            delete(&via, None, LEAVING, clock).await.unwrap_err(),
        ] {
            assert!(matches!(error, Error::OtherMachine { .. }), "{error}");
        }
        assert_eq!(*done.lock().unwrap(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_node_that_was_uncordoned_after_its_drain_is_not_deleted() {
        let (master, done) = master("id", false).await;
        let via = master.remote("m1");
        let error = delete(&via, Some(&via), LEAVING, Clock::real()).await.unwrap_err();
        assert!(error.to_string().contains("uncordoned after it was drained"), "{error}");
        assert_eq!(*done.lock().unwrap(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_node_that_has_registered_again_keeps_its_machine() {
        let (master, _) = master("id", false).await;
        let via = master.remote("m1");
        let error = has_left(&via, "w1.lan").await.unwrap_err();
        assert!(error.to_string().contains("registered it again"), "{error}");
        has_left(&via, "w2.lan").await.unwrap();
    }

    #[test]
    fn a_volume_counts_as_local_if_no_other_node_reaches_it() {
        let volume = |key: &str, operator: &str, value: &str| {
            json!({"metadata": {"name": "pv1"}, "status": {"phase": "Bound"},
                "spec": {"claimRef": {"namespace": "db", "name": "data-0"}, "nodeAffinity":
                    {"required": {"nodeSelectorTerms": [{"matchExpressions":
                        [{"key": key, "operator": operator, "values": [value]}]}]}}}})
        };
        let node = |name: &str, zone: &str| json!({"metadata": {"name": name, "labels": {HOSTNAME: name, "zone": zone, "disk": name}}});
        let (w1, w2) = (node("w1.lan", "a"), node("w2.lan", "a"));
        for (volume, here, there) in [
            (volume(HOSTNAME, "In", "w1.lan"), true, false),
            (volume(HOSTNAME, "In", "w2.lan"), false, true),
            (volume("disk", "In", "w1.lan"), true, false),
            (volume("zone", "In", "a"), true, true),
            (volume("zone", "NotIn", "a"), false, false),
            (volume("zone", "Exists", ""), true, true),
            // What cannot be evaluated may be on this node and nowhere else.
            (volume("zone", "Gt", "1"), true, false),
            (json!({}), false, false),
        ] {
            assert_eq!(is_reached(&volume, &w1, true), here, "{volume}");
            assert_eq!(is_reached(&volume, &w2, false), there, "{volume}");
        }
        let text = describe(&volume(HOSTNAME, "In", "w1.lan"));
        assert_eq!(text, "the volume pv1 (claim db/data-0)");
    }
}
