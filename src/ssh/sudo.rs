//! Runs sudo with a password, passed on standard input.
//!
//! `sudo -S` reads a password only if it needs one: rules may require it for one program and not
//! for another. A password that sudo does not read would go to the program. So a small shell runs
//! in between: it skips everything up to a line that k8sha sends after the password, and then
//! executes the program, whose input follows. The password is in no argument, variable or file.

use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::OnceCell;

use super::command::quote;
use super::session::{Session, Trouble};
use super::{Command, Error};

/// The line after the password.
const MARK: &str = "k8sha: the input begins";

/// Executes the program after the marker was read.
const SHELL: &str = "while IFS= read -r line; do \
                     if [ \"$line\" = \"$0\" ]; then exec \"$@\"; fi; done; \
                     echo 'k8sha: no input came through sudo' >&2; exit 125";

/// What the sudo of one node requires.
pub(super) struct Sudo {
    user: String,
    password: SecretString,
    habit: OnceCell<Habit>,
}

/// Determined once per connection.
enum Habit {
    /// It asks for nothing.
    Free,
    /// It accepts the password.
    Asks,
    /// It rejects the password. Asking again could lock the account.
    Refuses(String),
}

impl Sudo {
    pub(super) fn new(user: String, password: SecretString) -> Self {
        Self { user, password, habit: OnceCell::new() }
    }

    /// The line and the input with which a command runs as root.
    pub(super) async fn form(
        &self,
        session: &Session,
        command: &Command,
        words: &[String],
    ) -> Result<(String, Vec<u8>), Trouble> {
        match self.habit.get_or_try_init(|| self.find_out(session, command)).await? {
            Habit::Free => Ok((command.line(), command.input().to_vec())),
            Habit::Asks => Ok((line(words), self.input(command.input()))),
            Habit::Refuses(said) => Err(Trouble::Error(Error::SudoPassword {
                node: session.node().to_owned(),
                user: self.user.clone(),
                said: said.clone(),
            })),
        }
    }

    async fn find_out(&self, session: &Session, command: &Command) -> Result<Habit, Trouble> {
        // `-k`: sudo's cached credentials prove nothing about the next login.
        if session.exec(command, "sudo -k -n -- true", b"").await?.success() {
            return Ok(Habit::Free);
        }
        // With the password only: any further input would be used for the next attempt.
        let mut password = self.password.expose_secret().as_bytes().to_vec();
        password.push(b'\n');
        let output = session.exec(command, "sudo -k -S -p '' -- true", &password).await?;
        if output.success() {
            return Ok(Habit::Asks);
        }
        let said = output.stderr_text();
        let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        Ok(Habit::Refuses(said.join("; ")))
    }

    fn input(&self, own: &[u8]) -> Vec<u8> {
        let password = self.password.expose_secret().as_bytes();
        [password, b"\n", MARK.as_bytes(), b"\n", own].concat()
    }
}

fn line(words: &[String]) -> String {
    let own: Vec<String> = words.iter().map(|word| quote(word)).collect();
    format!("sudo -k -S -p '' -- sh -c {} {} {}", quote(SHELL), quote(MARK), own.join(" "))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command as Program, Stdio};

    use super::*;

    /// How the shell in between transforms the input, without sudo before it.
    fn through(input: &[u8]) -> (Option<i32>, Vec<u8>) {
        let line = line(&["cat".to_owned(), "-".to_owned()]);
        let line = line.strip_prefix("sudo -k -S -p '' -- ").unwrap();
        let mut child = Program::new("sh")
            .args(["-c", line])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code(), output.stdout)
    }

    #[test]
    fn the_program_gets_its_input_and_never_the_password() {
        let sudo = Sudo::new("u".to_owned(), "hush".into());
        let body = b"one\n\\two\n\0three".to_vec();
        let whole = sudo.input(&body);
        assert_eq!(through(&whole), (Some(0), body.clone()), "sudo read nothing");
        assert_eq!(through(&whole[5..]), (Some(0), body), "sudo read the password");
        assert_eq!(through(b"hush\n"), (Some(125), Vec::new()), "the rest never came");
    }

    #[test]
    fn the_line_holds_no_password() {
        assert!(!line(&["true".to_owned()]).contains("hush"));
    }
}
