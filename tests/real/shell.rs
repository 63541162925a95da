//! `k8sha ssh` with real OpenSSH: through a pseudo-terminal as a person types, and in a script.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use k8sha::ssh::KeyPair;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};
use secrecy::ExposeSecret as _;
use tempfile::TempDir;

use crate::lab::Lab;
use crate::openssh::ATTEMPT;
use crate::sshd::{KEEN, Setup, Sshd};
use crate::{needs, wait};

const PROGRAMS: &[&str] = &["sshd", "ip", "sudo", "unshare", "setpriv", "setsid", "stty"];

/// The first master of the profile `k8s1`, and another machine on its network.
const MASTER: (&str, Ipv4Addr) = ("k8s1master1", Ipv4Addr::new(10, 101, 1, 101));
const OPERATOR: Ipv4Addr = Ipv4Addr::new(10, 101, 1, 2);
/// Where the master stands behind a jump host: that host, and an operator who reaches nothing else.
const FRONT: Ipv4Addr = Ipv4Addr::new(10, 78, 1, 2);
const BACK: Ipv4Addr = Ipv4Addr::new(10, 101, 1, 9);
const AFAR: Ipv4Addr = Ipv4Addr::new(10, 78, 1, 1);
/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(20);

/// The operator's machine with a state folder, and a node that shows the key in it.
struct Scene {
    home: TempDir,
    node: Sshd,
    // Last: the machines outlive what runs on them.
    lab: Lab,
}

impl Scene {
    fn new() -> Option<Self> {
        if !needs::asked_for(PROGRAMS) {
            return None;
        }
        let mut lab = Lab::new()?;
        lab.add("operator", &[OPERATOR]);
        lab.add("node", &[MASTER.1]);
        Some(Self::within(lab))
    }

    /// With the machines `operator` and `node` of a network.
    fn within(lab: Lab) -> Self {
        let node = Setup::new().at(&lab.name("node"), MASTER.1).port(22).start();
        let home = tempfile::tempdir().unwrap();
        let scene = Self { home, node, lab };
        scene.keep("creation", "00000000");
        scene.keep("ssh/operator", scene.node.login.private.expose_secret());
        scene.knows(&scene.node.host);
        let profile = fs::read_to_string("profiles/k8s1.yaml").unwrap();
        let profile = profile.replace("user: ubuntu", &format!("user: {KEEN}"));
        fs::write(scene.home.path().join("k8s1.yaml"), profile).unwrap();
        scene
    }

    /// Writes a file of the state folder.
    fn keep(&self, name: &str, text: &str) {
        let path = self.home.path().join("state").join(name);
        DirBuilder::new().recursive(true).mode(0o700).create(path.parent().unwrap()).unwrap();
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// The state folder has this key of the node.
    fn knows(&self, key: &KeyPair) {
        self.keep(&format!("ssh/host-{}", MASTER.0), key.private.expose_secret());
        self.keep(&format!("ssh/host-{}.pub", MASTER.0), &key.public);
    }

    /// The program on the operator's machine; a session of its own, whose terminal is its input.
    fn command(&self, args: &[&str], terminal: bool) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        if terminal {
            command.args(["setsid", "--ctty", "--wait"]);
        }
        command.args(["ip", "netns", "exec", &self.lab.name("operator")]);
        command.arg(env!("CARGO_BIN_EXE_k8sha")).arg("ssh").arg("--profile");
        command.arg(self.home.path().join("k8s1.yaml")).arg("--state");
        command.arg(self.home.path().join("state")).args(args);
        command.env("HOME", self.home.path()).env("TERM", "vt220").env("NO_COLOR", "1");
        command
    }

    /// Runs it with this input.
    fn run(&self, args: &[&str], input: &[u8]) -> Output {
        let mut command = self.command(args, false);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let writing = thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writing.join().unwrap();
        output
    }
}

/// A person at a terminal.
struct Person {
    child: Child,
    terminal: File,
    line: File,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Person {
    fn at(scene: &Scene, args: &[&str]) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let terminal = openpt(flags).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
        let line = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).custom_flags(rustix::fs::OFlags::NOCTTY.bits() as i32);
            options.open(&name).unwrap()
        };
        let kept = line();
        tcsetwinsize(&kept, size(80, 24)).unwrap();
        let mut command = scene.command(args, true);
        command.stdin(line()).stdout(line()).stderr(line());
        let child = command.spawn().unwrap();
        let terminal = File::from(terminal);
        let (mut reader, seen) = (terminal.try_clone().unwrap(), Arc::default());
        let sink: Arc<Mutex<Vec<u8>>> = Arc::clone(&seen);
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut piece) {
                sink.lock().unwrap().extend_from_slice(&piece[..count]);
            }
        });
        Self { child, terminal, line: kept, seen }
    }

    fn types(&mut self, keys: &str) {
        self.terminal.write_all(keys.as_bytes()).unwrap();
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    fn sees(&self, text: &str) {
        wait::until(text, LIMIT, || self.text().contains(text).then_some(()), || self.text());
    }

    fn ends(&mut self) -> Option<i32> {
        let child = &mut self.child;
        let ended = wait::until("it ends", LIMIT, || child.try_wait().unwrap(), String::new);
        ended.code()
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 }
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn a_person_gets_a_shell_on_a_terminal_that_is_theirs_and_gets_it_back() {
    let Some(scene) = Scene::new() else { return };
    let mut person = Person::at(&scene, &[MASTER.0]);
    let before = tcgetattr(&person.line).unwrap();
    let settings = |termios: &rustix::termios::Termios| {
        (termios.local_modes, termios.input_modes, termios.output_modes, termios.control_modes)
    };
    // What is typed is not in what is awaited, so that an echo does not pass for an answer.
    person.types("test -t 0 && echo \"a-${TERM}-terminal\" $(stty size)\r");
    person.sees("a-vt220-terminal 24 80");
    assert_ne!(settings(&tcgetattr(&person.line).unwrap()), settings(&before), "no raw mode");
    tcsetwinsize(&person.line, size(132, 50)).unwrap();
    wait::until(
        "the new size arrives",
        LIMIT,
        || {
            person.types("echo now $(stty size)\r");
            thread::sleep(Duration::from_millis(100));
            person.text().contains("now 50 132").then_some(())
        },
        String::new,
    );
    // Ctrl-C is for the remote program, not for k8sha.
    person.types("echo sleeps-$((40 + 2)); sleep 1000\r");
    person.sees("sleeps-42");
    person.types("\u{3}");
    person.types("echo ended-with-$?\r");
    person.sees("ended-with-130");
    person.types("exit 7\r");
    assert_eq!(person.ends(), Some(7), "{}", person.text());
    assert_eq!(settings(&tcgetattr(&person.line).unwrap()), settings(&before));

    // A session of which nothing more is heard has a way out, and the terminal is whole after it.
    let mut person =
        Person::at(&scene, &["--tty", MASTER.0, "--", "sh", "-c", "tty; exec sleep 1000"]);
    person.sees("/dev/pts/");
    person.types("~.");
    assert_eq!(person.ends(), Some(255), "{}", person.text());
    person.sees("ended by `~.`");
    assert_eq!(settings(&tcgetattr(&person.line).unwrap()), settings(&before));
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn a_script_gets_every_byte_and_the_commands_own_exit_code() {
    let Some(scene) = Scene::new() else { return };
    let run = |words: &[&str], input: &[u8]| scene.run(&[&[MASTER.0, "--"], words].concat(), input);
    let bytes: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
    let output = run(&["sh", "-c", "cat; echo on the side >&2; exit 3"], &bytes);
    assert_eq!(output.status.code(), Some(3));
    assert!(output.stdout == bytes, "{} bytes", output.stdout.len());
    assert_eq!(output.stderr, b"on the side\n");
    let words = ["a b", "$HOME", "it's", "", "*", "a;b", "\\n", "\"", "new\nline", "~", "-n"];
    let output = run(&[&["printf", "%s\\0"], &words[..]].concat(), b"");
    assert_eq!(output.stdout, words.map(|word| format!("{word}\0")).concat().as_bytes());
    for (words, code) in [
        (&["true"][..], 0),
        (&["sh", "-c", "exit 254"], 254),
        (&["no-such-program"], 127),
        (&["sh", "-c", "kill -KILL $$"], 137),
        (&["test", "-t", "0"], 1),
    ] {
        assert_eq!(run(words, b"").status.code(), Some(code), "{words:?}");
    }
    // Without a terminal, a shell reads what it is given.
    let output = scene.run(&[MASTER.0], b"echo one; exit 5\n");
    assert_eq!((output.status.code(), output.stdout), (Some(5), b"one\n".to_vec()));
    // A reader that goes away ends the command.
    let mut command = scene.command(&[MASTER.0, "--", "yes"], false);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 2];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let ended = wait::until("`yes` ends", LIMIT, || child.try_wait().unwrap(), String::new);
    assert_eq!((&first, ended.code()), (b"y\n", Some(141)));
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn a_machine_with_another_key_gets_neither_login_nor_input() {
    let Some(scene) = Scene::new() else { return };
    scene.knows(&KeyPair::generate("another").unwrap());
    let output = scene.run(&[MASTER.0, "--", "cat"], b"hush");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(255), 0));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("does not match the one in its seed"), "{said}");
    scene.node.wait_for_a_stranger_to_leave();
    assert!(!scene.node.log().contains(ATTEMPT), "{}", scene.node.log());
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn a_node_behind_a_jump_host_is_reached_through_it_and_the_jump_host_must_be_the_known_one() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let Some(mut lab) = Lab::new() else { return };
    lab.add("operator", &[AFAR]);
    lab.add("jump", &[FRONT]);
    lab.add_behind("jump", BACK, "node", MASTER.1);
    let jump = Setup::new().at(&lab.name("jump"), FRONT).start();
    let scene = Scene::within(lab);
    scene.keep("jump-key", jump.login.private.expose_secret());
    let (door, file) =
        (format!("{KEEN}@{}", jump.address), scene.home.path().join("state/jump-key"));
    let run = |key: &str| {
        let way = ["--jump", &door, "--jump-host-key", key, "--identity", file.to_str().unwrap()];
        scene.run(&[&way[..], &[MASTER.0, "--", "cat"]].concat(), b"through")
    };
    let output = run(&jump.host.public);
    assert_eq!((output.status.code(), output.stdout), (Some(0), b"through".to_vec()));
    let output = run(&KeyPair::generate("another").unwrap().public);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(255), 0));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("cannot connect through the jump host"), "{said}");
}
