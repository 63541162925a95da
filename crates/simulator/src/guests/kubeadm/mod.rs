//! kubeadm as a state machine: a process in a transient unit that steps through its phases.

use serde::{Deserialize, Serialize};

use super::Guests;
use super::guest::Due;
use super::units::{State, Unit};
use crate::world::SimTime;

pub mod config;
mod control_plane;
mod data;
pub mod endpoint;
mod init;
mod join;
mod member;
mod preflight;
pub mod reset;
mod schema;
pub mod secrets;
mod stored;

pub use config::Config;

/// A command that runs under `systemd-run`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// `init` or `join`.
    pub job: Job,
    /// The configuration file.
    pub file: String,
    /// What `--ignore-preflight-errors` lists.
    pub ignore: Vec<String>,
    /// The file of its output.
    pub log: String,
    /// Its next phase.
    pub phase: usize,
    /// The number of failed attempts to get the cluster-info.
    pub asked: u32,
    /// The configuration, once it has been read.
    pub config: Option<Config>,
}

/// Which command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Job {
    /// `kubeadm init`.
    Init,
    /// `kubeadm join`.
    Join,
    /// A command other than kubeadm: succeeds at once.
    Other,
}

/// The result of a phase.
pub enum Next {
    /// Lines printed, and seconds until the next phase.
    Go(Vec<String>, f64),
    /// Lines printed, and the exit code.
    End(Vec<String>, u32),
}

impl Next {
    /// The exit on an error, in kubeadm's form.
    pub fn fail(phase: &str, error: impl std::fmt::Display) -> Self {
        let first = match phase {
            "" => error.to_string(),
            phase => format!("error execution phase {phase}: {error}"),
        };
        let hint = "To see the stack trace of this error execute with --v=5 or higher";
        Next::End(first.lines().chain([hint]).map(str::to_owned).collect(), 1)
    }
}

/// The lines of a text.
pub fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

/// Starts a process in a transient unit.
pub fn start(guests: &mut Guests, key: &str, unit: &str, process: Process) {
    let now = guests.now;
    let Some(run) = guests.all.get_mut(key).and_then(|guest| guest.run.as_mut()) else { return };
    let mut made = Unit::new(State::Active, "running", Vec::new());
    made.process = Some(process);
    run.units.insert(unit.to_owned(), made);
    run.plan(now.after(0.2), Due::Process(unit.to_owned()));
}

/// Runs the next phase of a unit's process.
pub fn step(guests: &mut Guests, key: &str, unit: &str, at: SimTime) {
    let process =
        guests.all.get(key).and_then(|guest| guest.run.as_ref()?.units.get(unit)?.process.clone());
    let Some(mut process) = process else { return };
    let next = match process.job {
        Job::Init => init::phase(guests, key, &mut process),
        Job::Join => join::phase(guests, key, &mut process),
        Job::Other => Next::End(Vec::new(), 0),
    };
    let Some(guest) = guests.all.get_mut(key) else { return };
    let (printed, wait, code) = match next {
        Next::Go(printed, wait) => (printed, Some(wait), 0),
        Next::End(printed, code) => (printed, None, code),
    };
    if process.log.is_empty() {
        if let Some(unit) = guest.run.as_mut().and_then(|run| run.units.get_mut(unit)) {
            unit.journal.extend(printed);
        }
    } else {
        guest.append(&process.log.clone(), &printed);
    }
    let Some(run) = &mut guest.run else { return };
    let Some(known) = run.units.get_mut(unit) else { return };
    match wait {
        Some(wait) => {
            process.phase += 1;
            known.process = Some(process);
            run.plan(at.after(wait), Due::Process(unit.to_owned()));
        }
        None => {
            known.process = None;
            known.status = code;
            if code == 0 {
                "exited".clone_into(&mut known.sub);
            } else {
                known.state = State::Failed;
                "failed".clone_into(&mut known.sub);
                "exit-code".clone_into(&mut known.result);
                known.journal.push(format!(
                    "{unit}.service: Main process exited, code=exited, status={code}/FAILURE"
                ));
                known.journal.push(format!("{unit}.service: Failed with result 'exit-code'."));
            }
        }
    }
}

/// The minor version of the installed kubeadm.
pub fn minor(guests: &Guests, key: &str) -> u32 {
    guests
        .all
        .get(key)
        .and_then(|guest| guest.disk.packages.get("kubeadm"))
        .and_then(|version| version.split('.').nth(1)?.parse().ok())
        .unwrap_or(0)
}

/// Reads the configuration of a process.
pub fn load(guests: &Guests, key: &str, process: &Process) -> Result<Config, String> {
    let text = guests.all.get(key).and_then(|guest| guest.text(&process.file));
    let Some(text) = text else {
        return Err(format!(
            "unable to read config from \"{0}\": open {0}: no such file or directory",
            process.file
        ));
    };
    config::read(text, minor(guests, key))
}

#[cfg(test)]
mod disasters;
#[cfg(test)]
mod quorums;
#[cfg(test)]
mod tests;
