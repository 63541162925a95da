//! Servers that send too much, too slowly, or nothing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use crate::clock::Clock;
use crate::limits::ssh;
use crate::ssh::fake::{Fake, Reply};
use crate::ssh::{Command, Error, Remote};

fn wild(line: &str, _: &[u8]) -> Reply {
    match line {
        "flood" => Reply::Flood { stdout: true },
        "stderr" => Reply::Flood { stdout: false },
        "trickle" => Reply::Trickle,
        "hang" => Reply::Hang,
        "no-status" => Reply::NoStatus,
        line => Reply::out(line),
    }
}

#[tokio::test]
async fn a_flood_ends_at_its_limit_and_so_does_the_connection() {
    let fake = Fake::start(wild).await;
    let remote = fake.remote("n1");
    for (command, said) in [
        ("flood", "`flood` on `n1` printed more than 1 MiB on standard output"),
        ("stderr", "`stderr` on `n1` printed more than 256 KiB on standard error"),
    ] {
        let error = remote.run(&Command::new(command)).await.unwrap_err();
        assert!(error.to_string().starts_with(said), "{error}");
        assert!(!error.is_transient(), "another try would meet the same flood");
        assert!(error.hint().unwrap().contains("on the console of `n1`"));
    }
    // The server notices when it next reads or writes.
    let began = Instant::now();
    while fake.open() > 0 {
        assert!(began.elapsed() < Duration::from_secs(30), "a connection still floods");
        tokio::task::yield_now().await;
    }
    assert_eq!(remote.run(&Command::new("id")).await.unwrap().stdout_text(), "id");
    assert_eq!(fake.connections(), 3);
}

#[tokio::test]
async fn a_command_may_be_given_more_room() {
    let fake = Fake::start(|_, _| Reply::out(vec![b'x'; ssh::STDOUT + 1])).await;
    let remote = fake.remote("n1");
    assert!(matches!(remote.run(&Command::new("ls")).await, Err(Error::TooMuch { .. })));
    let more = Command::new("ls").prints(ssh::LIST);
    assert_eq!(remote.run(&more).await.unwrap().stdout.len(), ssh::STDOUT + 1);
}

#[tokio::test]
async fn what_dawdles_is_ended_by_the_whole_time_that_it_takes() {
    let fake = Fake::start(wild).await;
    let remote = fake.remote("n1");
    for name in ["trickle", "hang"] {
        let command = Command::new(name).limit(Duration::from_millis(60));
        // The first command opens the connection, which has a limit of its own.
        remote.run(&Command::new("id")).await.unwrap();
        let error = remote.run(&command).await.unwrap_err();
        assert_eq!(error.to_string(), format!("`{name}` on `n1` did not end within 60 ms"));
    }
}

#[tokio::test]
async fn a_channel_without_an_exit_status_is_told_as_what_it_is() {
    let remote = Fake::start(wild).await.remote("n1");
    let error = remote.run(&Command::new("no-status")).await.unwrap_err();
    assert_eq!(error.to_string(), "`no-status` on `n1` ended without an exit status");
}

#[tokio::test]
async fn given_up_commands_leave_no_sessions_behind() {
    let fake = Fake::start(wild).await;
    let remote = fake.remote("n1");
    for _ in 0..20 {
        let command = Command::new("hang").limit(Duration::from_millis(5));
        assert!(matches!(remote.run(&command).await, Err(Error::Timeout { .. })));
    }
    assert_eq!(remote.run(&Command::new("id")).await.unwrap().stdout_text(), "id");
    assert_eq!(fake.connections(), 1);
}

/// A server that sends this repeatedly, and reads nothing.
async fn raw(greeting: &'static [u8], again: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut sent = stream.write_all(greeting).await;
                while sent.is_ok() && !again.is_empty() {
                    sent = stream.write_all(again).await;
                }
                std::future::pending::<()>().await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_greeting_without_end_is_no_ssh_server() {
    let fake = Fake::start(wild).await;
    let no_server = "this is not an SSH server";
    for (greeting, again, said) in [
        (&b"SSH-2.0-"[..], &b"xxxxxxxx"[..], no_server),
        (b"", b"welcome\r\n", no_server),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"<html>\r\n", no_server),
        (b"", b"", "connected, but the login timed out after 200 ms"),
        (b"SSH-2.0-x\r\n", b"", "connected, but the login timed out after 200 ms"),
    ] {
        let mut target = fake.target("n1");
        target.address = raw(greeting, again).await;
        target.clock = Clock::real().hurried(100.0);
        let error = Remote::new(target).run(&Command::new("id")).await.unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
}
