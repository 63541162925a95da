//! Reads the state of a node's first boot: cloud-init's status, the kernel, and the seed that it
//! has read.

use serde::Deserialize;

use crate::cloudinit::mainline_release;
use crate::cluster::{Kernel, Node};
use crate::limits::excerpt;
use crate::ssh::{Command, Error, Remote};

/// The report of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FirstBoot {
    /// cloud-init's status: `running`, `done`, `error`, `disabled`, `not run`.
    pub(super) status: String,
    /// What cloud-init is doing, or its errors.
    pub(super) detail: Vec<String>,
    /// `uname -r`.
    pub(super) kernel: String,
    /// Changes at each boot.
    pub(super) boot_id: String,
    /// The instance id of the seed that it has read; empty if it has not read a seed of k8sha's.
    pub(super) instance: String,
}

/// `cloud-init status --format json`; fields missing in older versions are optional.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    status: String,
    detail: String,
    errors: Vec<String>,
}

/// `/etc/k8sha/node.json`: its `seed` is the instance id.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Identity {
    seed: String,
}

/// The status while cloud-init works.
const RUNNING: &str = "running";
/// How many characters of a status or an error are kept, and how many errors.
const SHOWN: usize = 400;

/// A guest's text, shortened: it is shown as it is.
fn cut(text: &str) -> String {
    excerpt(text.trim(), SHOWN)
}

impl Status {
    /// Its errors, one line each, or a few words on what it is doing.
    fn shown(&self) -> Vec<String> {
        let errors: Vec<String> = self.errors.iter().take(SHOWN).map(|text| cut(text)).collect();
        match (errors.is_empty(), self.detail.is_empty()) {
            (true, false) => vec![cut(&self.detail)],
            _ => errors,
        }
    }
}

/// cloud-init's report, or its error output if it printed no report.
async fn status(remote: &Remote) -> Result<(Status, String), Error> {
    let status = Command::new("cloud-init").args(["status", "--format", "json"]);
    let output = remote.run(&status).await?;
    // Exit status 1 means `error`, 2 means `done` with warnings; the text contains the same.
    Ok((serde_json::from_slice(&output.stdout).unwrap_or_default(), output.stderr_text()))
}

impl FirstBoot {
    /// Queries a node again, of which the last look has shown a running first boot: with one
    /// command, as long as that is the case.
    pub(super) async fn ask_again(self, remote: &Remote) -> Result<Self, Error> {
        let (said, _) = status(remote).await?;
        if said.status != self.status || self.status != RUNNING {
            return Self::ask(remote).await;
        }
        Ok(Self { detail: said.shown(), ..self })
    }

    /// Queries a node.
    pub(super) async fn ask(remote: &Remote) -> Result<Self, Error> {
        let boot_id = Command::new("cat").arg("/proc/sys/kernel/random/boot_id");
        let identity = Command::new("cat").arg("/etc/k8sha/node.json");
        let kernel = Command::new("uname").arg("-r");
        // The kernel before the status: a reboot in between shows the old kernel, and never the new
        // one with the `done` of the old boot.
        let (boot_id, kernel) = tokio::try_join!(remote.run_ok(&boot_id), remote.run_ok(&kernel))?;
        let ((said, stderr), identity) = tokio::try_join!(status(remote), remote.run(&identity))?;
        let identity: Identity = serde_json::from_slice(&identity.stdout).unwrap_or_default();
        let mut detail = said.shown();
        if said.status.is_empty() {
            detail.push(cut(&stderr));
        }
        Ok(Self {
            status: cut(&said.status),
            detail,
            kernel: cut(&kernel.stdout_text()),
            boot_id: cut(&boot_id.stdout_text()),
            instance: cut(&identity.seed),
        })
    }

    /// Whether the kernel is the one in the row.
    pub(super) fn has_kernel(&self, node: &Node) -> bool {
        if node.preinstalled {
            return true;
        }
        match &node.kernel {
            Kernel::Stock => true,
            // Jammy's own is 5.15; every kernel of the enablement stack is newer.
            Kernel::Hwe => !self.kernel.starts_with("5.15."),
            Kernel::Mainline(version) => self.kernel == mainline_release(*version),
        }
    }

    /// Whether the first boot is over and matches the row.
    pub(super) fn is_over(&self, node: &Node, instance: &str) -> bool {
        self.status == "done" && self.has_kernel(node) && self.instance == instance
    }
}
