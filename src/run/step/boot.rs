//! Waits for a node's first boot: SSH with the host key from its seed, the end of cloud-init, the
//! kernel.

use std::time::Duration;

use crate::clock::{Expired, Wait};
use crate::cluster::NodeName;
use crate::error::{Exit, Failure};
use crate::exits::failure;
use crate::mark::Marked;
use crate::plan::{action, spec};
use crate::report::event;
use crate::run::context::{Context, instance_id};
use crate::run::first_boot::FirstBoot;
use crate::run::look::proxmox;
use crate::ssh::{Command, Error, Remote};

/// How long a VM may take from power-on to its first login.
const SSH_PATIENCE: Duration = Duration::from_secs(10 * 60);
/// How long cloud-init may take, including packages and a reboot into another kernel.
const BOOT_PATIENCE: Duration = Duration::from_secs(40 * 60);
const PAUSE: Duration = Duration::from_secs(3);
const LOG: &str = "/var/log/cloud-init-output.log";
/// How many of its lines an error shows.
const LAST_LINES: usize = 40;

/// Waits until a node has finished its first boot and matches its row. Read-only, unless an earlier
/// first boot has failed: then cloud-init runs again.
pub(super) async fn boot(context: &Context, it: &action::Boot) -> Result<bool, Failure> {
    let name = &it.node;
    let node = context.node(name);
    let remote = context.remote(name);
    let instance = instance_id(&context.cluster, node, &context.creation);
    let mut wait = Wait::new(context.clock, BOOT_PATIENCE, PAUSE);
    let mut first: Option<FirstBoot> = None;
    let mut last: Option<FirstBoot> = None;
    event::progress("waiting for SSH");
    reach(context, name, remote).await?;
    let again = it.again && start_over(context, name, remote).await?;
    loop {
        let asked = match last.take() {
            Some(last) => last.ask_again(remote).await,
            None => FirstBoot::ask(remote).await,
        };
        let seen = match asked {
            Ok(seen) => seen,
            // A reboot into another kernel cuts the connection.
            Err(error) if error.is_transient() => {
                event::progress("restarting");
                remote.forget().await;
                let waited = wait.not_yet(String::new()).await;
                waited.map_err(|_| ssh(name, &error))?;
                reach(context, name, remote).await?;
                continue;
            }
            Err(error) => return Err(ssh(name, &error)),
        };
        if seen.is_over(node, &instance) {
            return restarted(name, first.as_ref(), &seen).map(|()| again);
        }
        match seen.status.as_str() {
            "error" | "disabled" => return Err(failed(name, remote, &seen).await),
            "done" if seen.instance != instance => return Err(other_seed(name, &seen, &instance)),
            "done" => event::progress(format!("kernel {}, waiting for its reboot", seen.kernel)),
            _ => event::progress(format!("cloud-init {}", seen.detail.join("; "))),
        }
        let detail = seen.detail.join("; ");
        let said = format!("cloud-init: {} ({detail}); kernel {}", seen.status, seen.kernel);
        wait.not_yet(said).await.map_err(|Expired { seen, limit }| {
            let doing = format!("finish the first boot within {} s", limit.as_secs());
            Failure::new(Exit::Node, doing, seen)
                .on(name)
                .hint(format!("see {LOG} and `cloud-init status --long` on the node"))
        })?;
        if first.is_none() && !seen.has_kernel(node) {
            first = Some(seen.clone());
        }
        last = Some(seen);
    }
}

/// Waits until the node accepts the login.
async fn reach(context: &Context, name: &NodeName, remote: &Remote) -> Result<(), Failure> {
    remote.reach(context.clock, SSH_PATIENCE).await.map_err(|error| {
        let doing = format!("reach the node by SSH within {} s", SSH_PATIENCE.as_secs());
        let waited = error.is_transient();
        let failure = ssh(name, &error);
        if waited { Failure { doing, ..failure } } else { failure }
    })
}

/// Runs cloud-init again from its beginning, if it has failed. The seed is the same, so the node
/// keeps its name, its keys and its address.
async fn start_over(context: &Context, name: &NodeName, remote: &Remote) -> Result<bool, Failure> {
    let seen = FirstBoot::ask(remote).await.map_err(|error| ssh(name, &error))?;
    if seen.status != "error" {
        return Ok(false);
    }
    has_seed(context, name).await?;
    event::progress("running cloud-init again");
    let clean = Command::sudo("cloud-init").args(["clean", "--logs", "--reboot"]);
    match remote.run(&clean).await {
        // The reboot may cut the connection before the command has finished.
        Err(error) if !error.is_transient() => return Err(ssh(name, &error)),
        Ok(output) if !output.success() => {
            let said = output.stderr_text();
            return Err(Failure::new(Exit::Node, "run cloud-init again", said).on(name));
        }
        _ => {}
    }
    remote.forget().await;
    context.clock.pause(PAUSE).await;
    let mut wait = Wait::new(context.clock, SSH_PATIENCE, PAUSE)
        .telling(|seen: &&str| event::progress(format!("waiting for its reboot: {seen}")));
    loop {
        reach(context, name, remote).await?;
        match FirstBoot::ask(remote).await {
            Ok(now) if now.boot_id != seen.boot_id => return Ok(true),
            Err(error) if !error.is_transient() => return Err(ssh(name, &error)),
            _ => {}
        }
        remote.forget().await;
        wait.not_yet("it has not rebooted").await.map_err(|expired| {
            Failure::new(Exit::Node, "run cloud-init again", expired.seen).on(name)
        })?;
    }
}

/// Checks that a machine that is about to run cloud-init again has its seed: without one it would
/// lose its network and its users.
async fn has_seed(context: &Context, name: &NodeName) -> Result<(), Failure> {
    let node = context.node(name);
    let doing = "run cloud-init again";
    let fault = |error| proxmox(doing, &error).on(name);
    let client = context.client(&node.host)?;
    let config = client.vm_config(node.vmid).await.map_err(fault)?;
    super::vm::own(context, node.into(), &config, doing)?;
    let drive = config.volume(spec::SEED_DRIVE).unwrap_or_default();
    let own = config.mark().is_some_and(|mark| spec::is_own_seed(&drive, &mark));
    let (storage, file) = drive.split_once(":iso/").unwrap_or_default();
    if own && client.find_file(storage, "iso", file).await.map_err(fault)?.is_some() {
        return Ok(());
    }
    let said = format!(
        "the drive `{}` of VM {} does not hold its seed, which cloud-init would read again",
        spec::SEED_DRIVE,
        node.vmid
    );
    let hint = "run the same command again: it uploads the seed first".to_owned();
    Err(Failure::new(Exit::NotAsAsked, doing, said).on(name).hint(hint))
}

/// A new kernel can only run after a reboot.
fn restarted(name: &NodeName, before: Option<&FirstBoot>, now: &FirstBoot) -> Result<(), Failure> {
    match before {
        Some(before) if before.boot_id == now.boot_id => Err(Failure::new(
            Exit::Node,
            "boot the new kernel",
            format!(
                "`uname -r` went from {} to {} within one boot ({})",
                before.kernel, now.kernel, now.boot_id
            ),
        )
        .on(name)),
        _ => Ok(()),
    }
}

/// Whether a line of cloud-init's output can explain the failure. Its last lines are always a list
/// of keys and routes (cloud-init's cc_keys_to_console, cc_ssh_authkey_fingerprints, netinfo).
fn is_telling(line: &str) -> bool {
    let line = line.trim();
    let shown =
        ["ci-info:", "<14>", "-----BEGIN SSH HOST KEY", "-----END SSH HOST KEY", "ssh-", "ecdsa-"];
    !line.is_empty() && !shown.iter().any(|start| line.starts_with(start))
}

async fn failed(name: &NodeName, remote: &Remote, seen: &FirstBoot) -> Failure {
    let tail = Command::sudo("tail").args(["-n", "400", LOG]);
    if let Ok(output) = remote.run(&tail).await {
        let text = crate::ssh::mask::mask(&output.stdout_text());
        let telling: Vec<&str> = text.lines().filter(|line| is_telling(line)).collect();
        for line in &telling[telling.len().saturating_sub(LAST_LINES)..] {
            event::output(*line);
        }
    }
    let complaints: Vec<&str> =
        seen.detail.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
    let said =
        format!("cloud-init finished with status `{}`\n{}", seen.status, complaints.join("\n"));
    Failure::new(Exit::Node, "prepare the node", said).on(name).hint(format!(
        "fix the cause (a mirror, the name servers, the network) and run the same command again: \
         it runs cloud-init again.\nThe complete log is {LOG} on the node"
    ))
}

fn other_seed(name: &NodeName, seen: &FirstBoot, instance: &str) -> Failure {
    let found = if seen.instance.is_empty() { "no k8sha node" } else { &seen.instance };
    let said = format!("it has read the seed of `{found}`, not of `{instance}`");
    Failure::new(Exit::Node, "identify the node", said)
        .on(name)
        .hint("recreate it with `k8sha rebuild`".to_owned())
}

/// Turns an SSH error into a failure.
pub(super) fn ssh(name: &NodeName, error: &Error) -> Failure {
    failure("reach the node by SSH", error).on(name)
}

#[cfg(test)]
mod tests {
    use super::is_telling;

    #[test]
    fn the_show_of_keys_at_cloud_inits_end_does_not_hide_what_went_wrong() {
        let told = ["E: Unable to locate package nothing", "k8sha kernel: cannot fetch it"];
        let shown =
            ["ci-info: | eth0 |", "<14>Nov 25 cloud-init: 256 SHA256:x", "ssh-ed25519 AAAA n1", ""];
        assert!(told.iter().all(|line| is_telling(line)));
        assert!(!shown.iter().any(|line| is_telling(line)));
    }
}
