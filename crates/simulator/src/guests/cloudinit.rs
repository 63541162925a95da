//! cloud-init in a guest: the steps that a seed triggers, and the progress through them.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::guest::{Guest, User};
use super::seed::{self, Seed};
use super::{commands, pace, packages};
use crate::world::SimTime;

/// The log of `runcmd` and the package manager.
pub const OUTPUT: &str = "/var/log/cloud-init-output.log";

/// With this file cloud-init trusts the seed that it has read once, whether or not it finds it again.
pub const TRUSTED: &str = "/var/lib/cloud/instance/manual-clean";

/// A step that cloud-init takes after sshd has started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Step {
    /// The config stage's modules.
    Config,
    /// An apt source: file name and text.
    Source(String, String),
    /// `apt-get update`.
    Update,
    /// A package and the requested version.
    Package(String, Option<String>),
    /// A file of `write_files` with `defer: true`: its index.
    Deferred(usize),
    /// One item of `runcmd`.
    Command(Vec<String>),
    /// The end of the final stage; whether a reboot follows.
    Done(bool),
}

/// The state that `cloud-init status` reports.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Whether it has started for this instance.
    pub begun: bool,
    /// Whether it has ended.
    pub ended: bool,
    /// Errors, as `status --format json` lists them.
    pub errors: Vec<String>,
    /// Seconds since the Unix epoch at which it started and at which it last made progress.
    pub times: (f64, f64),
    /// Whether the last command of the scripts stage has failed.
    pub failed_command: bool,
    /// Whether the scripts stage stops at its first failure.
    pub strict: bool,
    /// The packages that could not be installed.
    pub failed_packages: Vec<String>,
}

/// The duration of a step.
pub fn pace(step: &Step) -> f64 {
    match step {
        Step::Config => pace::CONFIG_STAGE,
        Step::Source(..) => pace::APT_SOURCE,
        Step::Update => pace::PACKAGE_UPDATE,
        Step::Package(name, _) => packages::pace(name),
        Step::Command(argv) => commands::pace(argv),
        Step::Deferred(_) | Step::Done(_) => 0.1,
    }
}

/// The steps that a cloud-config asks for after the network stage.
pub fn steps(config: &Value) -> Vec<Step> {
    let mut steps = vec![Step::Config];
    if let Some(sources) = config["apt"]["sources"].as_object() {
        for (id, source) in sources {
            let file = seed::string(&source["filename"]).unwrap_or_else(|| id.clone());
            let text = seed::string(&source["source"]).unwrap_or_default();
            steps.push(Step::Source(file, text));
        }
    }
    let packages: Vec<_> = list(config, "packages").iter().filter_map(seed::package).collect();
    if !packages.is_empty() || config["package_update"].as_bool() == Some(true) {
        steps.push(Step::Update);
    }
    let ntp = &config["ntp"];
    if ntp.is_object() && ntp["ntp_client"].as_str() == Some("chrony") {
        steps.push(Step::Package("chrony".to_owned(), None));
    }
    steps.extend(packages.into_iter().map(|(name, version)| Step::Package(name, version)));
    steps.extend((0..seed::files(config, true).len()).map(Step::Deferred));
    steps.extend(list(config, "runcmd").iter().filter_map(seed::command).map(Step::Command));
    steps.push(Step::Done(config["power_state"]["mode"].as_str() == Some("reboot")));
    steps
}

fn list<'a>(config: &'a Value, key: &str) -> &'a [Value] {
    config[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The init and network stages: names, users, keys, files.
pub fn network_stage(guest: &mut Guest, seed: &Seed) {
    let config = match &seed.user_data {
        Ok(config) => config.clone(),
        Err(error) => {
            guest.disk.cloud_init.errors.push(error.clone());
            json!({})
        }
    };
    let text = |key: &str| seed::string(&config[key]);
    let fqdn = text("fqdn").unwrap_or_default();
    let short = text("hostname")
        .or_else(|| fqdn.split('.').next().filter(|name| !name.is_empty()).map(str::to_owned))
        .unwrap_or_else(|| seed.local_hostname.clone());
    guest.disk.hostname = short;
    guest.disk.fqdn = fqdn;
    let hostname = guest.disk.hostname.clone();
    guest.write("/etc/hostname", format!("{hostname}\n"), "0644");
    guest.write("/etc/hosts", hosts(guest, &config), "0644");
    guest.disk.users = users(&config);
    if let Some(key) = seed::string(&config["ssh_keys"]["ed25519_private"]) {
        guest.disk.host_key = key;
    }
    for file in seed::files(&config, false) {
        guest.write_as(file);
    }
    guest.append(OUTPUT, &["Cloud-init v. 24.4-0ubuntu1~22.04.1 running 'init'".to_owned()]);
    for argv in list(&config, "bootcmd").iter().filter_map(seed::command) {
        let done = commands::run(guest, &argv, "");
        guest.append(OUTPUT, &done.lines());
    }
}

/// `/etc/hosts` as in the stock image, with cloud-init's line if it manages the file.
fn hosts(guest: &Guest, config: &Value) -> String {
    let mut text = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n".to_owned();
    let managed = matches!(&config["manage_etc_hosts"], Value::Bool(true))
        || config["manage_etc_hosts"].as_str() == Some("localhost");
    if managed {
        text = format!("127.0.1.1 {} {}\n{text}", guest.disk.fqdn, guest.disk.hostname);
    }
    text
}

fn users(config: &Value) -> std::collections::BTreeMap<String, User> {
    let keys = |value: &Value| -> Vec<String> {
        value["ssh_authorized_keys"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(seed::string)
            .collect()
    };
    let mut users = std::collections::BTreeMap::new();
    let listed = config["users"].as_array();
    // Without a list of its own the image's default user is kept, with the top-level keys.
    if listed.is_none_or(|list| list.iter().any(|user| user.as_str() == Some("default"))) {
        users.insert("ubuntu".to_owned(), User { keys: keys(config), sudo: true });
    }
    for user in listed.into_iter().flatten() {
        let Some(name) = seed::string(&user["name"]) else { continue };
        let rules = match &user["sudo"] {
            Value::Array(rules) => rules.iter().filter_map(seed::string).collect::<Vec<_>>(),
            rule => seed::string(rule).into_iter().collect(),
        };
        let sudo = rules.iter().any(|rule| rule.contains("NOPASSWD"));
        users.insert(name, User { keys: keys(user), sudo });
    }
    users
}

/// Runs the first of the remaining steps. Returns whether the machine reboots now.
pub fn step(guest: &mut Guest, fail: bool, now: SimTime, unix: f64) -> bool {
    let Some(run) = &mut guest.run else { return false };
    if run.steps.is_empty() {
        return false;
    }
    let step = run.steps.remove(0);
    let config = run.seed.as_ref().and_then(|seed| seed.user_data.as_ref().ok()).cloned();
    guest.disk.cloud_init.times.1 = unix;
    let uptime =
        now.0.saturating_sub(guest.run.as_ref().map_or(0, |run| run.since.0)) as f64 / 1000.0;
    match step {
        Step::Config => log(
            guest,
            &format!(
                "Cloud-init v. 24.4-0ubuntu1~22.04.1 running 'modules:config'. Up {uptime:.2} seconds."
            ),
        ),
        Step::Source(file, text) => {
            let name = file.rsplit('/').next().unwrap_or(&file).to_owned();
            let name = if name.contains('.') { name } else { format!("{name}.list") };
            guest.write(&format!("/etc/apt/sources.list.d/{name}"), text, "0644");
        }
        Step::Update => {
            for hook in guest.apt_hooks() {
                let done = commands::run(guest, &[hook], "");
                guest.append(OUTPUT, &done.lines());
            }
            log(guest, "Hit:1 http://archive.ubuntu.com/ubuntu jammy InRelease");
            log(guest, "Reading package lists...");
        }
        Step::Package(name, version) => match guest.install(&name, version.as_deref()) {
            Ok(lines) => guest.append(OUTPUT, &lines),
            Err(text) => {
                log(guest, &text);
                guest.disk.cloud_init.failed_packages.push(name);
            }
        },
        Step::Deferred(index) => {
            let files = config.map(|config| seed::files(&config, true)).unwrap_or_default();
            if let Some(file) = files.into_iter().nth(index) {
                guest.write_as(file);
            }
        }
        Step::Command(argv) => {
            let done = if fail {
                commands::Output::failed(
                    100,
                    "E: Failed to fetch http://archive.ubuntu.com/ubuntu \
                    Temporary failure resolving 'archive.ubuntu.com'",
                )
            } else {
                commands::run(guest, &argv, "")
            };
            guest.append(OUTPUT, &done.lines());
            judge(guest, &argv, done.code);
        }
        Step::Done(reboot) => return finish(guest, reboot, uptime),
    }
    false
}

/// The effect of a command's exit code. cloud-init joins the items of `runcmd` into one shell script:
/// after `set -e` the first failure ends it, otherwise only the exit code of the last command counts.
fn judge(guest: &mut Guest, argv: &[String], code: u32) {
    let progress = &mut guest.disk.cloud_init;
    if argv.first().is_some_and(|word| word == "set") {
        progress.strict |= argv.iter().any(|word| word.starts_with('-') && word.contains('e'));
    }
    progress.failed_command = code != 0;
    if let Some(run) = guest.run.as_mut().filter(|_| code != 0 && progress.strict) {
        run.steps.retain(|step| !matches!(step, Step::Command(_)));
    }
}

fn log(guest: &mut Guest, line: &str) {
    guest.append(OUTPUT, &[line.to_owned()]);
}

fn finish(guest: &mut Guest, reboot: bool, uptime: f64) -> bool {
    let progress = &mut guest.disk.cloud_init;
    if !progress.failed_packages.is_empty() {
        let names: Vec<_> =
            progress.failed_packages.iter().map(|name| format!("'{name}'")).collect();
        progress.errors.push(format!(
            "('package_update_upgrade_install', ProcessExecutionError(\"Unexpected error while \
             running command.\\nCommand: ['apt-get', 'install', {}]\\nExit code: 100\"))",
            names.join(", ")
        ));
    }
    if progress.failed_command {
        progress.errors.push(
            "('scripts_user', RuntimeError('Runparts: 1 failures (runcmd) in 1 attempted commands'))"
                .to_owned(),
        );
    }
    progress.ended = true;
    let failed = !progress.errors.is_empty();
    for error in progress.errors.clone() {
        log(guest, &error);
    }
    log(
        guest,
        &format!(
            "Cloud-init v. 24.4-0ubuntu1~22.04.1 finished. Datasource DataSourceNoCloud \
        [seed=/dev/sr0]. Up {uptime:.2} seconds"
        ),
    );
    let Some(run) = &guest.run else { return false };
    // The condition of `power_state` checks whether an installed kernel differs from the running one.
    reboot && !failed && guest.disk.kernel != run.kernel
}

/// What `cloud-init status --format json` prints, and its exit code (cloud-init's
/// cmd/status.py: 1 for errors, 2 for recoverable ones).
pub fn status(guest: &Guest) -> (Value, u32) {
    let progress = &guest.disk.cloud_init;
    let errors = &progress.errors;
    let booting = guest.run.as_ref().is_some_and(|run| !run.sshd && !run.steps.is_empty());
    let seedless = guest.run.as_ref().is_some_and(|run| run.seedless);
    let (status, code) = match (progress.begun && !seedless, progress.ended && !booting) {
        (false, _) => ("disabled", 0),
        (true, false) => ("running", 0),
        (true, true) if errors.is_empty() => ("done", 0),
        (true, true) => ("error", 1),
    };
    let extended = match status {
        "error" => "error - done",
        other => other,
    };
    let stage = |ended: bool| {
        let finished = ended.then_some(progress.times.1);
        json!({"errors": [], "finished": finished, "recoverable_errors": {}, "start": progress.times.0})
    };
    let mut last = stage(progress.ended);
    last["errors"] = json!(errors);
    let mut value = json!({
        "boot_status_code": "enabled-by-generator",
        "datasource": "nocloud",
        "detail": "DataSourceNoCloud [seed=/dev/sr0]",
        "errors": errors,
        "extended_status": extended,
        "init": stage(true),
        "init-local": stage(true),
        "last_update": "Sun, 22 Nov 2026 16:00:00 +0000",
        "modules-config": stage(true),
        "modules-final": last,
        "recoverable_errors": {},
        "stage": (!progress.ended).then_some("modules-final"),
        "status": status,
    });
    if let Some(moment) = time::OffsetDateTime::from_unix_timestamp(progress.times.1 as i64)
        .ok()
        .and_then(|at| at.format(&time::format_description::well_known::Rfc2822).ok())
    {
        value["last_update"] = moment.into();
    }
    (value, code)
}
