//! Updates the load balancers' configuration on machines that have booted: haproxy's lists every
//! master, and masters are added and removed.
//!
//! A file replaces the old one only if its program accepts it. The old one is kept next to it until
//! the program has read the new one: it is restored if that fails, and after an interruption it
//! shows the next run that the program may not have read the current file.

use std::collections::BTreeMap;
use std::time::Duration;

use super::error::Doing;
use super::unit::journal;
use super::{Error, files};
use crate::cause::cause;
use crate::clock::{Clock, Wait};
use crate::report::event;
use crate::ssh::{Command, Output, Remote};

/// The suffix of a file that its program has not checked yet.
const NEW: &str = ".k8sha-new";
/// The suffix of the previous file, until the new one has been read.
const BEFORE: &str = ".k8sha-before";
/// The pause between two checks.
const LOOK: Duration = Duration::from_secs(1);
/// How long a program may take to reload its configuration.
const LIMIT: Duration = Duration::from_secs(20);

/// The wanted state of a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where it is.
    pub path: String,
    /// Its content.
    pub content: String,
    /// Its permission bits, in octal digits.
    pub mode: String,
}

impl File {
    /// Its SHA-256 as hex digits.
    pub fn sha256(&self) -> String {
        files::sha256(self.content.as_bytes())
    }

    /// The program that reads it, by the name of its unit, and how it checks a file.
    ///
    /// # Errors
    /// If no program is known.
    pub fn reader(&self) -> Result<Reader, Error> {
        match self.path.as_str() {
            "/etc/haproxy/haproxy.cfg" => Ok(Reader { unit: "haproxy", check: &["-c", "-f"] }),
            "/etc/keepalived/keepalived.conf" => Ok(Reader {
                unit: "keepalived",
                check: &["--log-console", "--dont-fork", "--config-test", "-f"],
            }),
            path => Err(Error::Unread {
                what: format!("`{path}`"),
                node: "load balancers".to_owned(),
                cause: cause("neither haproxy nor keepalived reads it"),
            }),
        }
    }
}

/// A program that reads a configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reader {
    /// Its name, and its unit's.
    unit: &'static str,
    /// The arguments before a file that it is to check.
    check: &'static [&'static str],
}

/// The SHA-256 of those of the files that are in use.
///
/// # Errors
/// If the node cannot be queried.
pub async fn look(remote: &Remote, paths: &[&str]) -> Result<BTreeMap<String, String>, Error> {
    let before: Vec<String> = paths.iter().map(|path| format!("{path}{BEFORE}")).collect();
    let asked: Vec<&str> = paths.iter().copied().chain(before.iter().map(String::as_str)).collect();
    let mut found = files::hashes(remote, &asked).await?;
    for (path, before) in paths.iter().zip(&before) {
        if found.remove(before).is_some() {
            found.remove(*path);
        }
    }
    Ok(found)
}

/// Updates the files and reloads their programs; returns whether any file differed. A reload closes
/// no connection and moves no VIP.
///
/// # Errors
/// The error of a program for its new file, which is then not installed; or the refusal of the
/// node.
pub async fn update(remote: &Remote, files: &[File], clock: Clock) -> Result<bool, Error> {
    let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let found = look(remote, &paths).await?;
    let mut changed = false;
    for file in files.iter().filter(|file| found.get(&file.path) != Some(&file.sha256())) {
        put(remote, file, clock).await?;
        changed = true;
    }
    Ok(changed)
}

async fn put(remote: &Remote, file: &File, clock: Clock) -> Result<(), Error> {
    let Reader { unit, check } = file.reader()?;
    let path = &file.path;
    let (new, before) = (format!("{path}{NEW}"), format!("{path}{BEFORE}"));
    files::write_as(remote, &file.mode, &new, file.content.as_bytes()).await?;
    let check = Command::sudo(unit).args(check.iter().copied()).arg(&new);
    let judged = remote.run(&check).await.doing(format!("check `{new}`"))?;
    if !judged.success() {
        files::remove(remote, &new).await?;
        return Err(refused(remote, unit, words(&judged)));
    }
    let there = files::hashes(remote, &[path]).await?;
    match there.get(path) {
        // After an interruption, the file that the program has read is already next to it.
        Some(hash) if *hash == file.sha256() => {}
        Some(_) => files::copy(remote, path, &before).await?,
        None => {}
    }
    files::replace(remote, &new, path).await?;
    event::progress(format!("{unit} reads its new configuration"));
    if let Err(said) = reload(remote, unit, clock).await? {
        if files::exists(remote, &before).await? {
            files::replace(remote, &before, path).await?;
        } else {
            files::remove(remote, path).await?;
        }
        // It may not run even so; its first error counts.
        let _ = reload(remote, unit, clock).await?;
        return Err(refused(remote, unit, said));
    }
    files::remove(remote, &before).await
}

/// Reloads a program's configuration, or starts it if it does not run, and checks that it runs
/// then.
async fn reload(remote: &Remote, unit: &str, clock: Clock) -> Result<Result<(), String>, Error> {
    let doing = || format!("let `{unit}` read its configuration again");
    let mut wait = Wait::new(clock, LIMIT, LOOK)
        .telling(|state: &String| event::progress(format!("{unit} is {state}")));
    let command = Command::sudo("systemctl").args(["reload-or-restart", unit]);
    let output = remote.run(&command).await.doing(doing())?;
    if !output.success() {
        return Ok(Err(format!("{}\n{}", words(&output), journal(remote, unit).await)));
    }
    loop {
        let command = Command::new("systemctl").args(["is-active", unit]);
        let state = remote.run(&command).await.doing(doing())?.stdout_text();
        let state = state.trim().to_owned();
        let last = match state.as_str() {
            "active" => return Ok(Ok(())),
            "reloading" | "activating" => match wait.not_yet(state).await {
                Ok(()) => continue,
                Err(expired) => expired.seen,
            },
            _ => state,
        };
        return Ok(Err(format!("it is {last}\n{}", journal(remote, unit).await)));
    }
}

/// All output of a program.
fn words(output: &Output) -> String {
    format!("{}{}", output.stdout_text(), output.stderr_text()).trim_end().to_owned()
}

fn refused(remote: &Remote, unit: &str, said: String) -> Error {
    Error::Refused { node: remote.node().to_owned(), unit: unit.to_owned(), said }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubeadm::fake::{Files, Host};
    use crate::ssh::fake::Reply;

    const CFG: &str = "/etc/haproxy/haproxy.cfg";
    const CONF: &str = "/etc/keepalived/keepalived.conf";
    const SAID: &str = "[ALERT] config : parsing [/etc/haproxy/haproxy.cfg.k8sha-new:9] : unknown \
                        keyword 'sevrer' in 'backend' section";

    /// A load balancer whose haproxy rejects files with `sevrer` in them, and fails to read those
    /// with `unlucky`.
    async fn balancer() -> Host {
        let host = Host::start(|words, files: &Files| {
            let text = |path: &str| -> String {
                let files = files.lock().unwrap();
                files
                    .get(path)
                    .map(|body| String::from_utf8(body.clone()).unwrap())
                    .unwrap_or_default()
            };
            Some(match words {
                ["haproxy", "-c", "-f", path] if text(path).contains("sevrer") => {
                    Reply::code(1, format!("{SAID}\n"))
                }
                ["haproxy", "-c", "-f", _] | ["keepalived", .., "--config-test", "-f", _] => {
                    Reply::out("")
                }
                ["systemctl", "reload-or-restart", "haproxy"] if text(CFG).contains("unlucky") => {
                    Reply::code(1, "Job for haproxy.service failed.\n")
                }
                ["systemctl", "reload-or-restart", _] => Reply::out(""),
                ["systemctl", "is-active", _] => Reply::out("active\n"),
                ["journalctl", "-u", "haproxy", ..] => Reply::out("[ALERT] no luck\n"),
                _ => return None,
            })
        })
        .await;
        host.put(CFG, "server m1\n");
        host.put(CONF, "vrrp\n");
        host
    }

    fn wanted(haproxy: &str) -> [File; 2] {
        [(CFG, haproxy), (CONF, "vrrp\n")].map(|(path, content)| File {
            path: path.to_owned(),
            content: content.to_owned(),
            mode: "0644".to_owned(),
        })
    }

    async fn run(host: &Host, haproxy: &str) -> Result<bool, Error> {
        update(&host.remote("lb1"), &wanted(haproxy), Clock::simulated(1000.0).hurried(1000.0))
            .await
    }

    fn reloads(host: &Host) -> Vec<String> {
        let lines = host.fake.lines().into_iter();
        lines.filter(|line| line.contains("reload")).collect()
    }

    fn paths(host: &Host) -> Vec<String> {
        host.files.lock().unwrap().keys().cloned().collect()
    }

    #[tokio::test]
    async fn what_is_as_wanted_is_neither_written_nor_read_again() {
        let host = balancer().await;
        assert!(!run(&host, "server m1\n").await.unwrap());
        assert_eq!(host.fake.lines().len(), 1, "{:?}", host.fake.lines());
    }

    #[tokio::test]
    async fn the_file_that_differs_is_checked_put_in_place_and_read() {
        let host = balancer().await;
        assert!(run(&host, "server m1\nserver m2\n").await.unwrap());
        assert_eq!(host.text(CFG).unwrap(), "server m1\nserver m2\n");
        assert_eq!(reloads(&host), ["sudo -n -- systemctl reload-or-restart haproxy"]);
        assert_eq!(paths(&host), [CFG, CONF], "nothing is left beside them");
        let lines = host.fake.lines();
        let at = |word: &str| lines.iter().position(|line| line.contains(word)).unwrap();
        assert!(at("haproxy -c") < at(" mv ") && at(" mv ") < at("reload"), "{lines:#?}");
        assert!(!run(&host, "server m1\nserver m2\n").await.unwrap());
    }

    #[tokio::test]
    async fn a_file_that_haproxy_refuses_never_takes_the_old_ones_place() {
        let host = balancer().await;
        let error = run(&host, "sevrer m1\n").await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "`haproxy` on `lb1` rejected its new configuration and keeps the old one:\n{SAID}"
            )
        );
        assert!(error.hint().unwrap().contains("k8sha render lb1"));
        assert_eq!(host.text(CFG).unwrap(), "server m1\n");
        assert!(reloads(&host).is_empty());
        assert_eq!(paths(&host), [CFG, CONF]);
    }

    #[tokio::test]
    async fn after_a_reload_that_fails_the_old_file_is_back_and_read() {
        let host = balancer().await;
        let error = run(&host, "unlucky\n").await.unwrap_err().to_string();
        assert!(error.ends_with("Job for haproxy.service failed.\n[ALERT] no luck"), "{error}");
        assert_eq!(host.text(CFG).unwrap(), "server m1\n");
        assert_eq!((reloads(&host).len(), paths(&host)), (2, vec![CFG.into(), CONF.into()]));
    }

    #[tokio::test]
    async fn a_file_that_was_put_in_place_by_an_interrupted_run_is_read_by_the_next_one() {
        let host = balancer().await;
        host.put(CFG, "server m1\nserver m2\n");
        host.put(&format!("{CFG}{BEFORE}"), "server m1\n");
        let seen = look(&host.remote("lb1"), &[CFG, CONF]).await.unwrap();
        assert_eq!(seen.keys().collect::<Vec<_>>(), [CONF]);
        assert!(run(&host, "server m1\nserver m2\n").await.unwrap());
        assert_eq!((reloads(&host).len(), paths(&host)), (1, vec![CFG.into(), CONF.into()]));
    }
}
