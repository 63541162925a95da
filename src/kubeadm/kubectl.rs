//! `kubectl` on the first master, as the administrator.

use serde_json::Value;

use super::error::Doing;
use super::{Error, path};
use crate::ssh::{Command, Output, Remote};

fn command(args: &[&str]) -> Command {
    Command::sudo("kubectl").args(["--kubeconfig", path::ADMIN]).args(args.iter().copied())
}

/// Runs it and says how it ended.
pub(super) async fn run(remote: &Remote, args: &[&str]) -> Result<Output, Error> {
    remote.run(&command(args)).await.doing("ask the API")
}

/// Its standard output, where it must go well.
pub(super) async fn text(remote: &Remote, args: &[&str]) -> Result<String, Error> {
    let output = remote.run_ok(&command(args)).await.doing("ask the API")?;
    Ok(output.stdout_text())
}

/// Its standard output as JSON, where it must go well.
pub(super) async fn json(remote: &Remote, args: &[&str]) -> Result<Value, Error> {
    parse(remote, args, &text(remote, args).await?)
}

/// The same, or `None` where the object does not exist.
pub(super) async fn json_if_there(remote: &Remote, args: &[&str]) -> Result<Option<Value>, Error> {
    let output = run(remote, args).await?;
    if !output.success() && output.stderr_text().contains("(NotFound)") {
        return Ok(None);
    }
    if !output.success() {
        return json(remote, args).await.map(Some);
    }
    parse(remote, args, &output.stdout_text()).map(Some)
}

fn parse(remote: &Remote, args: &[&str], text: &str) -> Result<Value, Error> {
    serde_json::from_str(text).map_err(|error| Error::Unread {
        what: format!("the answer to `kubectl {}`", args.join(" ")),
        node: remote.node().to_owned(),
        cause: error.to_string(),
    })
}
