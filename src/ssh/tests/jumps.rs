//! The client through a jump host, both servers in this process.

use std::time::Duration;

use crate::clock::Clock;
use crate::limits::ssh;
use crate::net::Dialer;
use crate::ssh::fake::{Fake, Reply};
use crate::ssh::{Command, Error, HostKey, Identity, KeyPair, Keys, Remote};

const LIMIT: Duration = Duration::from_secs(5);

async fn servers() -> (Fake, Fake) {
    let echo = |line: &str, input: &[u8]| match line {
        "cat" => Reply::out(input),
        "drop" => Reply::Drop,
        line => Reply::out(line),
    };
    (Fake::start(echo).await, Fake::start(echo).await)
}

fn behind(jump: &Fake, node: &Fake) -> Remote {
    let mut target = node.target("n1");
    target.dialer = Dialer::by(jump.jump().route());
    Remote::new(target)
}

#[tokio::test]
async fn all_nodes_share_one_connection_to_the_jump_host() {
    let (jump, node) = servers().await;
    let dialer = Dialer::by(jump.jump().route());
    let runs: Vec<_> = (0..6)
        .map(|i| {
            let mut target = node.target(&format!("n{i}"));
            target.dialer = dialer.clone();
            let remote = Remote::new(target);
            tokio::spawn(async move { remote.run_ok(&Command::new(format!("c{i}"))).await })
        })
        .collect();
    for (i, run) in runs.into_iter().enumerate() {
        assert_eq!(run.await.unwrap().unwrap().stdout_text(), format!("c{i}"));
    }
    assert_eq!((jump.connections(), jump.forwards(), node.connections()), (1, 6, 6));
    assert!(jump.lines().is_empty(), "the jump host runs nothing");
}

#[tokio::test]
async fn three_megabytes_go_through_and_come_back() {
    let (jump, node) = servers().await;
    let body: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    let output = behind(&jump, &node)
        .run_ok(&Command::new("cat").stdin(body.clone()).prints(ssh::LIST))
        .await;
    assert!(output.unwrap().stdout == body);
}

#[tokio::test]
async fn another_host_key_of_the_jump_host_ends_the_wait_and_the_node_is_never_asked() {
    let (jump, node) = servers().await;
    let mut way = jump.jump();
    let other = HostKey::parse(&KeyPair::generate("x").unwrap().public).unwrap();
    way.host_keys = other.clone().into();
    let mut target = node.target("n1");
    target.dialer = Dialer::by(way.route());
    let error = Remote::new(target).reach(Clock::real(), LIMIT).await.unwrap_err();
    let Error::Jump { cause, .. } = &error else { panic!("{error}") };
    assert!(cause.contains(&format!("expected {}, found SHA256:", other.fingerprint())), "{cause}");
    assert!(!error.is_transient());
    assert_eq!((jump.forwards(), node.connections()), (0, 0));
}

#[tokio::test]
async fn another_host_key_of_the_node_is_seen_through_the_jump_host() {
    let (jump, node) = servers().await;
    let mut target = node.target("n1");
    target.host_key = HostKey::parse(&KeyPair::generate("x").unwrap().public).unwrap();
    target.dialer = Dialer::by(jump.jump().route());
    let error = Remote::new(target).run(&Command::new("id")).await.unwrap_err();
    assert!(matches!(error, Error::HostKey { .. }), "{error}");
    assert!(node.lines().is_empty(), "nothing may be sent to a stranger");
}

#[tokio::test]
async fn keys_are_offered_in_their_order_and_the_refused_ones_are_told() {
    let (jump, node) = servers().await;
    let pairs: Vec<KeyPair> = (0..2).map(|_| KeyPair::generate("x").unwrap()).collect();
    let wrong = pairs.iter().enumerate().fold(Keys::none(), |keys, (nth, pair)| {
        keys.key(format!("key {nth}"), Identity::from_openssh(&pair.private).unwrap())
    });
    let mut way = jump.jump();
    way.keys = wrong.clone().agent("/nowhere/agent");
    let error = Dialer::by(way.route()).open().await.unwrap_err().downcast::<Error>().unwrap();
    let print = |pair: &KeyPair| HostKey::parse(&pair.public).unwrap().fingerprint();
    let told = format!(
        "it refuses user `ubuntu`: offered key 0 (ed25519 {}), key 1 (ed25519 {}), no key of the \
         ssh-agent at /nowhere/agent: ",
        print(&pairs[0]),
        print(&pairs[1])
    );
    assert!(error.to_string().contains(&told), "{error}");
    assert!(error.hint().unwrap().contains("--identity"), "{error:?}");

    let mut way = jump.jump();
    way.keys = wrong.key("the right one", jump.identity());
    let mut target = node.target("n1");
    target.dialer = Dialer::by(way.route());
    assert!(Remote::new(target).run_ok(&Command::new("id")).await.is_ok());
}

#[tokio::test]
async fn a_node_that_the_jump_host_does_not_reach_is_unreachable_and_the_way_stays_open() {
    let (jump, node) = servers().await;
    let mut target = node.target("n1");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    target.address = free.local_addr().unwrap();
    drop(free);
    target.dialer = Dialer::by(jump.jump().route());
    let remote = Remote::new(target);
    for asked in 1..=2 {
        let error = remote.run(&Command::new("id")).await.unwrap_err();
        let Error::Unreachable { cause, .. } = &error else { panic!("{error}") };
        assert!(cause.contains("cannot connect to 127.0.0.1:"), "{cause}");
        assert!(error.is_transient());
        assert_eq!((jump.forwards(), jump.connections()), (asked, 1));
    }
}

#[tokio::test]
async fn a_jump_host_that_is_not_there_is_told_to_all_who_wait_at_once() {
    let (jump, node) = servers().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut way = jump.jump();
    way.port = free.local_addr().unwrap().port();
    drop(free);
    let mut target = node.target("n1");
    target.dialer = Dialer::by(way.route());
    let error = Remote::new(target).run(&Command::new("id")).await.unwrap_err();
    assert!(matches!(error, Error::Jump { transient: true, .. }), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn a_command_lost_with_its_connection_through_the_jump_host_is_an_error() {
    let (jump, node) = servers().await;
    let remote = behind(&jump, &node);
    let error = remote.run(&Command::new("drop")).await.unwrap_err();
    assert!(matches!(error, Error::Lost { .. }), "{error}");
    assert_eq!(remote.run(&Command::new("id")).await.unwrap().stdout_text(), "id");
    assert_eq!(jump.connections(), 1);
}
