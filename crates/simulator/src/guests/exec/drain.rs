//! `kubectl drain NODE --ignore-daemonsets --delete-emptydir-data --timeout=Ns`: cordons the node and moves
//! the pods away that `kubectl apply` stored, if their disruption budgets allow it.
//!
//! The words are those of staging/src/k8s.io/kubectl/pkg/cmd/drain/drain.go and pkg/drain/filters.go of
//! kubernetes/kubernetes.

use serde_json::Value;

use super::super::Guests;
use super::super::node::Ready;
use super::Output;

/// Runs it. `words` are all words of the command line.
pub fn drain(guests: &mut Guests, id: &str, name: &str, words: &[String]) -> Output {
    let others = others(guests, id, name);
    let Some(kube) = guests.kubes.get_mut(id) else { return Output::failed(1, "error: gone") };
    let Some(node) = kube.nodes.get_mut(name) else {
        let text = format!("Error from server (NotFound): nodes \"{name}\" not found");
        return Output::failed(1, text);
    };
    let again = if node.cordoned { "already " } else { "" };
    node.cordoned = true;
    let cordoned = format!("node/{name} {again}cordoned\n");
    let failed = |seconds: f64, told: &str, why: &str| {
        let text = format!(
            "{told}error: unable to drain node \"{name}\" due to error: {why}, continuing \
             command...\nThere are pending nodes to be drained:\n {name}\n{why}"
        );
        Output { stdout: cordoned.clone(), ..Output::failed(1, text) }.lasting(seconds)
    };
    let pods: Vec<(String, Value)> = kube
        .applied
        .iter()
        .filter(|(key, pod)| key.starts_with("pod/") && pod["spec"]["nodeName"] == name)
        .map(|(key, pod)| (key.clone(), pod.clone()))
        .collect();
    let called = |pod: &Value| {
        let text = |key: &str| pod["metadata"][key].as_str().unwrap_or("default").to_owned();
        (text("namespace"), text("name"))
    };
    let bare: Vec<String> = pods
        .iter()
        .filter(|(_, pod)| !pod["metadata"]["ownerReferences"].is_array())
        .map(|(_, pod)| called(pod))
        .map(|(space, pod)| format!("{space}/{pod}"))
        .collect();
    if !bare.is_empty() {
        let why = format!(
            "cannot delete cannot delete Pods that declare no controller (use --force to override): {}",
            bare.join(", ")
        );
        return failed(0.2, "", &why);
    }
    let limit = words.iter().find_map(|word| word.strip_prefix("--timeout="));
    let limit = limit.unwrap_or("0s");
    let budgets: Vec<Value> = kube
        .applied
        .iter()
        .filter(|(key, _)| key.starts_with("poddisruptionbudget/"))
        .map(|(_, budget)| budget.clone())
        .collect();
    let kept = pods.iter().find(|(_, pod)| budgets.iter().any(|budget| keeps(budget, pod)));
    if let Some((_, pod)) = kept {
        let (space, pod) = called(pod);
        let on = format!("error when evicting pods/\"{pod}\" -n \"{space}\"");
        let told = format!(
            "{on} (will retry after 5s): Cannot evict pod as it would violate the pod's disruption \
             budget.\n"
        );
        let seconds = limit.trim_end_matches('s').parse().unwrap_or(0.0);
        return failed(seconds, &told, &format!("{on}: global timeout reached: {limit}"));
    }
    let mut text = cordoned;
    for (key, pod) in pods {
        let (space, called) = called(&pod);
        text.push_str(&format!("evicting pod {space}/{called}\npod/{called} evicted\n"));
        if let Some(pod) = kube.applied.get_mut(&key) {
            pod["spec"]["nodeName"] = others.first().cloned().into();
        }
    }
    text.push_str(&format!("node/{name} drained\n"));
    Output::ok(text).lasting(2.0)
}

/// The nodes on which pods can be scheduled.
fn others(guests: &Guests, id: &str, name: &str) -> Vec<String> {
    let Some(kube) = guests.kubes.get(id) else { return Vec::new() };
    let fit = |(other, node): &(&String, &super::super::node::Node)| {
        *other != name && !node.cordoned && !node.tainted && guests.ready(kube, node) == Ready::Yes
    };
    kube.nodes.iter().filter(fit).map(|(other, _)| other.clone()).collect()
}

/// Whether a budget allows no disruption of a pod.
fn keeps(budget: &Value, pod: &Value) -> bool {
    let labels = budget["spec"]["selector"]["matchLabels"].as_object();
    budget["spec"]["maxUnavailable"] == 0
        && labels.is_some_and(|labels| {
            labels.iter().all(|(key, value)| pod["metadata"]["labels"][key] == *value)
        })
}
