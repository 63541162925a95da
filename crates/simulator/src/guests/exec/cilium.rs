//! The installed `cilium-cli` installer and the `cilium` that it installs.

use super::super::{Guests, pace};
use super::{Call, Output, kubectl};

const BINARY: &str = "/usr/local/bin/cilium";

/// Seconds that `status --wait` waits by default.
const PATIENCE: f64 = 300.0;

/// `cilium status` and `version`; `None` for commands that change something.
pub fn look(call: &Call<'_>) -> Option<Output> {
    if !call.guest.exists(BINARY) {
        return Some(if call.root {
            Output::failed(1, "sudo: cilium: command not found")
        } else {
            Output::failed(127, "bash: line 1: cilium: command not found")
        });
    }
    match call.rest().first().copied() {
        Some("version") => {
            Some(Output::ok("cilium-cli: v0.18.8 compiled with go1.25 on linux/amd64\n"))
        }
        Some("status") => Some(status(call)),
        _ => None,
    }
}

fn status(call: &Call<'_>) -> Output {
    let (_, kube) = match kubectl::server(call) {
        Ok(found) => found,
        Err(failed) => return failed,
    };
    let Some((version, at)) = &kube.cni else {
        return Output::failed(1, "Error: Unable to determine status:  no cilium-config found");
    };
    let left = (at.0.saturating_sub(call.guests.now.0)) as f64 / 1000.0;
    let patience = call.option("--wait-duration").and_then(|text| text.strip_suffix('m'));
    let patience = patience
        .and_then(|text| text.parse::<f64>().ok())
        .map_or(PATIENCE, |minutes| minutes * 60.0);
    if left > 0.0 && (!call.has("--wait") || left > patience) {
        return Output::failed(
            1,
            "Error: Unable to determine status:  timeout while waiting for \
            status to become successful: context deadline exceeded",
        );
    }
    let count = kube.nodes.len();
    Output::ok(format!(
        "    /¯¯\\\n /¯¯\\__/¯¯\\    Cilium:             OK\n \\__/¯¯\\__/    Operator:           OK\n \
         /¯¯\\__/¯¯\\    Envoy DaemonSet:    OK\n \\__/¯¯\\__/    Hubble Relay:       disabled\n    \
         \\__/       ClusterMesh:        disabled\n\nDaemonSet              cilium                   \
         Desired: {count}, Ready: {count}/{count}, Available: {count}/{count}\nImage versions         \
         cilium             quay.io/cilium/cilium:v{version}: {count}\n"
    )).lasting(left + pace::KUBECTL)
}

/// `cilium-cli VERSION` (the installer) and `cilium install`.
pub fn change(guests: &mut Guests, key: &str, words: &[String]) -> Output {
    let program = words.first().map(String::as_str).unwrap_or_default();
    if program.ends_with("cilium-cli") {
        let Some(guest) = guests.all.get_mut(key) else { return Output::failed(255, "gone") };
        if !guest.exists(program) {
            return Output::failed(1, format!("sudo: {program}: command not found"));
        }
        guest.write(BINARY, "", "0755");
        return Output::ok("cilium-linux-amd64.tar.gz: OK\n").lasting(2.0);
    }
    let id = match kubectl::cluster_id(guests, key, words) {
        Ok(id) => id,
        Err(failed) => return failed,
    };
    let at = guests.now.after(pace::CNI);
    let version = words
        .iter()
        .position(|word| word == "--version")
        .and_then(|index| words.get(index + 1))
        .map_or("1.18.4", |version| version.trim_start_matches('v'))
        .to_owned();
    let Some(kube) = guests.kubes.get_mut(&id) else { return Output::failed(1, "gone") };
    match words.get(1).map(String::as_str) {
        Some("install") if kube.cni.is_some() => Output::failed(
            1,
            "Error: Unable to install Cilium: \
            cannot re-use a name that is still in use",
        ),
        Some("install") => {
            kube.cni = Some((version.clone(), at));
            Output::ok(format!(
                "ℹ️  Using Cilium version {version}\n🔮 Auto-detected cluster name: kubernetes\n"
            ))
            .lasting(3.0)
        }
        Some("upgrade") => Output::ok("").lasting(3.0),
        Some("uninstall") => {
            kube.cni = None;
            Output::ok("").lasting(3.0)
        }
        _ => Output::failed(1, "Error: unknown command for \"cilium\""),
    }
}
