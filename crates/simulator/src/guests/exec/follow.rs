//! Logs that are followed: `journalctl -f`, `tail -F`, `crictl logs --follow`.

use super::shell;

/// A command that prints a log and does not end.
pub struct Follow {
    /// The command that prints the last lines and ends.
    pub first: String,
    /// The command that prints all of the log.
    pub all: String,
}

impl Follow {
    /// The command of a line, if it is one of these.
    pub fn of(line: &str) -> Option<Self> {
        let mut words = shell::split(line).ok()?;
        let program = words.iter().find(|word| !matches!(word.as_str(), "sudo" | "-n" | "--"))?;
        let (flag, count, every) = match program.as_str() {
            "journalctl" => ("-f", "-n", "all"),
            "tail" => ("-F", "-n", "+1"),
            "crictl" => ("--follow", "--tail", "all"),
            _ => return None,
        };
        let at = words.iter().position(|word| word == flag)?;
        words.remove(at);
        let first = joined(&words);
        // The last one: `sudo` has an `-n` too.
        let at = words.iter().rposition(|word| word == count)?;
        every.clone_into(words.get_mut(at + 1)?);
        Some(Self { first, all: joined(&words) })
    }
}

fn joined(words: &[String]) -> String {
    let quoted = words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''")));
    quoted.collect::<Vec<_>>().join(" ")
}

/// The part of a log that is new; all of it if the log was restarted.
pub fn more<'a>(before: &str, now: &'a str) -> &'a str {
    now.strip_prefix(before).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guests::testing::Bench;

    #[test]
    fn a_log_that_is_followed_is_read_whole_behind_its_last_lines() {
        let follow = Follow::of("sudo -n -- journalctl -u kubelet -n 5 --no-pager -f").unwrap();
        assert!(follow.first.ends_with("'-u' 'kubelet' '-n' '5' '--no-pager'"), "{}", follow.first);
        assert!(follow.all.ends_with("'-n' 'all' '--no-pager'"), "{}", follow.all);
        assert!(Follow::of("sudo -n -- journalctl -u kubelet -n 5").is_none());
        assert!(Follow::of("rm -f x").is_none());
        assert_eq!((more("a\n", "a\nb\n"), more("a\n", "c\n")), ("b\n", "c\n"));
    }

    #[test]
    fn what_the_guests_do_not_know_of_a_program_fails() {
        let mut bench = Bench::new(false);
        bench.boot("m1", "");
        bench.pass(60.0);
        assert_eq!(bench.ok("m1", "printf '%s-%%\\n' 'a b' c"), "a b-%\nc-%\n");
        assert_eq!(bench.ok("m1", "echo 'a  b' c"), "a  b c\n");
        for line in [
            "printf %d 1",
            "echo -e x",
            "sudo -n -- journalctl -k",
            "sudo -n -- journalctl -u ssh --since today",
            "sudo -n -- tail -c 5 /etc/hostname",
            "sudo -n -- crictl images",
            "sudo -n -- crictl logs --tail 5 0123",
            "crictl ps -a --latest --quiet --name '^etcd$'",
        ] {
            let ran = bench.run("m1", line);
            assert!(ran.code != 0 && ran.stdout.is_empty() && !ran.stderr.is_empty(), "{line}");
        }
        let newest = "sudo -n -- crictl ps -a --latest --quiet --name '^etcd$'";
        assert_eq!(bench.ok("m1", newest), "", "no etcd was started here");
    }
}
