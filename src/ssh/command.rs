//! A command as a list of words, and the only code that turns it into a line for a shell.

use std::fmt;
use std::time::Duration;

use crate::limits::ssh;
use crate::secrets::forms::mask;

/// How sudo is called, unless it wants a password.
const SUDO: [&str; 2] = ["-n", "--"];

/// One command: a program, its arguments, its standard input.
///
/// Arguments may be shown to the user; secrets belong on standard input.
#[derive(Clone)]
pub struct Command {
    words: Vec<String>,
    stdin: Vec<u8>,
    limit: Duration,
    stdout: usize,
    root: bool,
}

impl Command {
    /// A command without arguments.
    pub fn new(program: impl Into<String>) -> Self {
        Self {
            words: vec![program.into()],
            stdin: Vec::new(),
            limit: ssh::COMMAND,
            stdout: ssh::STDOUT,
            root: false,
        }
    }

    /// A command as root, by a `sudo` that does not ask for a password; if it would, and k8sha has
    /// the password, sudo is called in another way (see `sudo.rs`).
    pub fn sudo(program: impl Into<String>) -> Self {
        let command = Self::new("sudo").args(SUDO).arg(program);
        Self { root: true, ..command }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, word: impl Into<String>) -> Self {
        self.words.push(word.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: Into<String>>(mut self, words: I) -> Self {
        self.words.extend(words.into_iter().map(Into::into));
        self
    }

    /// The command's standard input, which ends after it.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// How long the command may take, in real time; [`ssh::COMMAND`] by default.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// How many bytes the command may print on standard output; [`ssh::STDOUT`] by default.
    #[must_use]
    pub fn prints(self, stdout: usize) -> Self {
        Self { stdout, ..self }
    }

    /// The line for the node's login shell.
    pub fn line(&self) -> String {
        self.words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
    }

    /// The words after `sudo -n --`, if the command runs as root.
    pub(super) fn as_root(&self) -> Option<&[String]> {
        self.root.then(|| self.words.get(1 + SUDO.len()..).unwrap_or_default())
    }

    pub(super) fn input(&self) -> &[u8] {
        &self.stdin
    }

    pub(super) fn longest(&self) -> Duration {
        self.limit
    }

    pub(super) fn most(&self) -> usize {
        self.stdout
    }
}

impl fmt::Display for Command {
    /// The command line, with whatever looks like a secret masked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask(&self.line()))
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({self}, {} bytes of input)", self.stdin.len())
    }
}

/// Quotes a word for a POSIX shell (XCU §2.2).
pub fn quote(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The result of a command.
#[derive(Clone, PartialEq, Eq)]
pub struct Output {
    /// The exit status; 128 and more for a death by signal.
    pub code: u32,
    /// Standard output. May contain secrets.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Whether the exit status is 0.
    pub fn success(&self) -> bool {
        self.code == 0
    }

    /// Standard output as text.
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

impl fmt::Debug for Output {
    /// The sizes only: a command such as `cat` prints secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("code", &self.code)
            .field("stdout", &self.stdout.len())
            .field("stderr", &self.stderr_text())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_only_where_a_shell_would_touch_them() {
        for (word, want) in [
            ("kubeadm", "kubeadm"),
            ("--node-name=a.b", "--node-name=a.b"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("$(reboot)", "'$(reboot)'"),
            ("a;b", "'a;b'"),
            ("~", "'~'"),
            (r#"{"key":"eA=="}"#, r#"'{"key":"eA=="}'"#),
        ] {
            assert_eq!(quote(word), want);
        }
    }

    #[test]
    fn a_quoted_line_is_what_a_real_shell_takes_apart_again() {
        let words = ["a b", "it's", "", "$HOME", "*", "new\nline", "back\\slash", "\"double\""];
        let line = Command::new("printf").arg("%s\\0").args(words).line();
        let printed = std::process::Command::new("sh").arg("-c").arg(line).output().unwrap().stdout;
        let seen: Vec<&[u8]> = printed.split(|b| *b == 0).collect();
        let want: Vec<&[u8]> = words.iter().map(|w| w.as_bytes()).chain([&b""[..]]).collect();
        assert_eq!(seen, want);
    }

    #[test]
    fn root_is_reached_by_a_sudo_that_does_not_ask() {
        assert_eq!(Command::sudo("rm").args(["-f", "/a b"]).line(), "sudo -n -- rm -f '/a b'");
    }

    #[test]
    fn neither_form_of_a_command_shows_what_it_reads_or_a_token() {
        let command = Command::new("x").arg("abcdef.0123456789abcdef").stdin("hush");
        let shown = format!("{command} {command:?}");
        assert!(!shown.contains("hush") && !shown.contains("0123456789abcdef"), "{shown}");
    }
}
