//! `kubectl --kubeconfig F ARGS...` on a guest.

use std::net::SocketAddrV4;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::super::Lab;
use super::super::kube::Kube;
use super::super::network::Reach;
use super::{Call, Output, apply, asked, objects};

/// The API server that a kubeconfig leads to: the guest and its cluster.
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
    let url = field("server:").unwrap_or_default();
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
    let met = call.lab.dial(SocketAddrV4::new(address, port));
    let Reach::Api(key) = met else {
        return Err(asked(Output::failed(
            1,
            match met {
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
    let found = call.lab.guests.get_key_value(&key).and_then(|(key, guest)| {
        Some((key.as_str(), call.lab.kubes.get(guest.disk.kube.as_ref()?)?))
    });
    let Some((key, kube)) = found else {
        return Err(asked(Output::failed(
            1,
            "error: You must be logged in to the server (Unauthorized)",
        )));
    };
    let ca = field("certificate-authority-data:").and_then(|text| STANDARD.decode(text).ok());
    if ca.as_deref() != Some(kube.ca.pair.cert.as_bytes()) {
        return Err(asked(Output::failed(
            1,
            "Unable to connect to the server: tls: failed to verify \
            certificate: x509: certificate signed by unknown authority (possibly because of \
            \"crypto/rsa: verification error\" while trying to verify candidate authority certificate \
            \"kubernetes\")",
        )));
    }
    Ok((key, kube))
}

/// The words that matter: without the program, `--kubeconfig F` and the namespace.
fn plain<'a>(call: &Call<'a>) -> Vec<&'a str> {
    let mut words = call.argv.iter().skip(1).copied();
    let mut left = Vec::new();
    while let Some(word) = words.next() {
        match word {
            "--kubeconfig" | "-n" | "--namespace" => drop(words.next()),
            "-A" | "--all-namespaces" => {}
            word if word.starts_with("--kubeconfig=") || word.starts_with("--namespace=") => {}
            word => left.push(word),
        }
    }
    left
}

/// Commands that only read; `None` for what changes something.
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
            _ => Output::failed(
                1,
                "Error from server (NotFound): the server could not find the requested resource",
            ),
        },
        ["get", "nodes" | "node" | "no", name, ..] if !name.starts_with('-') => {
            match kube.nodes.get(*name) {
                Some(node) => print(&objects::node(call.lab, kube, name, node)),
                None => Output::failed(
                    1,
                    format!("Error from server (NotFound): nodes \"{name}\" not found"),
                ),
            }
        }
        ["get", "nodes" | "node" | "no", ..] if json => print(&objects::nodes(call.lab, kube)),
        ["get", "nodes" | "node" | "no", ..] if kube.nodes.is_empty() => {
            Output { stderr: "No resources found\n".to_owned(), ..Output::ok("") }
        }
        ["get", "nodes" | "node" | "no", ..] => {
            Output::ok(objects::node_table(call.lab, kube, wide))
        }
        ["get", "secret" | "secrets", name, ..] if !name.starts_with('-') => {
            let found = match *name {
                "kubeadm-certs" => {
                    kube.live_certs(call.lab.unix()).map(|certs| objects::certs(kube, certs))
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
        ["get", "secret" | "secrets", ..] => print(&objects::tokens(kube, call.lab.unix())),
        ["get", "configmap" | "cm", "kubeadm-config", ..] => print(&objects::kubeadm_config(kube)),
        ["get", "configmap" | "cm", "cluster-info", ..] => {
            print(&objects::cluster_info(kube, call.lab.unix()))
        }
        ["get", "configmap" | "cm", "kube-proxy", ..] if kube.proxy.is_some() => {
            print(&objects::kube_proxy(kube))
        }
        ["get", "configmap" | "cm", name, ..] => match apply::get(kube, "cm", name, call.lab.now) {
            Some(value) => print(&value),
            None => Output::failed(
                1,
                format!("Error from server (NotFound): configmaps \"{name}\" not found"),
            ),
        },
        ["get", kind @ ("crd" | "customresourcedefinition"), name, ..]
        | [
            "get",
            kind @ ("installations.operator.tigera.io" | "tigerastatuses.operator.tigera.io"),
            name,
            ..,
        ] if *kind == "crd" || apply::defines(kube, kind, call.lab.now) => {
            match apply::get(kube, kind, name, call.lab.now) {
                Some(value) => print(&value),
                None => Output::failed(
                    1,
                    format!("Error from server (NotFound): {kind} \"{name}\" not found"),
                ),
            }
        }
        ["get", "pods" | "pod" | "po", ..] => print(&objects::pods(call.lab, kube)),
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

fn print(value: &Value) -> Output {
    // kubectl indents by four.
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    let text = text.lines().fold(String::new(), |out, line| {
        let bare = line.trim_start_matches(' ');
        format!("{out}{}{bare}\n", " ".repeat((line.len() - bare.len()) * 2))
    });
    Output::ok(text)
}

/// The cluster that a command of a guest speaks to, by its id.
///
/// # Errors
/// kubectl's words.
pub fn cluster_id(lab: &Lab, key: &str, words: &[String]) -> Result<String, Output> {
    let Some(guest) = lab.guests.get(key) else { return Err(Output::failed(255, "gone")) };
    let argv = words.iter().map(String::as_str).collect();
    let call = Call { lab, key, guest, root: true, argv };
    let (server, _) = server(&call)?;
    let id = lab.guests.get(server).and_then(|guest| guest.disk.kube.clone());
    id.ok_or_else(|| Output::failed(1, "error: the server is gone"))
}

/// `label`, `delete`, `apply`, `taint`.
pub fn change(lab: &mut Lab, key: &str, words: &[String], stdin: &str) -> Output {
    let id = match cluster_id(lab, key, words) {
        Ok(id) => id,
        Err(failed) => return failed,
    };
    let left: Vec<String> = {
        let Some(guest) = lab.guests.get(key) else { return Output::failed(255, "gone") };
        let argv = words.iter().map(String::as_str).collect();
        let call = Call { lab, key, guest, root: true, argv };
        plain(&call).into_iter().filter(|word| !word.starts_with("--")).map(str::to_owned).collect()
    };
    let left: Vec<&str> = left.iter().map(String::as_str).collect();
    let now = lab.now;
    let Some(kube) = lab.kubes.get_mut(&id) else { return Output::failed(1, "error: gone") };
    asked(match left.as_slice() {
        ["label", "node" | "nodes" | "no", name, pairs @ ..] => {
            let Some(node) = kube.nodes.get_mut(*name) else {
                return asked(Output::failed(
                    1,
                    format!("Error from server (NotFound): nodes \"{name}\" not found"),
                ));
            };
            let before = node.labels.clone();
            for pair in pairs {
                match (pair.split_once('='), pair.strip_suffix('-')) {
                    (Some((label, value)), _) => {
                        node.labels.insert(label.to_owned(), value.to_owned());
                    }
                    (None, Some(label)) => drop(node.labels.remove(label)),
                    (None, None) => {
                        return asked(Output::failed(
                            1,
                            format!("error: unknown label spec: {pair}"),
                        ));
                    }
                }
            }
            let done = if before == node.labels { "not labeled" } else { "labeled" };
            Output::ok(format!("node/{name} {done}\n"))
        }
        ["delete", "node" | "nodes" | "no", name, ..] => match kube.nodes.remove(*name) {
            Some(_) => Output::ok(format!("node \"{name}\" deleted\n")),
            None => Output::failed(
                1,
                format!("Error from server (NotFound): nodes \"{name}\" not found"),
            ),
        },
        ["delete", "secret" | "secrets", "kubeadm-certs", ..] => {
            kube.certs = None;
            Output::ok("secret \"kubeadm-certs\" deleted\n")
        }
        ["apply", ..] if !words.iter().any(|word| word == "--server-side") => {
            Output::failed(1, "metadata.annotations: Too long: may not be more than 262144 bytes")
        }
        ["apply", ..] => apply::apply(kube, words, stdin, now),
        ["taint", ..] => Output::ok("node untainted\n"),
        other => Output::failed(
            1,
            format!("error: unknown command \"{}\" for \"kubectl\"", other.join(" ")),
        ),
    })
}
