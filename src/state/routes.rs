//! Records which Proxmox VE hosts have the cluster's blackhole routes.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use super::{State, fault};
use crate::cluster::HostName;
use crate::error::Failure;
use crate::files::{read_if_there, write_private};

impl State {
    /// The hosts on which k8sha has set routes from this folder and not removed them since. The
    /// routes outlive the cluster, and so does this list.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn routed_hosts(&self) -> Result<BTreeSet<HostName>, Failure> {
        let bytes = read_if_there(&self.routed())
            .map_err(|error| fault("read which hosts have routes", error))?;
        let text = String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
        Ok(text.lines().map(|line| HostName(line.to_owned())).collect())
    }

    /// Records that a host has such routes, or no longer has them.
    ///
    /// # Errors
    /// When the list cannot be read or written.
    pub(crate) fn note_routes(&self, host: &HostName, set: bool) -> Result<(), Failure> {
        let mut hosts = self.routed_hosts()?;
        let changed = if set { hosts.insert(host.clone()) } else { hosts.remove(host) };
        if !changed {
            return Ok(());
        }
        let text: String = hosts.iter().map(|host| format!("{host}\n")).collect();
        let written = if hosts.is_empty() {
            fs::remove_file(self.routed())
        } else {
            write_private(&self.routed(), text.as_bytes())
        };
        written.map_err(|error| fault("note which hosts have routes", error))
    }

    fn routed(&self) -> PathBuf {
        self.folder.join("routed-hosts")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_with_routes_are_known_until_their_routes_are_gone_not_until_the_cluster_is() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path().to_owned()).unwrap();
        let [one, two] = ["pve1", "pve2"].map(|name| HostName(name.to_owned()));
        let known = || state.routed_hosts().unwrap().into_iter().collect::<Vec<_>>();
        assert!(known().is_empty());
        state.note_routes(&two, true).unwrap();
        state.note_routes(&one, true).unwrap();
        state.note_routes(&one, true).unwrap();
        state.forget().unwrap();
        assert_eq!(known(), [one.clone(), two.clone()]);
        state.note_routes(&one, false).unwrap();
        assert_eq!(known(), std::slice::from_ref(&two));
        state.note_routes(&two, false).unwrap();
        state.note_routes(&two, false).unwrap();
        assert!(known().is_empty() && !state.routed().exists());
    }
}
