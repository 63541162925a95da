//! kubeadm's short commands: `version`, `config validate`, `reset`, `init phase upload-certs`,
//! `token create`, `certs certificate-key`.

use super::super::kubeadm::endpoint::through_endpoint;
use super::super::kubeadm::{config, minor, reset, secrets};
use super::super::node::field;
use super::super::{Guests, pace};
use super::{Call, Output};

/// Read-only commands; `None` for commands that change something.
pub fn look(call: &Call<'_>) -> Option<Output> {
    let Some(version) = call.guest.kube_version("kubeadm") else {
        return Some(match call.root {
            true => Output::failed(1, "sudo: kubeadm: command not found"),
            false => Output::failed(127, "bash: line 1: kubeadm: command not found"),
        });
    };
    match call.rest() {
        ["version", ..] => Some(Output::ok(format!("{version}\n"))),
        ["config", "validate", ..] => Some(validate(call)),
        ["config", "images", "list", ..] => Some(Output::ok(format!(
            "registry.k8s.io/kube-apiserver:{version}\nregistry.k8s.io/kube-controller-manager:{version}\n\
             registry.k8s.io/kube-scheduler:{version}\nregistry.k8s.io/pause:3.10\n"
        ))),
        ["init" | "join", rest @ ..] if !rest.contains(&"phase") => Some(Output::failed(
            1,
            "error: run it under systemd-run: its end must not hang on this connection",
        )),
        _ if !call.root => Some(super::system::unprivileged(call)),
        _ => None,
    }
}

fn validate(call: &Call<'_>) -> Output {
    let path = call.option("--config").unwrap_or_default();
    let text = match call.guest.text(path) {
        Some(_) if !call.root && !call.guest.world_readable(path) => {
            return Output::failed(1, format!("open {path}: permission denied"));
        }
        Some(text) => text,
        None => return Output::failed(1, format!("open {path}: no such file or directory")),
    };
    match config::read(text, minor(call.guests, call.key)) {
        Ok(config) if config.warnings.is_empty() => Output::ok("ok\n"),
        Ok(config) => Output::failed(1, config.warnings.join("\n")),
        Err(text) => Output::failed(1, text),
    }
}

/// Commands that change something.
pub fn change(guests: &mut Guests, key: &str, words: &[String]) -> Output {
    let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
    if words.first() == Some(&"reset") {
        return Output::ok(reset::reset(guests, key)).lasting(pace::RESET);
    }
    let path = words.iter().position(|word| *word == "--config").and_then(|at| words.get(at + 1));
    let given = path.map(|path| {
        let text = guests.all.get(key).and_then(|guest| guest.text(path));
        let text = text.ok_or_else(|| format!("open {path}: no such file or directory"))?;
        config::read(text, minor(guests, key))
    });
    let mut config = match given.transpose() {
        Ok(config) => config.unwrap_or_default(),
        Err(text) => return Output::failed(1, text),
    };
    if !guests.api_up(key) {
        let url = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config?timeout=10s";
        return Output::failed(1, format!(
            "error execution phase upload-certs: Get \"https://{}{url}\": dial tcp: connect: connection refused",
            config.endpoint.unwrap_or_default()
        )).lasting(pace::KUBECTL);
    }
    // Without a configuration it uses admin.conf.
    let admin = guests.all.get(key).and_then(|guest| guest.text("/etc/kubernetes/admin.conf"));
    let admin = admin.and_then(|text| field(text, "server: https://")).map(str::to_owned);
    if let Some(endpoint) = config.endpoint.clone().or(admin) {
        let ca = guests.api_ca(key).map(str::to_owned);
        if let Err(text) = through_endpoint(guests, key, &endpoint, ca.as_deref(), "/api/v1") {
            return Output::failed(1, text);
        }
    }
    let done =
        match words.as_slice() {
            ["init", "phase", "upload-certs", ..] => {
                let made = config
                    .certificate_key
                    .clone()
                    .unwrap_or_else(|| super::super::pki::hex(&rand::random::<[u8; 32]>()));
                config.certificate_key = Some(made.clone());
                secrets::upload_certs(guests, key, &config, &made).map(|()| format!(
                "[upload-certs] Storing the certificates in Secret \"kubeadm-certs\" in the \
                 \"kube-system\" Namespace\n[upload-certs] Using certificate key:\n{made}\n"
            ))
            }
            ["token", "create", ..] => {
                secrets::create_token(guests, key, &config, false).map(|token| format!("{token}\n"))
            }
            ["token", "delete", id, ..] => {
                let id = id.split('.').next().unwrap_or(id).to_owned();
                let cluster = guests.all.get(key).and_then(|guest| guest.disk.kube.clone());
                if let Some(kube) = cluster.and_then(|cluster| guests.kubes.get_mut(&cluster)) {
                    kube.tokens.remove(&id);
                }
                Ok(format!("bootstrap token \"{id}\" deleted\n"))
            }
            other => Err(format!("unknown command \"{}\" for \"kubeadm\"", other.join(" "))),
        };
    match done {
        Ok(text) => Output::ok(text),
        Err(text) => Output::failed(1, text),
    }
    .lasting(pace::UPLOAD)
}
