//! Checks whether an API server answers at an address, from a node. Nothing secret is sent, so its
//! certificate is not verified: the question is only whether anything answers there.

use std::net::IpAddr;

use super::Error;
use super::error::Doing;
use crate::ssh::{Command, Remote};

/// The answer at an address's `/readyz`: `Ok` if anything answers in TLS, even with a refusal.
///
/// # Errors
/// If the node cannot be queried.
pub async fn readyz(from: &Remote, to: IpAddr, port: u16) -> Result<Result<String, String>, Error> {
    let url = format!("https://{to}:{port}/readyz");
    let command = Command::new("curl").args(["-sS", "-k", "--max-time", "5"]).arg(url.clone());
    let output = from.run(&command).await.doing(format!("ask {url}"))?;
    let said = if output.success() { output.stdout_text() } else { output.stderr_text() };
    let said = failing(&said);
    Ok(if output.success() { Ok(said) } else { Err(said) })
}

/// The failed checks in the list that an API server prints if it is not ready; otherwise the first
/// line.
fn failing(said: &str) -> String {
    let wrong: Vec<&str> = said.lines().filter(|line| line.starts_with("[-]")).collect();
    match wrong.as_slice() {
        [] => said.trim().lines().next().unwrap_or("an empty answer").to_owned(),
        wrong => wrong.join("; "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_checks_those_that_fail_are_told() {
        let list = "[+]ping ok\n[-]etcd failed: reason withheld\n[+]log ok\nreadyz check failed";
        assert_eq!(failing(list), "[-]etcd failed: reason withheld");
        assert_eq!(failing("ok\n"), "ok");
        assert_eq!(failing(""), "an empty answer");
    }
}
