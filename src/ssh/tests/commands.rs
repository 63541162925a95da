//! The client against a real SSH server in this process.

use std::time::Duration;

use crate::clock::Clock;
use crate::limits::ssh;
use crate::ssh::fake::{Fake, Reply};
use crate::ssh::{Command, Error, HostKey, Identity, KeyPair, Keys, Remote};

fn echo(line: &str, input: &[u8]) -> Reply {
    match line {
        "fail" => Reply::Done(7, b"half\n".to_vec(), "it broke abcdef.0123456789abcdef\n".into()),
        "drop" => Reply::Drop,
        "hang" => Reply::Hang,
        "cat" => Reply::out(input),
        line => Reply::out(line),
    }
}

#[tokio::test]
async fn a_command_gives_its_status_and_both_outputs() {
    let remote = Fake::start(echo).await.remote("n1");
    let output = remote.run(&Command::new("fail")).await.unwrap();
    assert_eq!((output.code, output.stdout_text().as_str()), (7, "half\n"));
    assert!(output.stderr_text().starts_with("it broke"));
    let output = remote.run_ok(&Command::new("echo").arg("a b")).await.unwrap();
    assert_eq!(output.stdout_text(), "echo 'a b'");
}

#[tokio::test]
async fn a_failure_tells_command_status_and_error_word_for_word_but_no_secret() {
    let remote = Fake::start(echo).await.remote("n1");
    let error = remote.run_ok(&Command::new("fail")).await.unwrap_err();
    assert_eq!(error.to_string(), "`fail` on `n1` ended with exit status 7: it broke [masked]");
}

#[tokio::test]
async fn another_host_key_is_refused_at_first_contact() {
    let fake = Fake::start(echo).await;
    let mut target = fake.target("n1");
    target.host_key = HostKey::parse(&KeyPair::generate("x").unwrap().public).unwrap();
    let wanted = target.host_key.fingerprint();
    let error = Remote::new(target).run(&Command::new("id")).await.unwrap_err();
    let Error::HostKey { expected, seen, .. } = &error else { panic!("{error}") };
    assert_eq!(*expected, wanted);
    assert_eq!(*seen, HostKey::parse(&fake.host.public).unwrap().fingerprint());
    assert!(fake.lines().is_empty(), "nothing may be sent to a stranger");
    assert!(!error.is_transient());
}

#[tokio::test]
async fn another_login_key_is_refused() {
    let fake = Fake::start(echo).await;
    let mut target = fake.target("n1");
    let other = KeyPair::generate("x").unwrap();
    target.keys = Keys::from(Identity::from_openssh(&other.private).unwrap());
    let error = Remote::new(target).run(&Command::new("id")).await.unwrap_err();
    let Error::AuthRefused { offered, .. } = &error else { panic!("{error}") };
    let print = HostKey::parse(&other.public).unwrap().fingerprint();
    assert_eq!(*offered, format!("k8sha's own key (ed25519 {print})"));
}

#[tokio::test]
async fn a_connection_lost_in_a_command_is_an_error_and_the_next_command_has_a_new_one() {
    let fake = Fake::start(echo).await;
    let remote = fake.remote("n1");
    let error = remote.run(&Command::new("drop")).await.unwrap_err();
    assert_eq!(error.to_string(), "the connection to `n1` was lost while `drop` ran");
    assert_eq!(remote.run(&Command::new("id")).await.unwrap().stdout_text(), "id");
    assert_eq!(fake.connections(), 2);
    let drops = fake.lines().iter().filter(|line| *line == "drop").count();
    assert_eq!(drops, 1, "what may have run is not sent twice");
}

#[tokio::test]
async fn three_megabytes_go_in_and_come_back() {
    let remote = Fake::start(echo).await.remote("n1");
    let body: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    let output =
        remote.run_ok(&Command::new("cat").stdin(body.clone()).prints(ssh::LIST)).await.unwrap();
    assert!(output.stdout == body);
}

#[tokio::test]
async fn commands_run_side_by_side_over_one_connection() {
    let fake = Fake::start(echo).await;
    let remote = fake.remote("n1");
    let runs: Vec<_> = (0..20)
        .map(|i| {
            let remote = remote.clone();
            tokio::spawn(async move { remote.run_ok(&Command::new(format!("c{i}"))).await })
        })
        .collect();
    for (i, run) in runs.into_iter().enumerate() {
        assert_eq!(run.await.unwrap().unwrap().stdout_text(), format!("c{i}"));
    }
    assert_eq!(fake.connections(), 1);
}

#[tokio::test]
async fn a_command_that_does_not_end_is_given_up_after_its_limit() {
    let remote = Fake::start(echo).await.remote("n1");
    let command = Command::new("hang").limit(Duration::from_millis(50));
    assert!(matches!(remote.run(&command).await, Err(Error::Timeout { .. })));
}

#[tokio::test]
async fn a_closed_port_is_unreachable_and_waiting_for_it_ends() {
    let mut target = Fake::start(echo).await.target("n1");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    target.address = free.local_addr().unwrap();
    drop(free);
    let remote = Remote::new(target);
    let error = remote
        .reach(Clock::simulated(1000.0).hurried(1000.0), Duration::from_secs(5))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(error.hint().unwrap().contains("console"));
}
