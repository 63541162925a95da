//! The `kubectl` commands that change something: `label`, `annotate`, `delete`, `apply`, `create`,
//! `taint`, `cordon`, `drain`.

use std::collections::BTreeMap;

use super::super::Guests;
use super::super::history::What;
use super::super::kube::Kube;
use super::super::node::Ready;
use super::{Call, Output, apply, asked, drain, kubectl};

fn absent(kind: &str, name: &str) -> Output {
    Output::failed(1, format!("Error from server (NotFound): {kind} \"{name}\" not found"))
}

/// Runs a command that changes something.
pub fn change(guests: &mut Guests, key: &str, words: &[String], stdin: &str) -> Output {
    let id = match kubectl::cluster_id(guests, key, words) {
        Ok(id) => id,
        Err(failed) => return failed,
    };
    let left: Vec<String> = {
        let Some(guest) = guests.all.get(key) else { return Output::failed(255, "gone") };
        let argv = words.iter().map(String::as_str).collect();
        let call = Call { guests, key, guest, root: true, argv };
        let plain = kubectl::plain(&call).into_iter();
        plain.filter(|word| !word.starts_with("--")).map(str::to_owned).collect()
    };
    let left: Vec<&str> = left.iter().map(String::as_str).collect();
    if let ["delete", "node" | "nodes" | "no", name, ..] = left.as_slice() {
        return asked(delete_node(guests, key, &id, name));
    }
    if let ["drain", name, ..] = left.as_slice() {
        return asked(drain::drain(guests, &id, name, words));
    }
    let now = guests.now;
    let Some(kube) = guests.kubes.get_mut(&id) else { return Output::failed(1, "error: gone") };
    asked(match left.as_slice() {
        ["label", "node" | "nodes" | "no", name, pairs @ ..] => match kube.nodes.get_mut(*name) {
            None => absent("nodes", name),
            Some(node) => marked(&mut node.labels, name, pairs, "labeled", "label"),
        },
        ["annotate", "node" | "nodes" | "no", name, pairs @ ..] => {
            match kube.nodes.get_mut(*name) {
                None => absent("nodes", name),
                Some(node) => marked(&mut node.annotations, name, pairs, "annotated", "annotation"),
            }
        }
        [verb @ ("cordon" | "uncordon"), name, ..] => match kube.nodes.get_mut(*name) {
            None => absent("nodes", name),
            Some(node) => {
                node.cordoned = *verb == "cordon";
                Output::ok(format!("node/{name} {verb}ed\n"))
            }
        },
        ["delete", "secret" | "secrets", "kubeadm-certs", ..] => match kube.certs.take() {
            Some(_) => Output::ok("secret \"kubeadm-certs\" deleted\n"),
            None => absent("secrets", "kubeadm-certs"),
        },
        ["delete", kind @ ("configmap" | "cm" | "lease"), name, ..] => delete(kube, kind, name),
        ["create", "configmap" | "cm", name, ..] => literal(kube, words, name, now),
        ["apply" | "create", ..] => apply::apply(kube, words, stdin, now),
        ["taint", ..] => Output::ok("node untainted\n"),
        other => Output::failed(
            1,
            format!("error: unknown command \"{}\" for \"kubectl\"", other.join(" ")),
        ),
    })
}

/// The object is deleted; the machine's kubelet is not notified.
fn delete_node(guests: &mut Guests, key: &str, id: &str, name: &str) -> Output {
    let known = guests.kubes.get(id).and_then(|kube| Some((kube, kube.nodes.get(name)?)));
    let Some((kube, node)) = known else { return absent("nodes", name) };
    let runs = guests.all.get(&node.guest).is_some_and(|guest| guest.active("kubelet"));
    let ready = runs && guests.ready(kube, node) == Ready::Yes;
    guests.note(key, What::NodeDeleted { node: name.to_owned(), ready });
    if let Some(kube) = guests.kubes.get_mut(id) {
        kube.nodes.remove(name);
    }
    Output::ok(format!("node \"{name}\" deleted\n"))
}

fn marked(
    marks: &mut BTreeMap<String, String>,
    name: &str,
    pairs: &[&str],
    done: &str,
    what: &str,
) -> Output {
    let before = marks.clone();
    for pair in pairs {
        match (pair.split_once('='), pair.strip_suffix('-')) {
            (Some((mark, value)), _) => {
                marks.insert(mark.to_owned(), value.to_owned());
            }
            (None, Some(mark)) => drop(marks.remove(mark)),
            (None, None) => {
                return Output::failed(1, format!("error: unknown {what} spec: {pair}"));
            }
        }
    }
    let not = if before == *marks { "not " } else { "" };
    Output::ok(format!("node/{name} {not}{done}\n"))
}

fn delete(kube: &mut Kube, kind: &str, name: &str) -> Output {
    let kind = if kind == "cm" { "configmap" } else { kind };
    match kube.applied.remove(&format!("{kind}/{name}")) {
        Some(_) => Output::ok(format!("{kind} \"{name}\" deleted\n")),
        None => absent(&format!("{kind}s"), name),
    }
}

/// `create configmap NAME --from-literal=KEY=VALUE...`.
fn literal(kube: &mut Kube, words: &[String], name: &str, now: crate::world::SimTime) -> Output {
    let after = |flag: &str| {
        words.iter().position(|word| word == flag).and_then(|at| words.get(at + 1)).cloned()
    };
    let namespace = after("-n").or_else(|| after("--namespace"));
    let pairs = words.iter().filter_map(|word| word.strip_prefix("--from-literal="));
    let data: BTreeMap<&str, &str> = pairs.filter_map(|pair| pair.split_once('=')).collect();
    let object = serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": data,
        "metadata": {"name": name, "namespace": namespace.unwrap_or_else(|| "default".to_owned())},
    });
    let words = ["create", "-f", "-"].map(str::to_owned);
    apply::apply(kube, &words, &object.to_string(), now)
}
