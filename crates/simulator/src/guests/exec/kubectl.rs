//! `kubectl --kubeconfig F ARGS...` on a guest.

use std::net::SocketAddrV4;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::super::Guests;
use super::super::kube::Kube;
use super::super::network::Reach;
use super::super::node::UNKNOWN_AUTHORITY;
use super::{Call, Output, apply, asked, configmaps, nodes, objects, workloads};

/// The API server that a kubeconfig points to: the guest and its cluster.
///
/// # Errors
/// kubectl's words.
pub fn server<'a>(call: &Call<'a>) -> Result<(&'a str, &'a Kube), Output> {
    let file = call.option("--kubeconfig").unwrap_or("/root/.kube/config");
    let text = match call.guest.text(file) {
        Some(_) if !call.root && !call.guest.world_readable(file) => {
            let text = format!(
                "error: error loading config file \"{file}\": open {file}: permission denied"
            );
            return Err(Output::failed(1, text));
        }
        Some(text) => text,
        None => {
            return Err(Output::failed(
                1,
                format!("error: stat {file}: no such file or directory"),
            ));
        }
    };
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.trim().strip_prefix(name).map(|rest| rest.trim().to_owned()))
    };
    let url = match call.option("--server") {
        Some(url) => url.to_owned(),
        None => field("server:").unwrap_or_default(),
    };
    let endpoint = url.trim_start_matches("https://");
    let (host, port) = endpoint.rsplit_once(':').unwrap_or((endpoint, "6443"));
    let Some(address) = call.resolve(host) else {
        return Err(asked(Output::failed(
            1,
            format!(
                "Unable to connect to the server: dial tcp: lookup {host} on 127.0.0.53:53: no such host"
            ),
        )));
    };
    let port: u16 = port.parse().unwrap_or(6443);
    let met = call.guests.dial(SocketAddrV4::new(address, port));
    let Reach::Api(key) = met else {
        return Err(asked(Output::failed(
            1,
            match met {
                Reach::Ill(_) => "Error from server: etcdserver: request timed out".to_owned(),
                Reach::Closed => "Unable to connect to the server: EOF".to_owned(),
                Reach::NoRoute => format!(
                    "Unable to connect to the server: dial tcp {address}:{port}: connect: no route to host"
                ),
                _ => format!(
                    "The connection to the server {host}:{port} was refused - did you specify the right \
                 host or port?"
                ),
            },
        )));
    };
    let found = call.guests.all.get_key_value(&key).and_then(|(key, guest)| {
        Some((key.as_str(), call.guests.kubes.get(guest.disk.kube.as_ref()?)?))
    });
    let Some((key, kube)) = found else {
        return Err(asked(Output::failed(
            1,
            "error: You must be logged in to the server (Unauthorized)",
        )));
    };
    let ca = field("certificate-authority-data:").and_then(|text| STANDARD.decode(text).ok());
    // Whatever cluster it serves: the certificate is signed by the CA on its own machine.
    if ca.as_deref() != call.guests.api_ca(key).map(str::as_bytes) {
        let text = format!("Unable to connect to the server: {UNKNOWN_AUTHORITY}");
        return Err(asked(Output::failed(1, text)));
    }
    Ok((key, kube))
}

/// The words that matter: without the program, `--kubeconfig F` and the namespace.
pub(super) fn plain<'a>(call: &Call<'a>) -> Vec<&'a str> {
    let mut words = call.argv.iter().skip(1).copied();
    let mut left = Vec::new();
    while let Some(word) = words.next() {
        match word {
            "--kubeconfig" | "-n" | "--namespace" | "--server" => drop(words.next()),
            "-A" | "--all-namespaces" => {}
            word if word.starts_with("--kubeconfig=") || word.starts_with("--namespace=") => {}
            word => left.push(word),
        }
    }
    left
}

/// Read-only commands; `None` for commands that change something.
pub fn look(call: &Call<'_>) -> Option<Output> {
    if !call.guest.disk.packages.contains_key("kubectl") {
        return Some(match call.root {
            true => Output::failed(1, "sudo: kubectl: command not found"),
            false => Output::failed(127, "bash: line 1: kubectl: command not found"),
        });
    }
    let words = plain(call);
    if words.first() == Some(&"version") && words.contains(&"--client") {
        let version = call.guest.kube_version("kubectl").unwrap_or_default();
        return Some(Output::ok(format!("Client Version: {version}\n")));
    }
    let (_, kube) = match server(call) {
        Ok(found) => found,
        Err(failed) => return Some(failed),
    };
    let json = words.windows(2).any(|pair| pair == ["-o", "json"]) || words.contains(&"-ojson");
    let wide = words.windows(2).any(|pair| pair == ["-o", "wide"]);
    let done = match words.as_slice() {
        ["get", "--raw", path, ..] => match path.split('?').next() {
            Some("/readyz" | "/livez" | "/healthz") => Output::ok("ok"),
            Some("/version") => Output::ok(version(&kube.version)),
            _ => Output::failed(
                1,
                "Error from server (NotFound): the server could not find the requested resource",
            ),
        },
        ["get", "nodes" | "node" | "no", name, ..] if !name.starts_with('-') => {
            match kube.nodes.get(*name) {
                Some(node) => print(&nodes::node(call.guests, kube, name, node)),
                None => Output::failed(
                    1,
                    format!("Error from server (NotFound): nodes \"{name}\" not found"),
                ),
            }
        }
        ["get", "nodes" | "node" | "no", ..] if json => print(&nodes::nodes(call.guests, kube)),
        ["get", "nodes" | "node" | "no", ..] if kube.nodes.is_empty() => {
            Output { stderr: "No resources found\n".to_owned(), ..Output::ok("") }
        }
        ["get", "nodes" | "node" | "no", ..] => {
            Output::ok(nodes::node_table(call.guests, kube, wide))
        }
        ["get", "secret" | "secrets", name, ..] if !name.starts_with('-') => {
            let found = match *name {
                "kubeadm-certs" => {
                    kube.live_certs(call.guests.unix()).map(|certs| objects::certs(kube, certs))
                }
                name => name
                    .strip_prefix("bootstrap-token-")
                    .and_then(|id| Some(objects::token(id, kube.tokens.get(id)?))),
            };
            match found {
                Some(value) => print(&value),
                None => Output::failed(
                    1,
                    format!("Error from server (NotFound): secrets \"{name}\" not found"),
                ),
            }
        }
        ["get", "secret" | "secrets", ..] => print(&objects::tokens(kube, call.guests.unix())),
        ["get", "configmap" | "configmaps" | "cm", name, ..] if !name.starts_with('-') => or_none(
            configmaps::get(kube, namespace(call), name, call.guests.unix()),
            "configmaps",
            name,
        ),
        ["get", "namespace" | "namespaces" | "ns", name, ..] if !name.starts_with('-') => {
            or_none(configmaps::namespace(kube, name), "namespaces", name)
        }
        ["get", "namespace" | "namespaces" | "ns", ..] => print(&configmaps::namespaces(kube)),
        ["get", "daemonset" | "daemonsets" | "ds", ..] => {
            named(call, &words, workloads::daemonsets(call.guests, kube), "daemonsets.apps")
        }
        ["get", "deployment" | "deployments" | "deploy", ..] => {
            named(call, &words, workloads::deployments(call.guests, kube), "deployments.apps")
        }
        ["get", "lease" | "leases", name, ..] if !name.starts_with('-') => {
            let found = match namespace(call) {
                "kube-node-lease" => nodes::lease(call.guests, kube, name),
                own => kube.applied.get(&format!("lease/{name}")).cloned().filter(|lease| {
                    lease["metadata"]["namespace"].as_str().unwrap_or("default") == own
                }),
            };
            or_none(found, "leases.coordination.k8s.io", name)
        }
        ["get", "lease" | "leases", ..] => {
            let of_nodes =
                kube.nodes.keys().filter_map(|name| nodes::lease(call.guests, kube, name));
            let shown = of_nodes.filter(|_| namespace(call) == "kube-node-lease" || call.has("-A"));
            print(&objects::list(shown.collect()))
        }
        ["get", kind @ ("crd" | "customresourcedefinition"), name, ..]
        | [
            "get",
            kind @ ("installations.operator.tigera.io" | "tigerastatuses.operator.tigera.io"),
            name,
            ..,
        ] if *kind == "crd" || apply::defines(kube, kind, call.guests.now) => {
            match apply::get(kube, kind, name, call.guests.now) {
                Some(value) => print(&value),
                None => Output::failed(
                    1,
                    format!("Error from server (NotFound): {kind} \"{name}\" not found"),
                ),
            }
        }
        ["get", "pods" | "pod" | "po", ..] => print(&objects::pods(call.guests, kube)),
        ["get", "pv" | "persistentvolume" | "persistentvolumes", ..] => {
            let volumes =
                kube.applied.iter().filter(|(key, _)| key.starts_with("persistentvolume/"));
            print(&objects::list(volumes.map(|(_, volume)| volume.clone()).collect()))
        }
        ["cluster-info", ..] => Output::ok(format!(
            "Kubernetes control plane is running at https://{}\n",
            kube.endpoint
        )),
        ["get", kind, ..] => {
            Output::failed(1, format!("error: the server doesn't have a resource type \"{kind}\""))
        }
        _ => return None,
    };
    Some(asked(done))
}

/// The namespace that a command names.
fn namespace<'a>(call: &Call<'a>) -> &'a str {
    let words = || call.argv.iter().copied();
    let inline = words()
        .find_map(|word| word.strip_prefix("--namespace=").or_else(|| word.strip_prefix("-n=")));
    let after = words().zip(words().skip(1));
    let spaced = || after.clone().find(|(word, _)| ["-n", "--namespace"].contains(word));
    inline.or_else(|| spaced().map(|(_, name)| name)).unwrap_or("default")
}

fn or_none(found: Option<Value>, kind: &str, name: &str) -> Output {
    match found {
        Some(value) => print(&value),
        None => {
            Output::failed(1, format!("Error from server (NotFound): {kind} \"{name}\" not found"))
        }
    }
}

/// A list, or the named one of its objects.
fn named(call: &Call<'_>, words: &[&str], list: Value, kind: &str) -> Output {
    let all = call.has("-A") || call.has("--all-namespaces");
    let own = namespace(call);
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let mut near = items.into_iter().filter(|item| all || item["metadata"]["namespace"] == own);
    match words.get(2).filter(|name| !name.starts_with('-')) {
        Some(name) => or_none(near.find(|item| item["metadata"]["name"] == **name), kind, name),
        None => print(&objects::list(near.collect())),
    }
}

/// The version that the API server reports.
pub(super) fn version(version: &str) -> String {
    let minor = version.trim_start_matches("v1.").split('.').next().unwrap_or_default();
    format!(
        "{{\n  \"major\": \"1\",\n  \"minor\": \"{minor}\",\n  \"gitVersion\": \"{version}\",\n  \
         \"platform\": \"linux/amd64\"\n}}"
    )
}

fn print(value: &Value) -> Output {
    // kubectl indents by four.
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    let text = text.lines().fold(String::new(), |out, line| {
        let bare = line.trim_start_matches(' ');
        format!("{out}{}{bare}\n", " ".repeat((line.len() - bare.len()) * 2))
    });
    Output::ok(text)
}

/// The id of the cluster that a guest's command talks to.
///
/// # Errors
/// kubectl's words.
pub fn cluster_id(guests: &Guests, key: &str, words: &[String]) -> Result<String, Output> {
    let Some(guest) = guests.all.get(key) else { return Err(Output::failed(255, "gone")) };
    let argv = words.iter().map(String::as_str).collect();
    let call = Call { guests, key, guest, root: true, argv };
    let (server, _) = server(&call)?;
    let id = guests.all.get(server).and_then(|guest| guest.disk.kube.clone());
    id.ok_or_else(|| Output::failed(1, "error: the server is gone"))
}
