//! A simulated world with spoiled peers before it, and the program run against it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};

use k8sha_simulator::Endpoints;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::guest::{self, Wild};
use crate::ran::{Ran, run};
use crate::spoiler::{self, Play, Rule};

const PROFILE: &str = "homelab";

/// The whole cluster of the profile after `up`, created once.
fn finished() -> &'static Path {
    static WORLD: OnceLock<TempDir> = OnceLock::new();
    let make = || {
        let folder = tempfile::tempdir().unwrap();
        let mut command = program(folder.path());
        command.args(["up", "--profile", PROFILE, "--speed", "150", "--quiet", "--simulate"]);
        let output = command.arg(folder.path().join("world")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        folder
    };
    WORLD.get_or_init(make).path()
}

fn program(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_k8sha"));
    command.env("HOME", home).env_remove("XDG_STATE_HOME").env_remove("RUST_LOG");
    command.env_remove("K8SHA_PVE_TOKEN").env_remove("K8SHA_PVE_USER").env("NO_COLOR", "1");
    command.stdin(Stdio::null());
    command
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A world, its simulator, and the proxies before it.
pub struct Stand {
    folder: TempDir,
    sim: Child,
    endpoints: Endpoints,
    /// The spoiled peers run until it is dropped.
    runtime: Runtime,
}

impl Drop for Stand {
    fn drop(&mut self) {
        let _ = self.sim.kill();
        let _ = self.sim.wait();
    }
}

impl Stand {
    /// An empty world.
    pub fn empty() -> Self {
        Self::of(tempfile::tempdir().unwrap())
    }

    /// The cluster exists and matches the profile.
    pub fn built() -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(finished(), folder.path());
        Self::of(folder)
    }

    fn of(folder: TempDir) -> Self {
        let mut command = program(folder.path());
        command.args(["sim", "--profile", PROFILE, "--speed", "150", "--quiet", "--simulate"]);
        command.arg(folder.path().join("world")).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut sim = command.spawn().unwrap();
        let lines = BufReader::new(sim.stdout.take().unwrap()).lines();
        let mut text = String::new();
        let endpoints = lines.map_while(Result::ok).find_map(|line| {
            text.push_str(&line);
            serde_json::from_str(&text).ok()
        });
        let runtime = Runtime::new().unwrap();
        Self { folder, sim, endpoints: endpoints.unwrap(), runtime }
    }

    /// Divides the program's time limits.
    pub fn hurried(mut self, haste: f64) -> Self {
        self.endpoints.haste = Some(haste);
        self
    }

    /// Tells the program that the world is this many times faster than real time.
    pub fn speed(mut self, speed: f64) -> Self {
        self.endpoints.speed = speed;
        self
    }

    /// Applies this rule before every host.
    pub fn spoil(self, rule: impl Fn(&str, &str) -> Play + Send + Sync + 'static) -> Self {
        self.spoil_hosts(Arc::new(rule), None)
    }

    /// Presents a different certificate after this many connections.
    pub fn change_certificate(self, after: usize) -> Self {
        self.spoil_hosts(Arc::new(|_: &str, _: &str| Play::Pass), Some(after))
    }

    fn spoil_hosts(mut self, rule: Arc<Rule>, change: Option<usize>) -> Self {
        for host in self.endpoints.hosts.values_mut() {
            let spoiled = self.runtime.block_on(spoiler::start(host, Arc::clone(&rule), change));
            host.url = spoiled.url;
            host.fingerprint = spoiled.fingerprint;
        }
        self
    }

    /// Replaces all guests with misbehaving SSH servers that have the guests' own host keys.
    pub fn wild(mut self, wild: Wild) -> Self {
        let mut keys = BTreeMap::new();
        for entry in fs::read_dir(self.state().join("ssh")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if let Some(node) = name.strip_prefix("host-").filter(|name| !name.ends_with(".pub")) {
                keys.insert(node.to_owned(), fs::read_to_string(&path).unwrap());
            }
        }
        let real = self.endpoints.proxy;
        self.endpoints.proxy = self.runtime.block_on(guest::door(real, keys, wild));
        self
    }

    /// The operator's folder.
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("world").join("operator").join(PROFILE)
    }

    /// The secret of every host's token.
    pub fn secrets(&self) -> Vec<String> {
        let secret = |token: &str| token.split_once('=').unwrap().1.to_owned();
        self.endpoints.hosts.values().map(|host| secret(&host.token)).collect()
    }

    /// Runs the program against it, and checks that no raw text and no secret was printed.
    pub fn run(&self, args: &[&str]) -> Ran {
        let ran = self.run_only(args);
        ran.is_clean(&self.state(), &[]);
        ran
    }

    /// Runs the program against it.
    pub fn run_only(&self, args: &[&str]) -> Ran {
        let file = self.folder.path().join("endpoints.json");
        fs::write(&file, serde_json::to_string(&self.endpoints).unwrap()).unwrap();
        let mut command = program(self.folder.path());
        command.args(args).args(["--profile", PROFILE, "--endpoints"]).arg(file);
        command.arg("--state").arg(self.state());
        run(command)
    }
}
