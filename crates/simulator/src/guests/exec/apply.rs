//! `kubectl apply -f` and `create -f`: the objects that they store, and the effects.

use serde_json::{Value, json};

use super::super::kube::{Kube, uuid};
use super::super::pace;
use super::Output;
use crate::world::SimTime;

/// Calico's operator, as far as k8sha queries it.
const OPERATOR: &str = "deployment/tigera-operator";
/// The definition that it creates when it starts.
const DEFINITION: &str = "customresourcedefinition/installations.operator.tigera.io";
const INSTALLATION: &str = "installation/default";
const ENDPOINT: &str = "configmap/kubernetes-services-endpoint";

/// The longest annotation: client-side apply stores the whole object in one.
const ANNOTATION: usize = 262_144;

/// The command by which objects are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Server,
    Client,
    Create,
}

/// `apply [--server-side] -f SOURCE` and `create -f SOURCE`; `stdin` is the input for `-`.
pub fn apply(kube: &mut Kube, words: &[String], stdin: &str, now: SimTime) -> Output {
    let has = |word: &str| words.iter().any(|known| known == word);
    let way = match has("--server-side") {
        true => Way::Server,
        false if has("create") => Way::Create,
        false => Way::Client,
    };
    let from = words.iter().position(|word| word == "-f").and_then(|at| words.get(at + 1));
    let Some(from) = from else {
        return Output::failed(1, "error: must specify one of -f and -k");
    };
    if from.starts_with("https://") {
        if !from.ends_with("/manifests/tigera-operator.yaml") {
            return Output::failed(
                1,
                format!(
                    "error: unable to read URL \"{from}\", server reported 404 Not Found, status code=404"
                ),
            );
        }
        if way != Way::Server {
            return Output::failed(
                1,
                "The CustomResourceDefinition \"installations.operator.tigera.io\" is invalid: \
                 metadata.annotations: Too long: may not be more than 262144 bytes",
            );
        }
        let version = from.split('/').rev().nth(2).unwrap_or_default();
        kube.applied.insert(OPERATOR.to_owned(), json!({ "version": version }));
        for name in ["tigera-operator", "calico-system"] {
            kube.applied.entry(format!("namespace/{name}")).or_insert_with(|| json!({}));
        }
        let since = now.after(pace::OPERATOR).0;
        kube.applied.entry(DEFINITION.to_owned()).or_insert_with(|| json!({ "since": since }));
        let lines = "namespace/tigera-operator serverside-applied\n\
                     deployment.apps/tigera-operator serverside-applied\n";
        return Output::ok(lines).lasting(2.0);
    }
    let documents: Vec<Value> = match serde_saphyr::from_multiple(stdin) {
        Ok(documents) => documents,
        Err(error) => return Output::failed(1, format!("error: error parsing STDIN: {error}")),
    };
    let mut printed = String::new();
    for document in documents.into_iter().filter(|document| !document.is_null()) {
        let long = document.to_string().len() > ANNOTATION;
        if long && way == Way::Client {
            let text = "metadata.annotations: Too long: may not be more than 262144 bytes";
            return Output { stdout: printed, ..Output::failed(1, text) };
        }
        match one(kube, document, way, now) {
            Ok(line) => printed.push_str(&line),
            Err(text) => return Output { stdout: printed, ..Output::failed(1, text) },
        }
    }
    Output::ok(printed)
}

fn one(kube: &mut Kube, mut object: Value, way: Way, now: SimTime) -> Result<String, String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
    let namespace = text(&object["metadata"]["namespace"]);
    let group = text(&object["apiVersion"]);
    if kind.is_empty() || name.is_empty() {
        return Err("error: error validating \"STDIN\": Object 'Kind' is missing".to_owned());
    }
    let known = ["", "default", "kube-system", "kube-public", "kube-node-lease"];
    if !known.contains(&namespace.as_str())
        && !kube.applied.contains_key(&format!("namespace/{namespace}"))
    {
        return Err(format!("Error from server (NotFound): namespaces \"{namespace}\" not found"));
    }
    let defined = kube.applied.get(DEFINITION).is_some_and(|made| is_over(&made["since"], now));
    if group.starts_with("operator.tigera.io/") && !defined {
        return Err(format!(
            "error: resource mapping not found for name: \"{name}\" namespace: \"\" from \"STDIN\": no \
             matches for kind \"{kind}\" in version \"{group}\"\nensure CRDs are installed first"
        ));
    }
    match kind.as_str() {
        "Installation" if calico_fault(kube, &object).is_none() => {
            kube.cni.get_or_insert(("calico".to_owned(), now.after(pace::CNI)));
        }
        "DaemonSet" => {
            kube.cni.get_or_insert((name.clone(), now.after(pace::CNI)));
        }
        _ => {}
    }
    let kind = kind.to_lowercase();
    let key = format!("{kind}/{name}");
    let before = kube.applied.get(&key);
    let done = match (way, before) {
        (Way::Create, Some(_)) => {
            return Err(format!(
                "Error from server (AlreadyExists): error when creating \"STDIN\": {kind}s \"{name}\" \
                 already exists"
            ));
        }
        (Way::Server, _) => "serverside-applied",
        (_, None) => "created",
        (Way::Client, Some(_)) => "configured",
    };
    let uid = before.and_then(|known| known["metadata"]["uid"].as_str()).map(str::to_owned);
    object["metadata"]["uid"] = uid.unwrap_or_else(uuid).into();
    kube.applied.insert(key, object);
    Ok(format!("{kind}/{name} {done}\n"))
}

fn is_over(since: &Value, now: SimTime) -> bool {
    since.as_u64().is_some_and(|since| since <= now.0)
}

/// Why an Installation does not become available, in the operator's words.
fn calico_fault(kube: &Kube, installation: &Value) -> Option<String> {
    let network = &installation["spec"]["calicoNetwork"];
    let pods = kube.configuration.lines().find_map(|line| {
        line.trim().strip_prefix("podSubnet:").map(|net| net.trim().trim_matches('"').to_owned())
    });
    let cidr = network["ipPools"][0]["cidr"].as_str().unwrap_or_default();
    if pods.is_some_and(|pods| pods != cidr) {
        return Some(format!(
            "IPPool {cidr} is not within the platform's configured pod network CIDR(s)"
        ));
    }
    if kube.proxy.is_none() && network["linuxDataplane"] != "BPF" {
        return Some("nothing implements services: no kube-proxy, and no eBPF".to_owned());
    }
    if kube.proxy.is_none() && !kube.applied.contains_key(ENDPOINT) {
        return Some("dial tcp: i/o timeout: the kubernetes service has no way yet".to_owned());
    }
    None
}

/// `get KIND NAME -o json` of what was applied or follows from it; `None` if there is nothing.
pub fn get(kube: &Kube, kind: &str, name: &str, now: SimTime) -> Option<Value> {
    let condition = |kind: &str, status: bool, message: &str| {
        let status = if status { "True" } else { "False" };
        json!({ "status": { "conditions": [
            { "type": kind, "status": status, "message": message },
        ] } })
    };
    match kind.split('.').next().unwrap_or(kind) {
        "crd" | "customresourcedefinition" => {
            let made = kube.applied.get(&format!("customresourcedefinition/{name}"))?;
            is_over(&made["since"], now)
                .then(|| condition("Established", true, "the names are accepted"))
        }
        "installation" | "installations" => {
            kube.applied.get(&format!("installation/{name}")).cloned()
        }
        "tigerastatus" | "tigerastatuses" => {
            let installation = kube.applied.get(INSTALLATION)?;
            let fault = calico_fault(kube, installation);
            let up = kube.cni.as_ref().is_some_and(|(_, at)| *at <= now);
            Some(condition("Available", up, &fault.unwrap_or_default()))
        }
        _ => None,
    }
}

/// Whether the API serves a kind that only a CRD defines.
pub fn defines(kube: &Kube, kind: &str, now: SimTime) -> bool {
    kind.ends_with(".operator.tigera.io")
        && kube.applied.get(DEFINITION).is_some_and(|made| is_over(&made["since"], now))
}
