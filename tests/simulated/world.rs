//! A simulated world in a separate folder, and the program run on it as a user runs it.

use std::fs;
use std::io::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use crate::made;
use k8sha_simulator::inspect;
use serde_json::Value;
use tempfile::TempDir;

/// So fast that waits take only the machine's own time.
pub const SPEED: &str = "150";

/// The result of a run of the program.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// The one JSON document on stdout.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// Panics unless the program succeeded.
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:#?}");
        self
    }
}

/// A simulated world that lasts as long as the test.
pub struct World {
    folder: TempDir,
    profile: String,
    speed: &'static str,
}

/// Proxmox's own schema, if it is present beside the checkout: every simulator of these tests checks
/// its requests against it and refuses what Proxmox would refuse.
pub fn schema() -> Option<PathBuf> {
    static SCHEMA: OnceLock<Option<PathBuf>> = OnceLock::new();
    let find = || {
        let file = "../shared/reference/pve-api-schema.json";
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        if file.exists() {
            return Some(file);
        }
        // Past the test runner, which captures the output of the print macros.
        let text = "SKIPPED: no schema of Proxmox VE beside this checkout to hold requests against";
        let _ = writeln!(std::io::stderr(), "{text}");
        None
    };
    SCHEMA.get_or_init(find).clone()
}

/// Makes a program's simulator check its requests against Proxmox's schema.
pub fn held(command: &mut Command) {
    if let Some(schema) = schema() {
        command.arg("--schema").arg(schema);
    }
}

/// Panics if a world received requests that violate Proxmox's own schema.
pub fn assert_allowed(world: &Path) {
    let violations = violations(world);
    assert!(violations.is_empty(), "Proxmox VE would refuse:\n{}", violations.join("\n"));
}

/// The requests to a world that violate Proxmox's own schema.
pub fn violations(world: &Path) -> Vec<String> {
    let requests = requests(world).into_iter();
    requests.filter(|line| line["violation"].is_string()).map(|line| line.to_string()).collect()
}

/// All requests to a world's simulated Proxmox VE, oldest first.
pub fn requests(world: &Path) -> Vec<Value> {
    let text = fs::read_to_string(world.join("requests.jsonl")).unwrap_or_default();
    // A killed program may leave a truncated last line, with the next program's first line appended.
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The program, with a separate home and without the environment variables that it reads.
pub fn program(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_k8sha"));
    command.env("HOME", home).env_remove("XDG_STATE_HOME").env_remove("RUST_LOG");
    command.env_remove("K8SHA_PVE_TOKEN").env_remove("K8SHA_PVE_USER").env("NO_COLOR", "1");
    command.env_remove("K8SHA_PROFILE");
    command.stdin(Stdio::null());
    command
}

pub fn run(mut command: Command) -> Ran {
    let output = command.output().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// How many of these arguments stand before `--`.
pub fn ours(args: &[&str]) -> usize {
    args.iter().position(|arg| *arg == "--").unwrap_or(args.len())
}

/// Runs a program with this input.
pub fn fed(mut command: Command, input: &str) -> Ran {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // One that was refused reads none of it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs the program without a world.
pub fn k8sha(args: &[&str]) -> Ran {
    let home = tempfile::tempdir().unwrap();
    let mut command = program(home.path());
    command.args(args);
    if args.contains(&"--simulate") {
        held(&mut command);
    }
    run(command)
}

impl World {
    /// An empty world for the profile `k8s1`.
    pub fn new() -> Self {
        Self::of("k8s1")
    }

    /// An empty world for a profile.
    pub fn of(profile: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, profile: profile.to_owned(), speed: SPEED }
    }

    /// The same world with the cluster of its profile in it.
    pub fn made(self) -> Self {
        self.after(&["up", "--quiet"])
    }

    /// The same world after the program was run on it: by the first test with this profile and these
    /// arguments; the others get a copy of that world.
    pub fn after(mut self, args: &[&str]) -> Self {
        let ours = format!("{}/profiles/{}.yaml", env!("CARGO_MANIFEST_DIR"), self.profile);
        let text = fs::read_to_string(&self.profile).or_else(|_| fs::read_to_string(ours)).unwrap();
        let key = format!("{args:?} {} {text}", self.speed);
        made::once(&mut self, key, |world| drop(world.run(args).ok()));
        self
    }

    /// The same world, in which time passes this many times as fast as outside.
    pub fn at_speed(self, speed: &'static str) -> Self {
        Self { speed, ..self }
    }

    /// The same world, with the profile `k8s1` with some text replaced.
    pub fn with_profile(&mut self, name: &str, changes: &[(&str, &str)]) {
        self.with_profile_of("k8s1", name, changes);
    }

    /// The same world, with one of the shipped profiles with some text replaced.
    pub fn with_profile_of(&mut self, profile: &str, name: &str, changes: &[(&str, &str)]) {
        let source = format!("{}/profiles/{profile}.yaml", env!("CARGO_MANIFEST_DIR"));
        let mut text = fs::read_to_string(source).unwrap();
        for (from, to) in changes {
            assert!(text.contains(from), "`{from}` is not in the profile");
            text = text.replace(from, to);
        }
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        self.profile = path.to_str().unwrap().to_owned();
    }

    /// The same world, with a profile of this text.
    pub fn with_text(&mut self, text: &str) {
        self.profile = self.write("mine.yaml", text).to_str().unwrap().to_owned();
    }

    /// Discards the requests so far: later queries only return new ones.
    pub fn forget_requests(&self) {
        let _ = fs::remove_file(self.path().join("requests.jsonl"));
    }

    /// The folder of the simulated world.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("world")
    }

    /// The program on this world, not started yet.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = program(self.folder.path());
        // The arguments after `--` are not for k8sha.
        let (ours, theirs) = args.split_at(ours(args));
        command.args(ours).args(["--profile", &self.profile, "--speed", self.speed, "--simulate"]);
        command.arg(self.path());
        held(&mut command);
        command.args(theirs);
        command
    }

    /// Runs the program on this world.
    pub fn run(&self, args: &[&str]) -> Ran {
        let ran = run(self.command(args));
        assert_allowed(&self.path());
        ran
    }

    /// Starts the program on this world and kills it after so many events.
    pub fn kill_after(&self, args: &[&str], events: usize) {
        let mut command = self.command(args);
        command.arg("--json").stdout(Stdio::null()).stderr(Stdio::piped());
        kill_after(command.spawn().unwrap(), events);
        assert_allowed(&self.path());
    }

    /// All requests to the simulated Proxmox VE, oldest first.
    pub fn requests(&self) -> Vec<Value> {
        requests(&self.path())
    }

    /// The same world, with one of the shipped profiles without the rows of these nodes.
    pub fn without_rows(&mut self, profile: &str, name: &str, nodes: &[&str]) {
        let source = format!("{}/profiles/{profile}.yaml", env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(source).unwrap();
        let gone = |line: &&str| nodes.iter().any(|node| line.contains(&format!("name: {node},")));
        let rows: Vec<&str> = text.lines().filter(gone).collect();
        assert_eq!(rows.len(), nodes.len(), "{rows:#?}");
        let changes: Vec<(&str, &str)> = rows.into_iter().map(|row| (row, "")).collect();
        self.with_profile_of(profile, name, &changes);
    }

    /// Writes a file beside the profiles of this world.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Changes the stored world directly, as no user of it could.
    pub fn change(&self, change: impl FnOnce(&mut k8sha_simulator::world::World)) {
        let mut world = inspect::open(&self.path()).unwrap();
        change(&mut world);
        let store = k8sha_simulator::store::Store::open(Some(self.path())).unwrap();
        store.save(&world);
        assert_eq!(store.failure(), None);
    }

    /// Lets hours pass without a look.
    pub fn pass(&self, hours: f64) {
        inspect::pass(&self.path(), hours * 3600.0).unwrap();
    }

    /// A digest of everything visible to the world's users.
    pub fn digest(&self) -> String {
        inspect::digest(&inspect::open(&self.path()).unwrap())
    }

    /// The VMs, templates included.
    pub fn vms(&self) -> Vec<inspect::VmLine> {
        inspect::vms(&inspect::open(&self.path()).unwrap())
    }

    /// The requests that could change something.
    pub fn writes(&self) -> Vec<Value> {
        self.requests().into_iter().filter(|request| request["method"] != "GET").collect()
    }
}

/// Kills a program that prints events as JSON lines on stderr once it has printed this many.
pub fn kill_after(mut child: Child, events: usize) {
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut seen = 0;
    for line in lines.map_while(Result::ok) {
        if line.starts_with('{') {
            seen += 1;
        }
        if seen == events {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The number of events that a run printed.
pub fn events(ran: &Ran) -> usize {
    ran.stderr.lines().filter(|line| line.starts_with('{')).count()
}

/// A text without the parts that differ from run to run: paths, times, ids, keys.
pub fn redact(text: &str, world: &Path) -> String {
    let text = text.replace(&world.display().to_string(), "WORLD");
    let word = |word: &str| -> String {
        if word.contains("UPID:") {
            return "UPID".to_owned();
        }
        if word.contains("SHA256:") {
            return "SHA256:…".to_owned();
        }
        if let Some((before, port)) = word.split_once("127.0.0.1:") {
            let rest = port.trim_start_matches(|digit: char| digit.is_ascii_digit());
            return format!("{before}127.0.0.1:PORT{rest}");
        }
        let mut out = String::new();
        let mut hex = String::new();
        for letter in word.chars().chain(['\0']) {
            if letter.is_ascii_hexdigit() {
                hex.push(letter);
                continue;
            }
            let id = hex.len() >= 8 && hex.bytes().any(|b| b.is_ascii_digit());
            out.push_str(if id { "HEX" } else { &hex });
            hex.clear();
            if letter != '\0' {
                out.push(letter);
            }
        }
        out
    };
    let count = |line: &str| {
        let at = ["  Length: ", "  file size is: "].iter().find(|at| line.starts_with(**at));
        let dated = line.starts_with("  --20");
        match (at, dated) {
            (Some(at), _) => format!("{at}N"),
            (None, true) => "  --DATE--".to_owned(),
            (None, false) => line.to_owned(),
        }
    };
    let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ");
    text.lines().map(|text| count(&line(text))).collect::<Vec<_>>().join("\n")
}
