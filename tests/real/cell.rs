//! Programs in their own mount and process namespaces: k8sha's files are where a node has them, the
//! machine's files are not changed, and everything ends with the test, even with a killed one.

use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::{NamedTempFile, TempDir};

use crate::wait;

/// The file system that a program of the cell sees.
pub struct Cell {
    folder: TempDir,
    network: Option<String>,
    emptied: Vec<String>,
    setup: String,
    files: usize,
}

impl Cell {
    /// A cell like the machine itself.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, network: None, emptied: vec![], setup: "set -eu\n".into(), files: 0 }
    }

    /// The same in a named network namespace.
    pub fn in_network(mut self, name: &str) -> Self {
        self.network = Some(name.to_owned());
        self
    }

    /// With this folder empty, and everything written there temporary.
    pub fn empty(mut self, folder: &str) -> Self {
        if self.is_ours(folder) {
            writeln!(self.setup, "mkdir -p {folder}").unwrap();
        } else {
            writeln!(self.setup, "mount -t tmpfs -o mode=0755 tmpfs {folder}").unwrap();
        }
        self.emptied.push(folder.to_owned());
        self
    }

    /// With the current contents of this folder, and everything written there temporary. `/run` must be
    /// empty already.
    pub fn overlaid(mut self, folder: &str) -> Self {
        let below = format!("/run/overlay{}", folder.replace('/', "-"));
        writeln!(
            self.setup,
            "mkdir -p {below}/up {below}/work; mount -t overlay -o \
             lowerdir={folder},upperdir={below}/up,workdir={below}/work overlay {folder}"
        )
        .unwrap();
        self.emptied.push(folder.to_owned());
        self
    }

    /// With this file: new in an emptied folder, elsewhere in place of an existing one.
    pub fn file(mut self, path: &str, content: &str, mode: u32) -> Self {
        let source = self.folder.path().join(self.files.to_string());
        self.files += 1;
        fs::write(&source, content).unwrap();
        fs::set_permissions(&source, Permissions::from_mode(mode)).unwrap();
        let source = source.display();
        if self.is_ours(path) {
            let parent = Path::new(path).parent().unwrap().display();
            writeln!(self.setup, "mkdir -p {parent}; rm -f {path}; cp -p {source} {path}").unwrap();
        } else {
            writeln!(self.setup, "mount --bind {source} {path}").unwrap();
        }
        self
    }

    /// After this line of shell.
    pub fn after(mut self, line: &str) -> Self {
        writeln!(self.setup, "{line}").unwrap();
        self
    }

    fn is_ours(&self, path: &str) -> bool {
        self.emptied.iter().any(|folder| Path::new(path).starts_with(folder))
    }

    fn command(&self, words: &[&str]) -> Command {
        let setup = format!("{}exec \"$@\"", self.setup);
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        if let Some(name) = &self.network {
            command.args(["ip", "netns", "exec", name]);
        }
        command.args(["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL"]);
        command.args(["--mount-proc", "--"]);
        command.args(["/bin/sh", "-c", &setup, "sh"]).args(words);
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// Runs a program to its end.
    pub fn run(&self, words: &[&str]) -> Output {
        self.command(words).stdin(Stdio::null()).output().unwrap()
    }

    /// Starts a program that keeps running.
    pub fn start(&self, words: &[&str]) -> Running {
        let log = NamedTempFile::new().unwrap();
        let to = || Stdio::from(File::options().append(true).open(log.path()).unwrap());
        let child =
            self.command(words).stdin(Stdio::null()).stdout(to()).stderr(to()).spawn().unwrap();
        Running { child, log }
    }
}

/// A program that runs until it is stopped or dropped.
pub struct Running {
    child: Child,
    log: NamedTempFile,
}

impl Running {
    /// Everything that it has printed.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log.path()).unwrap()).into_owned()
    }

    /// Kills it and all that it started, and waits until they are gone.
    pub fn kill(&mut self) {
        // The first process of a process namespace kills all others before it exits.
        if self.signal(Signal::KILL).is_none() {
            // A process that has exited cannot be killed, and need not be.
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }

    /// Asks it to stop, as systemd does, and waits until it has exited.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM).unwrap();
        let child = &mut self.child;
        let ended = || child.try_wait().unwrap();
        wait::until("the program ends", Duration::from_secs(20), ended, String::new);
    }

    /// Suspends it, like a program that hangs.
    pub fn pause(&self) {
        self.signal(Signal::STOP).unwrap();
    }

    /// Resumes it.
    pub fn resume(&self) {
        self.signal(Signal::CONT).unwrap();
    }

    /// The process of the program inside, if it runs.
    pub fn inner(&self) -> Option<i32> {
        let outer = self.child.id();
        let inner = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).ok()?;
        inner.trim().parse().ok()
    }

    /// Signals the program inside, if it runs.
    fn signal(&self, signal: Signal) -> Option<()> {
        kill_process(Pid::from_raw(self.inner()?)?, signal).ok()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}
