//! systemd units of a guest.

use serde::{Deserialize, Serialize};

use super::guest::Guest;
use super::kubeadm::Process;
use super::network::lb;

/// Units that a stock Ubuntu runs.
const BUILT_IN: [&str; 7] = [
    "ssh",
    "cron",
    "systemd-resolved",
    "systemd-timesyncd",
    "systemd-networkd",
    "rsyslog",
    "unattended-upgrades",
];

/// A unit's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unit {
    /// `ActiveState`.
    pub state: State,
    /// `SubState`.
    pub sub: String,
    /// `Result`.
    pub result: String,
    /// `ExecMainStatus`.
    pub status: u32,
    /// What `journalctl -u` shows.
    pub journal: Vec<String>,
    /// The process of a transient unit.
    pub process: Option<Process>,
    /// The configuration that its program has read.
    #[serde(default)]
    pub config: String,
}

/// `ActiveState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Running, or exited successfully and still active.
    Active,
    /// Starting, possibly restarting repeatedly.
    Activating,
    /// Not running.
    Inactive,
    /// Failed.
    Failed,
}

impl State {
    /// As `systemctl is-active` prints it.
    pub fn name(self) -> &'static str {
        match self {
            State::Active => "active",
            State::Activating => "activating",
            State::Inactive => "inactive",
            State::Failed => "failed",
        }
    }
}

impl Unit {
    /// A unit in a state, with systemd's word for the substate and lines in its journal.
    pub fn new(state: State, sub: &str, journal: Vec<String>) -> Self {
        let failed = state == State::Failed;
        Self {
            state,
            sub: sub.to_owned(),
            result: if failed { "exit-code" } else { "success" }.to_owned(),
            status: u32::from(failed),
            journal,
            process: None,
            config: String::new(),
        }
    }
}

/// The configuration file that a unit's program reads at its start, if it is simulated.
fn config_of(unit: &str) -> Option<&'static str> {
    match unit {
        "haproxy" => Some(lb::HAPROXY),
        "keepalived" => Some(lb::KEEPALIVED),
        _ => None,
    }
}

/// The unit of a package, enabled and started on installation by Debian's rules.
pub fn of_package(package: &str) -> Option<&'static str> {
    Some(match package {
        "haproxy" => "haproxy",
        "keepalived" => "keepalived",
        "containerd.io" | "containerd" => "containerd",
        "kubelet" => "kubelet",
        "chrony" => "chrony",
        "qemu-guest-agent" => "qemu-guest-agent",
        _ => return None,
    })
}

/// `name.service` → `name`.
pub fn short(unit: &str) -> &str {
    unit.strip_suffix(".service").unwrap_or(unit)
}

impl Guest {
    /// Whether systemd has a unit file of this name.
    pub fn has_unit(&self, unit: &str) -> bool {
        BUILT_IN.contains(&unit)
            || self.disk.packages.keys().any(|package| of_package(package) == Some(unit))
            || self.exists(&format!("/etc/systemd/system/{unit}.service"))
            || self.exists(&format!("/etc/systemd/system/{unit}"))
            || self.run.as_ref().is_some_and(|run| run.units.contains_key(unit))
    }

    /// Starts a unit.
    ///
    /// # Errors
    /// The output of `systemctl start` if the unit fails to start.
    pub fn start(&mut self, unit: &str) -> Result<(), String> {
        if !self.has_unit(unit) {
            return Err(format!("Failed to start {unit}.service: Unit {unit}.service not found."));
        }
        let mut made = self.started(unit);
        made.config = self.config(unit).to_owned();
        let failed = made.state == State::Failed;
        if let Some(run) = &mut self.run {
            run.units.insert(unit.to_owned(), made);
            run.registered &= unit != "kubelet";
        }
        if failed { Err(failed_job(unit)) } else { Ok(()) }
    }

    /// Makes a unit's program reload its configuration. If the program rejects it, it keeps running
    /// with the old one.
    ///
    /// # Errors
    /// The output of `systemctl reload`.
    pub fn reload(&mut self, unit: &str) -> Result<(), String> {
        if !self.active(unit) {
            return Err(format!("{unit}.service is not active, cannot reload."));
        }
        let mut made = self.started(unit);
        let config = self.config(unit).to_owned();
        let run = self.run.as_mut().and_then(|run| run.units.get_mut(unit));
        let Some(known) = run else { return Ok(()) };
        if made.state == State::Failed {
            known.journal.append(&mut made.journal);
            return Err(failed_job(unit));
        }
        known.journal.push(format!("Reloaded {unit}.service."));
        known.config = config;
        Ok(())
    }

    /// The configuration that a unit's program has read.
    pub fn in_use(&self, unit: &str) -> &str {
        let unit = self.run.as_ref().and_then(|run| run.units.get(unit));
        unit.map_or("", |unit| unit.config.as_str())
    }

    fn config(&self, unit: &str) -> &str {
        config_of(unit).and_then(|path| self.text(path)).unwrap_or_default()
    }

    fn started(&self, unit: &str) -> Unit {
        let running = |line: &str| Unit::new(State::Active, "running", vec![line.to_owned()]);
        match unit {
            "haproxy" => match lb::haproxy(lb::HAPROXY, self.config(unit)) {
                Ok(_) => running("Started HAProxy Load Balancer."),
                Err(text) => Unit::new(
                    State::Failed,
                    "failed",
                    vec![
                        format!("[ALERT]    (1412) : {text}"),
                        "[ALERT]    (1412) : Fatal errors found in configuration.".to_owned(),
                        "haproxy.service: Main process exited, code=exited, status=1/FAILURE"
                            .to_owned(),
                    ],
                ),
            },
            "keepalived" if self.text(lb::KEEPALIVED).is_none_or(str::is_empty) => {
                let line = "Keepalive Daemon (LVS and VRRP) was skipped because of a failed \
                            condition check (ConditionFileNotEmpty=/etc/keepalived/keepalived.conf).";
                Unit::new(State::Inactive, "dead", vec![line.to_owned()])
            }
            "keepalived" => running("Started Keepalive Daemon (LVS and VRRP)."),
            super::member::UNIT => self.etcd_started(),
            "kubelet" if !self.disk.files.contains_key("/var/lib/kubelet/config.yaml") => {
                let line = "E1122 16:20:01.000000    2310 run.go:74] \"command failed\" err=\"failed \
                            to load kubelet config file, path: /var/lib/kubelet/config.yaml\"";
                Unit::new(State::Activating, "auto-restart", vec![line.to_owned()])
            }
            "qemu-guest-agent" if !self.machine.agent => {
                let line = "Dependency failed for QEMU Guest Agent: device \
                            dev-virtio\\x2dports-org.qemu.guest_agent.0 is missing";
                Unit::new(State::Inactive, "dead", vec![line.to_owned()])
            }
            _ => running(&format!("Started {unit}.service.")),
        }
    }

    /// Stops a unit.
    pub fn stop(&mut self, unit: &str) {
        if let Some(run) = &mut self.run {
            run.queue.retain(|(_, due)| *due != super::guest::Due::Process(unit.to_owned()));
            if let Some(known) = run.units.get_mut(unit) {
                known.state = State::Inactive;
                known.sub = "dead".to_owned();
                known.process = None;
            }
            // A transient unit disappears when it is stopped.
            if unit.starts_with("k8sha-kubeadm-") {
                run.units.remove(unit);
            }
        }
    }
}

fn failed_job(unit: &str) -> String {
    format!(
        "Job for {unit}.service failed because the control process exited with error code.\nSee \
         \"systemctl status {unit}.service\" and \"journalctl -xeu {unit}.service\" for details."
    )
}
