//! Through a jump host: two real sshd in network namespaces, the node reachable only from the jump
//! host.

use std::fs;
use std::future::Future;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command as Program, Output};
use std::time::{Duration, Instant};

use k8sha::net::Dialer;
use k8sha::ssh::{Command, Error, HostKey, Jump, KeyPair, Keys, Known, Remote};
use secrecy::ExposeSecret;
use tokio::time::timeout;

use crate::keys::{Agent, Ring, public};
use crate::lab::{Cut, Lab};
use crate::openssh::{ATTEMPT, LIMIT, shell};
use crate::sshd::{KEEN, PORT, Setup, Sshd};
use crate::{needs, wait};

const PROGRAMS: &[&str] =
    &["sshd", "ssh", "ssh-agent", "ssh-keygen", "ssh-keyscan", "ip", "sudo", "unshare", "setpriv"];

const OPERATOR: Ipv4Addr = Ipv4Addr::new(10, 78, 1, 1);
const FRONT: Ipv4Addr = Ipv4Addr::new(10, 78, 1, 2);
const BACK: Ipv4Addr = Ipv4Addr::new(10, 78, 2, 1);
const NODE: Ipv4Addr = Ipv4Addr::new(10, 78, 2, 2);

/// The operator's machine, the jump host, and the node behind it.
struct Scene {
    jump: Sshd,
    node: Sshd,
    // Last: the machines must outlive their programs.
    lab: Lab,
}

impl Scene {
    fn new(programs: &[&str]) -> Option<Self> {
        Self::with(programs, |setup| setup)
    }

    /// With this change to the jump host.
    fn with(programs: &[&str], change: impl FnOnce(Setup) -> Setup) -> Option<Self> {
        if !needs::asked_for(programs) {
            return None;
        }
        let mut lab = Lab::new()?;
        lab.add("operator", &[OPERATOR]);
        lab.add("jump", &[FRONT]);
        lab.add_behind("jump", BACK, "node", NODE);
        let jump = change(Setup::new().at(&lab.name("jump"), FRONT)).start();
        let node = Setup::new().at(&lab.name("node"), NODE).start();
        Some(Self { jump, node, lab })
    }

    /// Does some work on the operator's machine.
    fn on_operator<F: Future<Output = ()>>(&self, work: impl FnOnce() -> F + Send + 'static) {
        let work = move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build().unwrap().block_on(work());
        };
        if let Err(panic) = self.lab.on("operator", work).join() {
            std::panic::resume_unwind(panic);
        }
    }

    /// The node through this jump host.
    fn behind(&self, jump: Jump) -> Remote {
        let mut target = self.node.target(KEEN);
        target.dialer = Dialer::by(jump.route());
        Remote::new(target)
    }

    /// Runs a program on the operator's machine.
    fn run(&self, words: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut program = Program::new("ip");
        program.args(["netns", "exec", &self.lab.name("operator")]).args(words).env_clear();
        program.env("PATH", std::env::var("PATH").unwrap());
        program.envs(environment.iter().copied()).output().unwrap()
    }
}

fn other_key() -> HostKey {
    HostKey::parse(&KeyPair::generate("other").unwrap().public).unwrap()
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn a_node_behind_the_jump_host_is_reached_as_with_ssh_j() {
    let Some(scene) = Scene::new(PROGRAMS) else { return };
    let (through, direct) = (scene.behind(scene.jump.jump(KEEN)), scene.node.remote(KEEN));
    scene.on_operator(|| async move {
        let error = direct.run(&Command::new("id")).await.unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
        let host = through.run_ok(&shell("whoami; echo $SSH_CONNECTION")).await.unwrap();
        // The node sees the jump host's address, not the operator's.
        let told = host.stdout_text();
        assert!(told.starts_with(&format!("keen\n{BACK} ")), "{told}");
        let body: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        let echo = Command::sudo("cat").stdin(body.clone()).prints(4 << 20);
        let back = through.run_ok(&echo).await.unwrap();
        assert!(back.stdout == body);
        let runs: Vec<_> = (0..100)
            .map(|_| {
                let through = through.clone();
                tokio::spawn(async move { through.run_ok(&Command::new("true")).await })
            })
            .collect();
        for run in runs {
            run.await.unwrap().unwrap();
        }
    });
    let log = scene.jump.log();
    assert_eq!(log.matches("Accepted publickey").count(), 1, "{log}");
    assert_eq!(log.matches("Starting session").count(), 0, "the jump host runs nothing: {log}");

    // The reference: OpenSSH's own client, with the same keys and known hosts.
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        Program::new("chmod").arg("600").arg(&path).status().unwrap();
        path
    };
    let (jump_key, node_key) = (
        file("jump", scene.jump.login.private.expose_secret()),
        file("node", scene.node.login.private.expose_secret()),
    );
    let known = file(
        "known_hosts",
        &format!(
            "[{FRONT}]:{PORT} {}\n[{NODE}]:{PORT} {}\n",
            scene.jump.host.public, scene.node.host.public
        ),
    );
    let config = file(
        "config",
        &format!(
            "Host *\nUser {KEEN}\nPort {PORT}\nIdentitiesOnly yes\nUserKnownHostsFile {known}\n\
             StrictHostKeyChecking yes\nBatchMode yes\nIdentityFile {jump}\nIdentityFile {node}\n",
            known = known.display(),
            jump = jump_key.display(),
            node = node_key.display(),
        ),
    );
    let (config, front, node) = (config.display().to_string(), FRONT.to_string(), NODE.to_string());
    let output = scene.run(&["ssh", "-F", &config, "-J", &front, &node, "whoami"], &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "keen\n", "{said}");
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn a_man_in_the_middle_is_refused_in_front_of_the_jump_host_and_behind_it() {
    let Some(scene) = Scene::new(PROGRAMS) else { return };
    let mut strange = scene.jump.jump(KEEN);
    strange.host_keys = other_key().into();
    let before = scene.behind(strange);
    let mut target = scene.node.target(KEEN);
    target.host_key = other_key();
    target.dialer = Dialer::by(scene.jump.jump(KEEN).route());
    let behind = Remote::new(target);
    let shown = |sshd: &Sshd| HostKey::parse(&sshd.host.public).unwrap().fingerprint();
    let (front, back) = (shown(&scene.jump), shown(&scene.node));
    scene.on_operator(|| async move {
        let error = before.run(&Command::new("id")).await.unwrap_err();
        let Error::Jump { cause, transient: false, .. } = &error else { panic!("{error}") };
        assert!(cause.contains(&format!("found {front}")), "{cause}");
        let error = behind.run(&Command::new("id")).await.unwrap_err();
        let Error::HostKey { seen, .. } = &error else { panic!("{error}") };
        assert_eq!(*seen, back);
    });
    scene.jump.wait_for_a_stranger_to_leave();
    scene.node.wait_for_a_stranger_to_leave();
    // At the jump host, the second of two keys was accepted; at the node, no login was tried.
    assert_eq!(scene.jump.log().matches("Accepted publickey").count(), 1, "{}", scene.jump.log());
    assert!(!scene.node.log().contains(ATTEMPT), "{}", scene.node.log());
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn host_keys_from_ssh_keyscan_hashed_by_ssh_keygen_are_trusted() {
    let Some(scene) = Scene::new(PROGRAMS) else { return };
    let front = FRONT.to_string();
    let scan = scene.run(&["ssh-keyscan", "-H", "-p", &PORT.to_string(), &front], &[]);
    let text = String::from_utf8(scan.stdout).unwrap();
    assert!(text.contains("|1|") && !text.contains(&front), "{text}");
    let read = |host: &str, port: u16| {
        let mut known = Known::default();
        known.read(&text, host, port);
        known.keys()
    };
    assert!(read(&front, 22).is_err(), "another port is another server");
    assert!(read("10.78.1.3", PORT).is_err());
    let mut jump = scene.jump.jump(KEEN);
    jump.host_keys = read(&front, PORT).unwrap();
    let remote = scene.behind(jump);
    scene.on_operator(|| async move {
        assert!(remote.run_ok(&Command::new("true")).await.is_ok());
    });
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn a_jump_host_is_trusted_by_its_ecdsa_key_too() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let ring = Ring::new();
    let file = ring.make("host", &["ecdsa"], "");
    let extra = fs::read_to_string(&file).unwrap();
    // It has both, and prefers its ed25519 key.
    let Some(scene) = Scene::with(PROGRAMS, |setup| setup.second_host_file(&extra)) else { return };
    let mut known = Known::default();
    known.read(&format!("[{FRONT}]:{PORT} {}", public(&file)), &FRONT.to_string(), PORT);
    let mut jump = scene.jump.jump(KEEN);
    jump.host_keys = known.keys().unwrap();
    let remote = scene.behind(jump);
    scene.on_operator(|| async move {
        assert!(remote.run_ok(&Command::new("true")).await.is_ok());
    });
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn the_agents_keys_log_in_at_the_jump_host_and_a_refusal_lists_the_offered_keys() {
    let (ring, agent) = if needs::asked_for(PROGRAMS) {
        (Ring::new(), Agent::start())
    } else {
        return;
    };
    let (mine, others) = (ring.make("mine", &["ed25519"], ""), ring.make("others", &["rsa"], ""));
    agent.add(&[], &others);
    let Some(scene) = Scene::with(PROGRAMS, |setup| setup.key(&public(&mine))) else { return };
    let with_agent = || {
        let mut jump = scene.jump.jump(KEEN);
        jump.keys = Keys::none().agent(agent.socket());
        scene.behind(jump)
    };
    let remote = with_agent();
    scene.on_operator(|| async move {
        let error = remote.run(&Command::new("id")).await.unwrap_err();
        let Error::Jump { cause, transient: false, .. } = &error else { panic!("{error}") };
        assert!(
            cause.contains("it refuses user `keen`: offered the agent's key `others`"),
            "{cause}"
        );
        assert!(error.hint().unwrap().contains("ssh-add"));
    });
    agent.add(&[], &mine);
    let remote = with_agent();
    scene.on_operator(|| async move {
        assert!(remote.run_ok(&Command::new("true")).await.is_ok());
    });
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn a_jump_host_without_forwarding_is_reported_at_once() {
    let forbid = |setup: Setup| setup.config("AllowTcpForwarding no\n");
    let Some(scene) = Scene::with(PROGRAMS, forbid) else { return };
    let remote = scene.behind(scene.jump.jump(KEEN));
    scene.on_operator(|| async move {
        let error = remote.reach(k8sha::clock::Clock::real(), LIMIT).await.unwrap_err();
        let Error::Jump { cause, fix, transient: false, .. } = &error else { panic!("{error}") };
        assert!(cause.contains(&format!("does not forward to {NODE}:{PORT}")), "{cause}");
        assert!(fix.contains("AllowTcpForwarding"), "{fix}");
    });
}

/// Runs a command until it is seen running, breaks something, and returns the result of the command.
async fn harmed(victim: Remote, witness: Remote, harm: impl FnOnce()) -> Error {
    let running = tokio::spawn({
        let victim = victim.clone();
        let work = shell("echo $$ > /run/home/pid; exec sleep 600");
        async move { victim.run(&work.limit(Duration::from_secs(300))).await }
    });
    let begun = timeout(LIMIT, async {
        let test = Command::new("test").args(["-s", "/run/home/pid"]);
        while !witness.run(&test).await.unwrap().success() {}
    });
    begun.await.unwrap();
    harm();
    timeout(Duration::from_secs(120), running).await.unwrap().unwrap().unwrap_err()
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn a_command_is_lost_with_the_jump_host_and_with_the_node_and_never_a_success() {
    let Some(mut scene) = Scene::new(PROGRAMS) else { return };
    let pids = |sshd: &Sshd| sshd.pid();
    for (name, pid) in [("node", pids(&scene.node)), ("jump", pids(&scene.jump))] {
        let through = scene.behind(scene.jump.jump(KEEN));
        scene.on_operator(move || async move {
            let error = harmed(through.clone(), through, move || kill(pid)).await;
            assert!(matches!(error, Error::Lost { .. }), "{name}: {error}");
            assert!(error.is_transient());
        });
        if name == "node" {
            scene.node.kill();
            let node = Setup::new().at(&scene.lab.name("node"), NODE).start();
            scene.node = node;
        }
    }
    let through = scene.behind(scene.jump.jump(KEEN));
    scene.on_operator(move || async move {
        let error = through.run(&Command::new("id")).await.unwrap_err();
        assert!(matches!(error, Error::Jump { transient: true, .. }), "{error}");
    });
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn a_cut_network_is_noticed_and_the_command_is_lost_with_and_without_a_jump_host() {
    let Some(scene) = Scene::new(PROGRAMS) else { return };
    let through = scene.behind(scene.jump.jump(KEEN));
    // The jump host's own sshd serves as a node without one before it.
    let direct = scene.jump.remote(KEEN);
    let lab = &scene.lab;
    std::thread::scope(|scope| {
        let (told, cut) = std::sync::mpsc::channel();
        scope.spawn(move || {
            // Both commands run by now.
            for () in cut.iter().take(2) {}
            lab.cut("jump", Cut::Network);
        });
        scene.on_operator(move || async move {
            let began = Instant::now();
            let (one, other) = (told.clone(), told);
            let errors = tokio::join!(
                harmed(through.clone(), through, move || one.send(()).unwrap()),
                harmed(direct.clone(), direct, move || other.send(()).unwrap()),
            );
            for error in [errors.0, errors.1] {
                assert!(matches!(error, Error::Lost { .. }), "{error}");
            }
            needs::say(&format!("a cut network was noticed after {:?}", began.elapsed()));
        });
    });
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn doctor_passes_the_jump_host_or_says_why_not() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let ring = Ring::new();
    let key = ring.make("id", &["ed25519"], "open sesame");
    let Some(scene) = Scene::with(PROGRAMS, |setup| setup.key(&public(&key))) else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let profile = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/profiles/k8s1.yaml"))
        .unwrap()
        .replacen("https://10.103.1.101:2379", &format!("https://{NODE}:{PORT}"), 1)
        .replacen("10.103.1.101: pve1", &format!("{NODE}: pve1"), 1);
    fs::write(path("profile.yaml"), profile).unwrap();
    fs::write(path("passphrase"), "open sesame\n").unwrap();
    let (home, state, profile, words) =
        (path("home"), path("state"), path("profile.yaml"), path("passphrase"));
    let (jump, identity) = (format!("{KEEN}@{FRONT}:{PORT}"), key.display().to_string());
    let doctor = |more: &[&str], passphrase: &str| {
        let common = [
            env!("CARGO_BIN_EXE_k8sha"),
            "doctor",
            "--profile",
            &profile,
            "--state",
            &state,
            "--jump",
            &jump,
            "--identity",
            &identity,
        ];
        let environment = [
            ("HOME", home.as_str()),
            ("K8SHA_PVE_TOKEN", "root@pam!k8sha=hush"),
            ("K8SHA_SSH_PASSPHRASE_FILE", passphrase),
        ];
        let output = scene.run(&[&common, more].concat(), &environment);
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(!text.contains("sesame"), "{text}");
        text
    };
    let member = format!("https://{NODE}:{PORT}: this etcd member does not answer");

    let text = doctor(&[], &words);
    assert!(text.contains(&format!("error: {jump}: cannot verify the jump host")), "{text}");
    assert!(text.contains("fix: ssh-keyscan -t ed25519 -p 10022 10.78.1.2"), "{text}");
    assert!(!text.contains("etcd member"), "what cannot be seen is no finding: {text}");

    let strange = KeyPair::generate("other").unwrap().public;
    let text = doctor(&["--jump-host-key", &strange], &words);
    assert!(text.contains("error: the jump host: cannot reach the nodes"), "{text}");
    assert!(text.contains("its host key does not match the known one"), "{text}");

    let text = doctor(&["--jump-host-key", &scene.jump.host.public], &path("absent"));
    assert!(text.contains("K8SHA_SSH_PASSPHRASE_FILE"), "{text}");

    // k8sha's own, by the option or by the operator's own file: no problems are reported, and the
    // member behind the jump host answers, the others do not.
    fs::create_dir_all(path("home/.ssh")).unwrap();
    let known = format!("[{FRONT}]:{PORT} {}\n", scene.jump.host.public);
    for flags in [vec!["--jump-host-key", &scene.jump.host.public], vec![]] {
        let text = doctor(&flags, &words);
        assert!(!text.contains("jump host: ") && !text.contains("verify the jump"), "{text}");
        assert!(!text.contains(&member), "{text}");
        assert_eq!(text.matches("this etcd member does not answer").count(), 5, "{text}");
        fs::write(path("home/.ssh/known_hosts"), &known).unwrap();
    }
    let there = || scene.node.log().contains("Connection from").then_some(());
    wait::until("the node is knocked at", LIMIT, there, || scene.node.log());
}
