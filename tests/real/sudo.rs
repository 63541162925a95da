//! A sudo that asks for a password, and one that does not.

use k8sha::ssh::{Command, Error, Remote};

use crate::needs;
use crate::openssh::shell;
use crate::sshd::{ASKED, ASKED_PASSWORD, KEEN, Setup, Sshd};

const PROGRAMS: &[&str] = &["sshd", "sudo", "unshare", "setpriv"];

fn given(sshd: &Sshd, user: &str, password: &str) -> Remote {
    let mut target = sshd.target(user);
    target.sudo_password = Some(password.into());
    Remote::new(target)
}

#[tokio::test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
async fn sudo_gets_the_password_and_the_program_never_sees_it() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let sshd = Sshd::start();
    for user in [ASKED, KEEN] {
        let remote = given(&sshd, user, ASKED_PASSWORD);
        let who = remote.run_ok(&Command::sudo("whoami")).await.unwrap();
        assert_eq!((who.stdout_text().as_str(), who.stderr_text().as_str()), ("root\n", ""));
        // The program's input arrives complete, and nothing before it.
        let body: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        let echo = Command::sudo("cat").stdin(body.clone()).prints(4 << 20);
        let back = remote.run_ok(&echo).await.unwrap();
        assert!(back.stdout == body, "{user}: {} bytes came back", back.stdout.len());
        let nothing = remote.run_ok(&Command::sudo("cat")).await.unwrap();
        assert!(nothing.stdout.is_empty(), "{user}");
        // The exit status and the output are the program's.
        let words = ["a b", "it's", "", "$HOME", "new\nline", "-n", "--"];
        let print = Command::sudo("printf").arg("%s\\0").args(words);
        let text = remote.run_ok(&print).await.unwrap().stdout_text();
        assert_eq!(text.split_terminator('\0').collect::<Vec<_>>(), words, "{user}");
        let output = remote.run(&Command::sudo("sh").args(["-c", "exit 7"])).await.unwrap();
        assert_eq!((output.code, output.stderr_text().as_str()), (7, ""), "{user}");
        // Neither the processes nor their environment show it.
        let look = Command::sudo("sh")
            .args(["-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null; true"]);
        let seen = remote.run_ok(&look).await.unwrap().stdout_text();
        assert!(seen.contains("sudo") && !seen.contains(ASKED_PASSWORD), "{user}");
    }
    assert!(!sshd.log().contains(ASKED_PASSWORD));
}

#[tokio::test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
async fn each_of_several_concurrent_commands_gets_the_password() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let sshd = Sshd::start();
    let remote = given(&sshd, ASKED, ASKED_PASSWORD);
    let runs: Vec<_> = (0..12)
        .map(|i| {
            let (remote, text) = (remote.clone(), format!("c{i}"));
            tokio::spawn(async move {
                remote.run_ok(&Command::sudo("cat").stdin(text.into_bytes())).await
            })
        })
        .collect();
    for (i, run) in runs.into_iter().enumerate() {
        assert_eq!(run.await.unwrap().unwrap().stdout_text(), format!("c{i}"));
    }
}

#[tokio::test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
async fn a_wrong_password_is_tried_once_and_reported_without_being_shown() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let sshd = Sshd::start();
    let remote = given(&sshd, ASKED, "hush");
    for _ in 0..3 {
        let error = remote.run(&Command::sudo("cat").stdin("body")).await.unwrap_err();
        let Error::SudoPassword { said, .. } = &error else { panic!("{error}") };
        assert!(said.contains("incorrect password attempt"), "{said}");
        assert!(!error.to_string().contains("hush"), "{error}");
        assert!(error.hint().unwrap().contains("K8SHA_SUDO_PASSWORD"));
        assert!(!error.is_transient());
    }
    // Two checks of sudo, and none of the three commands.
    assert_eq!(sshd.log().matches("Starting session: command").count(), 2, "{}", sshd.log());
    // A command that does not need root does not wait.
    assert!(remote.run_ok(&Command::new("true")).await.is_ok());
}

#[tokio::test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
async fn a_user_without_sudo_rights_is_reported_with_sudos_message() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let sshd = Setup::new().sudoers("root ALL=(ALL:ALL) ALL\n").start();
    let error = given(&sshd, ASKED, ASKED_PASSWORD).run(&Command::sudo("true")).await.unwrap_err();
    let Error::SudoPassword { said, .. } = &error else { panic!("{error}") };
    assert!(said.contains("not in the sudoers file"), "{said}");
    assert_eq!(
        given(&sshd, ASKED, "").run_ok(&shell("echo here")).await.unwrap().stdout_text(),
        "here\n"
    );
}
