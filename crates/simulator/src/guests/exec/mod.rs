//! Runs a command line over SSH: splits it as a shell would, strips `sudo`, finds the program.

use std::net::Ipv4Addr;

use super::commands::{self, Output};
use super::guest::Guest;
use super::{Guests, pace};

mod apply;
mod balancer;
mod cilium;
mod configmaps;
mod crictl;
mod curl;
mod dig;
mod drain;
mod edit;
mod files;
pub mod follow;
mod gateway;
mod kubeadm;
mod kubectl;
mod members;
mod nodes;
mod objects;
mod print;
mod shell;
mod system;
mod systemd;
mod workloads;

/// A command that a client runs on a guest.
pub struct Call<'a> {
    /// All guests.
    pub guests: &'a Guests,
    /// The guest's key.
    pub key: &'a str,
    /// The guest.
    pub guest: &'a Guest,
    /// Whether it runs as root.
    pub root: bool,
    /// The arguments, with the program's name first.
    pub argv: Vec<&'a str>,
}

impl Call<'_> {
    /// The arguments after the program's name.
    pub fn rest(&self) -> &[&str] {
        self.argv.get(1..).unwrap_or_default()
    }

    /// The argument after a flag.
    pub fn option(&self, flag: &str) -> Option<&str> {
        let at = self.argv.iter().position(|word| *word == flag)?;
        self.argv.get(at + 1).copied()
    }

    /// Whether an argument is present.
    pub fn has(&self, word: &str) -> bool {
        self.argv.contains(&word)
    }

    /// Resolves a name on the guest.
    pub fn resolve(&self, name: &str) -> Option<Ipv4Addr> {
        self.guests.resolve(self.guest, name)
    }
}

/// Whether a command line reads its standard input to the end.
pub fn reads_stdin(line: &str) -> bool {
    line.contains("/dev/stdin") || line.ends_with(" -f -") || line.trim() == "cat"
}

/// Splits a line and strips `sudo`.
fn parse(guest: &Guest, user: &str, line: &str) -> Result<(Vec<String>, bool), Output> {
    let mut words = shell::split(line).map_err(|text| Output::failed(2, text))?;
    let mut root = user == "root";
    if words.first().map(String::as_str) == Some("sudo") {
        words.remove(0);
        while words.first().is_some_and(|word| word.starts_with('-')) {
            let word = words.remove(0);
            if word == "--" {
                break;
            }
        }
        if !root && !guest.disk.users.get(user).is_some_and(|user| user.sudo) {
            return Err(Output::failed(1, "sudo: a password is required"));
        }
        root = true;
        if let Some(name) =
            words.first().filter(|name| !known(name) && !guest.disk.files.contains_key(*name))
        {
            return Err(Output::failed(1, format!("sudo: {name}: command not found")));
        }
    }
    Ok((words, root))
}

const READING: [&str; 18] = [
    "cat",
    "crictl",
    "echo",
    "printf",
    "test",
    "tail",
    "sha256sum",
    "uname",
    "hostname",
    "ip",
    "getent",
    "cloud-init",
    "dig",
    "journalctl",
    "haproxy",
    "keepalived",
    "id",
    "whoami",
];
const OTHERS: [&str; 7] =
    ["curl", "kubeadm", "kubectl", "cilium", "pkill", "systemctl", "systemd-run"];

fn known(name: &str) -> bool {
    let base = name.rsplit('/').next().unwrap_or(name);
    READING.contains(&base) || OTHERS.contains(&base) || commands::known(&[base.to_owned()])
}

impl Guests {
    /// Runs a read-only command; `None` if it is not one.
    pub(crate) fn read_command(&self, key: &str, user: &str, line: &str) -> Option<Output> {
        let guest = self.all.get(key)?;
        let (words, root) = match parse(guest, user, line) {
            Ok(parsed) => parsed,
            Err(output) => return Some(output),
        };
        let argv: Vec<&str> = words.iter().map(String::as_str).collect();
        let Some(first) = argv.first() else { return Some(Output::ok("")) };
        let name = first.rsplit('/').next().unwrap_or(first).to_owned();
        let call = Call { guests: self, key, guest, root, argv };
        match name.as_str() {
            // Without a file, it prints its input.
            "cat" if call.rest().is_empty() => None,
            "cat" => Some(files::cat(&call)),
            "echo" | "printf" => Some(print::print(&call)),
            "crictl" => Some(crictl::crictl(&call)),
            "test" | "[" => Some(files::test(&call)),
            "tail" => Some(files::tail(&call)),
            "sha256sum" => Some(files::sha256sum(&call)),
            "uname" | "hostname" | "id" | "whoami" => Some(system::names(&call, user)),
            "ip" => Some(system::ip(&call)),
            "getent" => Some(system::getent(&call)),
            "cloud-init" if call.argv.get(1) != Some(&"clean") => Some(system::cloud_init(&call)),
            "dig" => Some(dig::dig(&call)),
            "haproxy" => Some(balancer::haproxy(&call)),
            "keepalived" => Some(balancer::keepalived(&call)),
            "journalctl" => Some(systemd::journalctl(&call)),
            "systemctl" => systemd::look(&call),
            "kubeadm" => kubeadm::look(&call),
            "kubectl" => kubectl::look(&call),
            "curl" => curl::look(&call),
            "cilium" => cilium::look(&call),
            _ if !known(call.argv[0]) && !guest.disk.files.contains_key(call.argv[0]) => Some(
                Output::failed(127, format!("bash: line 1: {}: command not found", call.argv[0])),
            ),
            _ if !root => Some(system::unprivileged(&call)),
            _ => None,
        }
    }

    /// Runs a command that changes something.
    pub(crate) fn change_command(
        &mut self,
        key: &str,
        user: &str,
        line: &str,
        stdin: &str,
    ) -> Output {
        let Some(guest) = self.all.get(key) else { return Output::failed(255, "gone") };
        let (words, _) = match parse(guest, user, line) {
            Ok(parsed) => parsed,
            Err(output) => return output,
        };
        let first = words.first().map(String::as_str).unwrap_or_default();
        let done = match first.rsplit('/').next().unwrap_or(first) {
            "cat" => Output::ok(stdin),
            "systemd-run" => systemd::run(self, key, &words),
            "pkill" => systemd::pkill(self, key, &words),
            "systemctl" if words.iter().any(|word| word == "reboot" || word == "poweroff") => {
                systemd::power(self, key, words.iter().any(|word| word == "reboot"))
            }
            "cloud-init" => system::cloud_init_clean(self, key, &words),
            "reboot" => systemd::power(self, key, true),
            "poweroff" => systemd::power(self, key, false),
            "kubeadm" => kubeadm::change(self, key, &words),
            "kubectl" => edit::change(self, key, &words, stdin),
            "curl" => curl::change(self, key, &words),
            "cilium" | "cilium-cli" => cilium::change(self, key, &words),
            _ => match self.all.get_mut(key) {
                Some(guest) => commands::run(guest, &words, stdin),
                None => Output::failed(255, "gone"),
            },
        };
        // Starting or stopping a unit may move the virtual address.
        self.settle();
        done
    }

    /// Runs a command line in one step, as the SSH server does.
    #[cfg(test)]
    pub(crate) fn command(&mut self, key: &str, user: &str, line: &str, stdin: &str) -> Output {
        match self.read_command(key, user, line) {
            Some(done) => done,
            None => self.change_command(key, user, line, stdin),
        }
    }
}

/// A request to the API server takes longer than a local command.
fn asked(output: Output) -> Output {
    output.lasting(pace::KUBECTL)
}
