//! Reads, sets and removes a host's routes.

use ipnet::Ipv4Net;
use serde::de::DeserializeOwned;

use super::plan::State;
use super::seen::Seen;
use super::{Host, plan, unit};
use crate::error::{Exit, Failure};
use crate::limits::{excerpt, ssh};
use crate::ssh::{Error, Output};

impl Host {
    async fn run(&self, doing: &str, program: &str, words: &[&str]) -> Result<Output, Failure> {
        let command = self.command(program).args(words.iter().copied());
        self.remote.run(&command).await.map_err(|error| self.fault(doing, &error))
    }

    async fn run_ok(&self, doing: &str, program: &str, words: &[&str]) -> Result<(), Failure> {
        let command = self.command(program).args(words.iter().copied());
        self.remote.run_ok(&command).await.map(drop).map_err(|error| self.fault(doing, &error))
    }

    /// Describes an SSH error on a host that k8sha did not create.
    fn fault(&self, doing: &str, error: &Error) -> Failure {
        let (said, hint) = match error {
            Error::HostKey { address, expected, seen, .. } => (
                format!(
                    "the SSH host key at {address} is not the one that the profile knows: expected \
                     {expected}, seen {seen}"
                ),
                Some(format!(
                    "if {} was reinstalled, read its key on the host itself (`ssh-keygen -lf \
                     /etc/ssh/ssh_host_ed25519_key.pub`) and put it into the profile",
                    self.name
                )),
            ),
            Error::AuthRefused { user, .. } => (
                error.to_string(),
                Some(format!(
                    "put the public half of `proxmox.ssh.identity` into the `authorized_keys` of \
                     {user} on {}",
                    self.name
                )),
            ),
            Error::Unreachable { .. } => (
                error.to_string(),
                Some("`ssh_address` says where its SSH server is, if not at the API's host".into()),
            ),
            Error::Failed { code: 127, .. } => (error.to_string(), None),
            _ => (error.to_string(), error.hint()),
        };
        Failure::new(Exit::Node, doing, said).on(&self.name).hint(hint).because(error.clone())
    }

    /// The output of `ip -json`.
    async fn ip<T: DeserializeOwned>(&self, words: &[&str]) -> Result<T, Failure> {
        let doing = "look at the host's routes";
        let all = [&["-json", "-4"], words].concat();
        let command = self.command("ip").args(all.iter().copied()).prints(ssh::LIST);
        let output =
            self.remote.run_ok(&command).await.map_err(|error| self.fault(doing, &error))?;
        let text = output.stdout_text();
        // Older versions print nothing at all for an empty table.
        let text = if text.trim().is_empty() { "[]" } else { text.trim() };
        serde_json::from_str(text).map_err(|error| {
            let why = excerpt(&error.to_string(), ssh::QUOTED);
            let said = format!("`ip {}` printed unexpected output: {why}", all.join(" "));
            Failure::new(Exit::Node, doing, said).on(&self.name).because(error)
        })
    }
}

/// Reads a host's routes and k8sha's unit on it.
///
/// # Errors
/// When the host refuses the login, or its output cannot be parsed.
pub async fn look(host: &Host, cluster: &str) -> Result<Seen, Failure> {
    let name = unit::name(cluster);
    let doing = "look at the host's units";
    Ok(Seen {
        routes: host.ip(&["route", "show", "table", "all"]).await?,
        links: host.ip(&["addr", "show"]).await?,
        rules: host.ip(&["rule", "show"]).await?,
        operator: operator(host).await?,
        unit: file(host, &unit::path(cluster)).await?,
        enabled: says(&host.run(doing, "systemctl", &["is-enabled", &name]).await?, "enabled"),
        active: says(&host.run(doing, "systemctl", &["is-active", &name]).await?, "active"),
    })
}

fn says(output: &Output, word: &str) -> bool {
    output.stdout_text().trim() == word
}

/// The source address of this SSH connection. Not read through sudo, which removes the variable.
async fn operator(host: &Host) -> Result<Option<std::net::Ipv4Addr>, Failure> {
    let command = crate::ssh::Command::new("printenv").arg("SSH_CONNECTION");
    let output = host.remote.run(&command).await;
    let output =
        output.map_err(|error| host.fault("read the address of this SSH connection", &error))?;
    Ok(output.stdout_text().split_whitespace().next().and_then(|word| word.parse().ok()))
}

async fn file(host: &Host, path: &str) -> Result<Option<String>, Failure> {
    let doing = format!("read `{path}`");
    let there = host.run(&doing, "test", &["-e", path]).await?;
    if there.code == 1 && there.stderr.is_empty() {
        return Ok(None);
    }
    let command = host.command("cat").arg(path);
    let output = host.remote.run_ok(&command).await.map_err(|error| host.fault(&doing, &error))?;
    Ok(Some(output.stdout_text()))
}

/// Sets the routes now and for every boot, and verifies that they are set.
///
/// # Errors
/// The host's error. This can be run again after any interruption.
pub async fn apply(
    host: &Host,
    cluster: &str,
    nets: &[Ipv4Net],
    seen: &Seen,
) -> Result<(), Failure> {
    let (name, path) = (unit::name(cluster), unit::path(cluster));
    let text = unit::text(cluster, nets);
    let doing = "set the blackhole routes";
    if seen.unit.as_ref() != Some(&text) {
        if seen.unit.is_some() {
            // Stopped with its old text, which names the routes that are no longer wanted.
            host.run_ok(doing, "systemctl", &["stop", &name]).await?;
        }
        let command = host
            .command("install")
            .args(["-D", "-m", "0644", "-o", "root", "-g", "root", "/dev/stdin", &path])
            .stdin(text.as_bytes());
        host.remote.run_ok(&command).await.map_err(|error| host.fault(doing, &error))?;
    }
    host.run_ok(doing, "systemctl", &["daemon-reload"]).await?;
    host.run_ok(doing, "systemctl", &["enable", &name]).await?;
    host.run_ok(doing, "systemctl", &["restart", &name]).await?;
    settle(host, cluster, nets, doing).await
}

/// Removes the routes and the unit, and verifies that they are gone.
///
/// # Errors
/// The host's error. This can be run again after any interruption.
pub async fn remove(host: &Host, cluster: &str, seen: &Seen) -> Result<(), Failure> {
    let doing = "remove the blackhole routes";
    if seen.unit.is_some() {
        let name = unit::name(cluster);
        host.run_ok(doing, "systemctl", &["disable", "--now", &name]).await?;
        host.run_ok(doing, "rm", &["-f", &unit::path(cluster)]).await?;
        host.run_ok(doing, "systemctl", &["daemon-reload"]).await?;
    }
    settle(host, cluster, &[], doing).await
}

/// Removes the cluster's routes that are left without a unit, and verifies the result.
async fn settle(host: &Host, cluster: &str, nets: &[Ipv4Net], doing: &str) -> Result<(), Failure> {
    let seen = look(host, cluster).await?;
    for net in seen.ours(cluster).into_iter().filter(|net| !nets.contains(net)) {
        let words = unit::route(cluster, net);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        host.run_ok(doing, "ip", &[&["-4", "route", "del"], words.as_slice()].concat()).await?;
    }
    let now = plan::plan(cluster, &host.name, nets, &look(host, cluster).await?);
    if now.settled {
        return Ok(());
    }
    let mut wrong: Vec<String> = now
        .routes
        .iter()
        .filter(|line| line.state != State::Set)
        .map(|line| match line.state {
            State::Absent => format!("{} is not dropped", line.net),
            _ => format!("{} is still dropped", line.net),
        })
        .collect();
    if wrong.is_empty() {
        wrong.push("the unit does not have the expected contents".to_owned());
    }
    let hint = format!("`systemctl status {}` on {}", unit::name(cluster), host.name);
    Err(Failure::new(Exit::NotAsAsked, doing, wrong.join("\n")).on(&host.name).hint(hint))
}

#[cfg(test)]
mod tests;
