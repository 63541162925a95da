//! k8sha's SSH client against OpenSSH.

use std::fs;
use std::process::Command as Program;
use std::time::Duration;

use k8sha::ssh::{Command, Error, HostKey, Identity, KeyPair, Remote};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use crate::needs;
use crate::sshd::{ASKED, KEEN, Setup, Sshd};

const PROGRAMS: &[&str] = &["sshd", "ssh-keygen", "sudo", "unshare", "setpriv"];

/// Longer than anything here takes.
pub const LIMIT: Duration = Duration::from_secs(30);

/// sshd's log line of each login.
pub const ATTEMPT: &str = "userauth-request for user";

pub fn shell(script: &str) -> Command {
    Command::new("sh").args(["-c", script])
}

#[tokio::test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
async fn a_command_gives_its_status_and_both_outputs() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let sshd = Sshd::start();
    let remote = sshd.remote(KEEN);
    assert_eq!(remote.run_ok(&Command::new("whoami")).await.unwrap().stdout_text(), "keen\n");
    assert!(sshd.log().contains(ATTEMPT), "the mark of an attempt is another: {}", sshd.log());
    for code in [0, 1, 7, 255] {
        let output = remote.run(&shell(&format!("exit {code}"))).await.unwrap();
        assert_eq!((output.code, output.stdout.len(), output.stderr.len()), (code, 0, 0));
    }
    let output = remote.run(&shell("echo out; echo err >&2; exit 3")).await.unwrap();
    let told = (output.code, output.stdout_text(), output.stderr_text());
    assert_eq!(told, (3, "out\n".into(), "err\n".into()));
    let output = remote.run(&shell("kill -9 $$")).await.unwrap();
    assert!(output.code >= 128, "{output:?}");
    let error = remote.run_ok(&Command::new("kubeadm-of-nobody")).await.unwrap_err();
    assert!(matches!(error, Error::Failed { code: 127, .. }), "{error}");
    assert!(error.to_string().contains("not found"), "{error}");
    assert!(error.hint().unwrap().contains("cloud-init did not finish"));
}

#[tokio::test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
async fn another_host_key_is_refused_at_first_contact_and_nothing_is_sent() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let sshd = Sshd::start();
    let mut target = sshd.target(KEEN);
    target.host_key = HostKey::parse(&KeyPair::generate("ours").unwrap().public).unwrap();
    let error = Remote::new(target).run(&Command::new("id")).await.unwrap_err();
    let Error::HostKey { seen, .. } = &error else { panic!("{error}") };
    assert_eq!(*seen, HostKey::parse(&sshd.host.public).unwrap().fingerprint());
    sshd.wait_for_a_stranger_to_leave();
    assert!(!sshd.log().contains(ATTEMPT), "{}", sshd.log());
    assert!(!error.is_transient());
}

#[tokio::test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
async fn a_server_without_an_ed25519_host_key_is_refused() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let mut make = Program::new("ssh-keygen");
    assert!(
        make.args(["-q", "-t", "ecdsa", "-N", "", "-f"]).arg(&path).status().unwrap().success()
    );
    let sshd = Setup::new().host_file(&fs::read_to_string(&path).unwrap()).start();
    let error = sshd.remote(KEEN).run(&Command::new("id")).await.unwrap_err();
    let Error::HostKey { seen, .. } = &error else { panic!("{error}") };
    assert!(seen.starts_with("no ed25519 key, but ecdsa-sha2-nistp256"), "{seen}");
    assert!(!sshd.log().contains(ATTEMPT), "{}", sshd.log());
}

#[tokio::test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
async fn another_login_key_or_user_is_refused() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let sshd = Sshd::start();
    let mut wrong_key = sshd.target(KEEN);
    let other = KeyPair::generate("other").unwrap().private;
    wrong_key.keys = Identity::from_openssh(&other).unwrap().into();
    for target in [wrong_key, sshd.target("nobody-has-this-name")] {
        let user = target.user.clone();
        let error = Remote::new(target).run(&Command::new("id")).await.unwrap_err();
        assert!(matches!(error, Error::AuthRefused { .. }), "{error}");
        assert!(error.to_string().contains(&user), "{error}");
    }
}

#[tokio::test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
async fn three_megabytes_become_a_file_that_only_root_can_read() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let sshd = Sshd::start();
    let remote = sshd.remote(KEEN);
    let body: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    let path = "/run/new/folder/body";
    let write = Command::sudo("install")
        .args(["-D", "-m", "0600", "-o", "root", "-g", "root", "/dev/stdin", path])
        .stdin(body.clone());
    remote.run_ok(&write).await.unwrap();
    let sum: String = Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
    let output = remote.run_ok(&Command::sudo("sha256sum").arg(path)).await.unwrap();
    assert_eq!(output.stdout_text(), format!("{sum}  {path}\n"));
    let stat = Command::sudo("stat").args(["-c", "%a %U %G", path]);
    assert_eq!(remote.run_ok(&stat).await.unwrap().stdout_text(), "600 root root\n");
    assert!(!remote.run(&Command::new("cat").arg(path)).await.unwrap().success());
    // And back, byte for byte: the file that is read back is compared with the one that was written.
    let back = remote.run_ok(&Command::sudo("cat").arg(path).prints(4 << 20)).await.unwrap();
    assert!(back.stdout == body);
}

#[tokio::test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
async fn a_session_killed_in_the_middle_of_a_command_is_a_loss_and_never_a_success() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let sshd = Sshd::start();
    let (victim, witness) = (sshd.remote(KEEN), sshd.remote(KEEN));
    let work = shell("echo $$ > /run/home/pid; exec sleep 600");
    let running = tokio::spawn({
        let victim = victim.clone();
        async move { victim.run(&work).await }
    });
    let pid = timeout(LIMIT, async {
        loop {
            let output = witness.run(&Command::new("cat").arg("/run/home/pid")).await.unwrap();
            if output.stdout_text().ends_with('\n') {
                break output.stdout_text().trim().to_owned();
            }
        }
    });
    let pid = pid.await.unwrap();
    let session = session_of(&witness, pid).await;
    witness.run_ok(&Command::sudo("sh").args(["-c", "kill -9 $0", &session])).await.unwrap();
    let ended = timeout(LIMIT, running).await.unwrap().unwrap();
    let error = ended.unwrap_err();
    assert!(matches!(error, Error::Lost { .. }), "{error}");
    assert!(error.is_transient());
    // The next command opens a new connection by itself.
    assert_eq!(victim.run_ok(&Command::new("whoami")).await.unwrap().stdout_text(), "keen\n");
}

/// The process of sshd that serves the session of this process.
async fn session_of(remote: &Remote, mut pid: String) -> String {
    for _ in 0..10 {
        let status = Command::new("cat").arg(format!("/proc/{pid}/status"));
        let status = remote.run_ok(&status).await.unwrap().stdout_text();
        let field = |name: &str| {
            status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
        };
        if field("Name:").starts_with("sshd") {
            return pid;
        }
        pid = field("PPid:");
    }
    panic!("no sshd above the command");
}

#[tokio::test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
async fn a_server_that_stops_is_a_loss_too_and_then_unreachable() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let mut sshd = Sshd::start();
    let remote = sshd.remote(KEEN);
    let running = tokio::spawn({
        let remote = remote.clone();
        async move { remote.run(&shell("echo $$ > /run/home/pid; exec sleep 600")).await }
    });
    let begun = timeout(LIMIT, async {
        let test = Command::new("test").args(["-s", "/run/home/pid"]);
        while !remote.run(&test).await.unwrap().success() {}
    });
    begun.await.unwrap();
    sshd.kill();
    let error = timeout(LIMIT, running).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, Error::Lost { .. }), "{error}");
    let error = remote.run(&Command::new("id")).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
}

#[tokio::test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
async fn twelve_commands_at_once_fit_into_ten_sessions_of_one_connection() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let sshd = Sshd::start();
    let remote = sshd.remote(KEEN);
    // Concurrent commands do not end before they were seen together.
    let work = "mkdir -p /run/home/$0; ls /run/home | wc -l; sleep 0.5";
    let runs: Vec<_> = (0..12)
        .map(|i| {
            let (remote, command) = (remote.clone(), shell(work).arg(format!("c{i}")));
            tokio::spawn(async move { remote.run_ok(&command).await })
        })
        .collect();
    let mut together = 0;
    for run in runs {
        let count: u32 = run.await.unwrap().unwrap().stdout_text().trim().parse().unwrap();
        together = together.max(count);
    }
    assert!(together > 1, "one after the other");
    let log = sshd.log();
    assert_eq!(log.matches("Accepted publickey").count(), 1, "{log}");
    // Everything that the server refused temporarily was requested again, and nothing ran twice.
    assert_eq!(log.matches("Starting session: command").count(), 12, "{log}");
}

#[tokio::test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
async fn a_server_with_one_session_is_waited_for_and_finally_reported_as_refusing() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let sshd = Setup::new().config("MaxSessions 1\n").start();
    let (remote, other) = (sshd.remote(KEEN), sshd.remote(KEEN));
    for _ in 0..20 {
        remote.run_ok(&Command::new("true")).await.unwrap();
    }
    let long = tokio::spawn({
        let wait = "touch /run/home/begun; while ! test -e /run/home/end; do sleep 0.05; done";
        let (remote, command) = (remote.clone(), shell(wait));
        async move { remote.run_ok(&command).await }
    });
    let begun = timeout(LIMIT, async {
        let test = Command::new("test").args(["-e", "/run/home/begun"]);
        while !other.run(&test).await.unwrap().success() {}
    });
    begun.await.unwrap();
    let error = remote.run(&Command::new("true")).await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    other.run_ok(&Command::new("touch").arg("/run/home/end")).await.unwrap();
    timeout(LIMIT, long).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
async fn special_words_reach_the_program_unchanged_through_either_shell() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let words = [
        "a b",
        "",
        "it's",
        "\"double\"",
        "$HOME",
        "`id`",
        "$(id)",
        "*",
        "~",
        "a;b",
        "a&&b",
        "a|b",
        "<in",
        ">out",
        "#no",
        "!history",
        "{a,b}",
        "[a]",
        "new\nline",
        "tab\there",
        "back\\slash",
        "ümlaut",
        "-n",
        "--",
        "=",
        "a=b",
    ];
    let sshd = Sshd::start();
    for user in [KEEN, ASKED] {
        let print = Command::new("printf").arg("%s\\0").args(words);
        let output = sshd.remote(user).run_ok(&print).await.unwrap();
        let text = output.stdout_text();
        let seen: Vec<&str> = text.split_terminator('\0').collect();
        assert_eq!(seen, words, "{user}");
    }
    let print = Command::sudo("printf").arg("%s\\0").args(words);
    let text = sshd.remote(KEEN).run_ok(&print).await.unwrap().stdout_text();
    assert_eq!(text.split_terminator('\0').collect::<Vec<_>>(), words, "sudo");
}

#[tokio::test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
async fn sudo_gives_root_or_a_clear_error() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let sshd = Sshd::start();
    let who = sshd.remote(KEEN).run_ok(&Command::sudo("whoami")).await.unwrap();
    assert_eq!(who.stdout_text(), "root\n");
    // The exit status is the program's, not sudo's own.
    let output = sshd.remote(KEEN).run(&Command::sudo("test").args(["-e", "/none"])).await.unwrap();
    assert_eq!(output.code, 1);
    let error = sshd.remote(ASKED).run_ok(&Command::sudo("true")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "`sudo -n -- true` on `k8s1master1` ended with exit status 1: \
         sudo: a password is required"
    );
    let hint = error.hint().unwrap();
    assert!(hint.contains("K8SHA_SUDO_PASSWORD") && hint.contains("NOPASSWD"), "{hint}");
}

#[tokio::test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
async fn hundreds_of_short_commands_do_not_exceed_the_session_limit() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let sshd = Sshd::start();
    let remote = sshd.remote(KEEN);
    let runs: Vec<_> = (0..300)
        .map(|_| {
            let remote = remote.clone();
            tokio::spawn(async move { remote.run_ok(&Command::new("true")).await })
        })
        .collect();
    let mut errors = Vec::new();
    for run in runs {
        errors.extend(run.await.unwrap().err().map(|error| error.to_string()));
    }
    assert_eq!(errors, Vec::<String>::new());
}
