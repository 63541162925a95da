//! Work whose input and output pass through.

use std::ops::ControlFlow;

use russh::Sig;
use tokio::sync::mpsc;

use crate::report::screen::Stream;
use crate::ssh::fake::{Fake, Reply};
use crate::ssh::{Command, Ended, Error, HostKey, Input, KeyPair, Remote, Size, Terminal, Work};

fn script(line: &str, input: &[u8]) -> Reply {
    match line {
        "cat" | "shell" => Reply::Done(3, input.to_vec(), "to stderr\n".into()),
        "endless" => Reply::Flood { stdout: true },
        "huge" => Reply::Done(256, Vec::new(), String::new()),
        "killed" => Reply::Killed(Sig::TERM),
        "drop" => Reply::Drop,
        "nostatus" => Reply::NoStatus,
        line => Reply::out(line),
    }
}

fn terminal(kind: &str) -> Terminal {
    let size = Size { columns: 80, rows: 24 };
    Terminal { kind: kind.to_owned(), size, modes: vec![(3, 127), (53, 1), (200, 1)] }
}

/// Its end, and what it printed on each stream.
async fn attach(
    remote: &Remote,
    work: &Work,
    inputs: Vec<Input>,
) -> (Result<Ended, Error>, Vec<u8>, Vec<u8>) {
    let (sender, input) = mpsc::channel(1);
    tokio::spawn(async move {
        for input in inputs {
            sender.send(input).await.unwrap();
        }
    });
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut sink = |stream, bytes: &[u8]| {
        if stream == Stream::Out { &mut out } else { &mut err }.extend_from_slice(bytes);
        if out.len() > 1 << 22 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let ended = remote.attach(work, input, &mut sink).await;
    (ended, out, err)
}

fn command(words: &[&str]) -> Work {
    Work::Command(Command::new(words[0]).args(words[1..].iter().copied()), None)
}

#[tokio::test]
async fn input_its_end_both_outputs_and_the_status_pass_through_unchanged() {
    let remote = Fake::start(script).await.remote("n1");
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let inputs = bytes.chunks(7_000).map(|chunk| Input::Bytes(chunk.to_vec())).collect();
    let (ended, out, err) = attach(&remote, &command(&["cat"]), inputs).await;
    assert_eq!(ended.unwrap(), Ended::Exit(3));
    assert!(out == bytes && err == b"to stderr\n");
}

#[tokio::test]
async fn each_argument_is_one_word() {
    let remote = Fake::start(script).await.remote("n1");
    let (_, out, _) = attach(&remote, &command(&["echo", "a b", "$HOME", "it's"]), vec![]).await;
    assert_eq!(String::from_utf8(out).unwrap(), r"echo 'a b' '$HOME' 'it'\''s'");
}

#[tokio::test]
async fn a_shell_gets_the_terminal_and_its_sizes() {
    let fake = Fake::start(script).await;
    let resized = Input::Resized(Size { columns: 132, rows: 50 });
    let work = Work::Shell(Some(terminal("xterm")));
    let (ended, out, _) =
        attach(&fake.remote("n1"), &work, vec![resized, Input::Bytes(b"ls\r".into())]).await;
    assert_eq!((ended.unwrap(), out), (Ended::Exit(3), b"ls\r".to_vec()));
    assert_eq!(fake.lines(), ["terminal xterm 80x24", "size 132x50", "shell"]);
}

#[tokio::test]
async fn nothing_runs_without_the_terminal_that_was_asked_for() {
    let fake = Fake::start(script).await;
    let work = Work::Command(Command::new("cat"), Some(terminal("refused")));
    let (ended, ..) = attach(&fake.remote("n1"), &work, vec![]).await;
    let error = ended.unwrap_err();
    assert!(error.to_string().contains("the request for a terminal failed"), "{error}");
    assert_eq!(fake.lines(), ["terminal refused 80x24"]);
}

#[tokio::test]
async fn no_end_passes_for_another() {
    let remote = Fake::start(script).await.remote("n1");
    let end = async |line: &str| attach(&remote, &command(&[line]), vec![]).await.0;
    assert_eq!(end("endless").await.unwrap(), Ended::BrokenOff);
    assert_eq!(end("killed").await.unwrap().code(), Some(128 + 15));
    assert_eq!(end("huge").await.unwrap().code(), Some(255), "never 0");
    assert!(matches!(end("nostatus").await, Err(Error::NoStatus { .. })));
    assert!(matches!(end("drop").await, Err(Error::Lost { .. })));
}

#[tokio::test]
async fn another_host_key_gets_no_input() {
    let fake = Fake::start(script).await;
    let mut target = fake.target("n1");
    target.host_key = HostKey::parse(&KeyPair::generate("x").unwrap().public).unwrap();
    let inputs = vec![Input::Bytes(b"hush".into())];
    let (ended, ..) = attach(&Remote::new(target), &command(&["cat"]), inputs).await;
    assert!(matches!(ended, Err(Error::HostKey { .. })));
    assert!(fake.lines().is_empty());
}
