//! Runs `kubectl` on a master, as the administrator: through the VIP, as in `admin.conf`, or
//! against the master's own API server.

use std::time::Duration;

use serde_json::Value;

use super::error::Doing;
use super::{Error, path};
use crate::cause::cause;
use crate::limits::ssh;
use crate::ssh::{Command, Output, Remote};

/// How long applying may take, in real time: the node may have to download the manifests.
const APPLY: Duration = Duration::from_secs(3 * 60);

fn command(args: &[&str]) -> Command {
    let all = ["--kubeconfig", path::ADMIN].iter().chain(args).copied();
    Command::sudo("kubectl").args(all).prints(ssh::LIST)
}

/// The route to the API.
#[derive(Clone, Debug)]
pub struct Api {
    master: Remote,
    /// The master's own API server; `None` means the endpoint of `admin.conf`.
    direct: Option<String>,
}

impl Api {
    /// The route of every client: the API's name and the VIP.
    pub fn through_vip(master: &Remote) -> Self {
        Self { master: master.clone(), direct: None }
    }

    /// Directly to the master's own API server, whose certificate contains its address too: it
    /// works without a load balancer, and if the API's name resolves to another address.
    ///
    /// # Errors
    /// If the master cannot be queried.
    pub async fn direct(master: &Remote) -> Result<Self, Error> {
        let port = super::kubeconfig::port(master).await?;
        let url = format!("https://{}:{port}", master.address().ip());
        Ok(Self { master: master.clone(), direct: Some(url) })
    }

    /// The master.
    pub fn master(&self) -> &Remote {
        &self.master
    }

    fn args<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        let server = self.direct.iter().flat_map(|url| ["--server", url.as_str()]);
        args.iter().copied().chain(server).collect()
    }

    /// Standard output as JSON; the command must succeed.
    pub(super) async fn json(&self, args: &[&str]) -> Result<Value, Error> {
        json(&self.master, &self.args(args)).await
    }

    /// The same, or `None` if the object does not exist.
    pub(super) async fn json_if_there(&self, args: &[&str]) -> Result<Option<Value>, Error> {
        json_if_there(&self.master, &self.args(args)).await
    }
}

/// Runs it and returns its result.
pub(super) async fn run(remote: &Remote, args: &[&str]) -> Result<Output, Error> {
    remote.run(&command(args)).await.doing("ask the API")
}

/// Its standard output; the command must succeed.
pub(super) async fn text(remote: &Remote, args: &[&str]) -> Result<String, Error> {
    let output = remote.run_ok(&command(args)).await.doing("ask the API")?;
    Ok(output.stdout_text())
}

/// Its standard output as JSON; the command must succeed.
pub(super) async fn json(remote: &Remote, args: &[&str]) -> Result<Value, Error> {
    parse(remote, args, &text(remote, args).await?)
}

/// The same, or `None` if the object does not exist.
pub(super) async fn json_if_there(remote: &Remote, args: &[&str]) -> Result<Option<Value>, Error> {
    let output = run(remote, args).await?;
    let said = output.stderr_text();
    // kubectl prints the second message if the kind of the object is not defined yet.
    let absent = ["(NotFound)", "the server doesn't have a resource type"];
    if !output.success() && absent.iter().any(|words| said.contains(words)) {
        return Ok(None);
    }
    if !output.success() {
        return json(remote, args).await.map(Some);
    }
    parse(remote, args, &output.stdout_text()).map(Some)
}

/// Applies manifests; fields that belong to another field manager are not changed, and cause an
/// error.
pub(super) async fn apply(remote: &Remote, what: &str, manifests: &str) -> Result<(), Error> {
    let command = applying("-").stdin(manifests.as_bytes());
    remote.run_ok(&command).await.doing(format!("apply {what}"))?;
    Ok(())
}

/// The same with manifests that the node downloads.
pub(super) async fn apply_from(remote: &Remote, what: &str, url: &str) -> Result<(), Error> {
    remote.run_ok(&applying(url)).await.doing(format!("apply {what}"))?;
    Ok(())
}

fn applying(from: &str) -> Command {
    // Server-side: large definitions do not fit into the annotation that client-side apply writes.
    command(&["apply", "--server-side", "--field-manager=k8sha", "-f", from]).limit(APPLY)
}

fn parse(remote: &Remote, args: &[&str], text: &str) -> Result<Value, Error> {
    serde_json::from_str(text).map_err(|error| Error::Unread {
        what: format!("the answer to `kubectl {}`", args.join(" ")),
        node: remote.node().to_owned(),
        cause: cause(error),
    })
}
