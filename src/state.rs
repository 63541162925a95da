//! The state of a cluster on the operator's machine: its creation id and the keys that identify its
//! machines.
//!
//! [`State::keep`] writes what was created, before a run's first step: the run after a killed one
//! finds it again, and a read-only command leaves no key behind that could be mistaken for a known
//! one. Secrets are files of mode 0600 in folders of mode 0700.

use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::OFlags;
use secrecy::{ExposeSecret as _, SecretString};

use crate::cluster::{Identity, NewKeys, NodeName};
use crate::error::{Exit, Failure};
use crate::files::{self, private_folder, read_if_there, write_private};
use crate::secrets;
use crate::ssh::KeyPair;

mod etcd;
mod routes;
mod times;

pub use etcd::{EtcdKeys, MemberKeys};

/// How many logs of a cluster are kept: enough for one run a day for seven weeks.
pub(crate) const LOGS: usize = 50;

/// A cluster's folder on the operator's machine.
#[derive(Debug)]
pub struct State {
    folder: PathBuf,
    lock: Option<File>,
    /// What was created but is not written yet, in the order of writing.
    made: Mutex<Vec<(PathBuf, SecretString)>>,
}

impl State {
    /// Opens the folder, and creates it if it does not exist.
    ///
    /// # Errors
    /// When it cannot be created, or when users other than this one and root can change its
    /// contents.
    pub fn open(folder: PathBuf) -> Result<Self, Failure> {
        Self::open_for(folder, None)
    }

    /// Opens the folder for the user who became root through `sudo`, whose own folders are trusted
    /// like those of this user.
    ///
    /// # Errors
    /// As [`State::open`].
    pub(crate) fn open_for(folder: PathBuf, person: Option<u32>) -> Result<Self, Failure> {
        let doing = "open the state folder";
        private_folder(&folder).map_err(|error| fault(doing, error))?;
        files::closed(&folder, person)
            .map_err(|why| Failure::new(Exit::Local, doing, &why).hint(why.hint()))?;
        private_folder(&folder.join("ssh")).map_err(|error| fault(doing, error))?;
        Ok(Self { folder, lock: None, made: Mutex::default() })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Locks the cluster for this run, until the process ends.
    ///
    /// # Errors
    /// When another run holds the lock.
    pub fn lock(&mut self) -> Result<(), Failure> {
        let path = self.folder.join("lock");
        let mut options = File::options();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits() as i32)
            .open(&path)
            // A lock file that an earlier k8sha created still has its old mode.
            .and_then(|file| {
                file.set_permissions(Permissions::from_mode(0o600))?;
                Ok(file)
            })
            .map_err(|error| fault("lock the state folder", error))?;
        match file.try_lock() {
            Ok(()) => {
                let _ = file.set_len(0);
                let _ = write!(file, "{}", std::process::id());
                self.lock = Some(file);
                Ok(())
            }
            Err(TryLockError::WouldBlock) => {
                let holder = files::read_text(&path, files::Kind::State).unwrap_or_default();
                let said = format!("another k8sha (process {holder}) is working on this cluster");
                Err(Failure::new(Exit::Local, "lock the state folder", said)
                    .on(self.folder.display())
                    .hint("wait until it ends; concurrent runs would conflict".to_owned()))
            }
            Err(TryLockError::Error(error)) => Err(fault("lock the state folder", error)),
        }
    }

    /// The creation id: created with the cluster, and part of the mark on everything of k8sha's.
    ///
    /// # Errors
    /// When it cannot be read, or is missing although the folder has files that were created after
    /// it.
    pub fn creation(&self) -> Result<String, Failure> {
        let path = self.folder.join("creation");
        let doing = "read the creation id";
        if let Some(id) = self.known(&path).map_err(|error| fault(doing, error))? {
            return Ok(id.expose_secret().trim().to_owned());
        }
        if let Some(left) = self.left_behind().map_err(|error| fault(doing, error))? {
            let said = format!("the file is missing, but `{left}` next to it still exists");
            return Err(Failure::new(Exit::Local, doing, said).on(path.display()).hint(
                "restore it from a backup, or write into it the id after `creation:` in \
                 the notes of the cluster's VMs in Proxmox VE; if the cluster no longer exists, \
                 move the whole folder away"
                    .to_owned(),
            ));
        }
        let id = hex::encode(rand::random::<[u8; 4]>());
        self.made().push((path, SecretString::from(id.clone())));
        Ok(id)
    }

    /// A file in the folder that a run writes only after the creation id.
    fn left_behind(&self) -> io::Result<Option<String>> {
        let files = [self.identity_file(), self.etcd_claim(), self.etcd_formed()];
        for path in files {
            if path.try_exists()? {
                let name = path.strip_prefix(&self.folder).unwrap_or(&path);
                return Ok(Some(name.display().to_string()));
            }
        }
        for entry in fs::read_dir(self.folder.join("ssh"))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.starts_with("host-") {
                return Ok(Some(format!("ssh/{name}")));
            }
        }
        Ok(None)
    }

    fn made(&self) -> MutexGuard<'_, Vec<(PathBuf, SecretString)>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current or pending contents of a file.
    fn known(&self, path: &Path) -> io::Result<Option<SecretString>> {
        if let Some((_, text)) = self.made().iter().rfind(|(made, _)| made == path) {
            return Ok(Some(text.clone()));
        }
        let bytes = read_if_there(path)?;
        Ok(bytes.map(|bytes| SecretString::from(String::from_utf8_lossy(&bytes).into_owned())))
    }

    /// Writes what was created: only then may it be used.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn keep(&self) -> Result<(), Failure> {
        let mut made = self.made();
        for (path, text) in made.iter() {
            let written = path
                .parent()
                .map_or(Ok(()), private_folder)
                .and_then(|()| write_private(path, text.expose_secret().as_bytes()));
            written.map_err(|error| {
                fault("write a key into the state folder", error).on(path.display())
            })?;
        }
        made.clear();
        Ok(())
    }

    /// The keys that were created since the folder was opened and are not written yet.
    pub(crate) fn new_keys(&self) -> NewKeys {
        let mut new = NewKeys::default();
        let ssh = self.folder.join("ssh");
        for (path, _) in self.made().iter() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_key = path.starts_with(&ssh) && !name.ends_with(".pub");
            match name.strip_prefix("host-") {
                Some(node) if is_key => drop(new.hosts.insert(NodeName(node.to_owned()))),
                _ => new.operator |= is_key,
            }
            new.creation |= *path == self.folder.join("creation");
            new.etcd |= *path == self.etcd_folder().join("ca.pem");
        }
        new
    }

    /// The key with which k8sha logs in to every node.
    ///
    /// # Errors
    /// When it cannot be read, created or written.
    pub(crate) fn operator_key(&self) -> Result<KeyPair, Failure> {
        self.key("operator", "k8sha")
    }

    /// A node's SSH host key, which its seed installs.
    ///
    /// # Errors
    /// When it cannot be read, created or written.
    pub fn host_key(&self, node: &NodeName) -> Result<KeyPair, Failure> {
        self.key(&format!("host-{node}"), node.as_str())
    }

    /// The public SSH host keys of all nodes that were ever created from this folder, including
    /// those without a row.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(crate) fn known_host_keys(&self) -> Result<Vec<(NodeName, String)>, Failure> {
        let read = || -> io::Result<Vec<(NodeName, String)>> {
            let mut known = Vec::new();
            for entry in fs::read_dir(self.folder.join("ssh"))? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                let node = name.strip_prefix("host-").and_then(|name| name.strip_suffix(".pub"));
                if let Some(node) = node {
                    let path = self.folder.join("ssh").join(&name);
                    let line = read_if_there(&path)?.unwrap_or_default();
                    let line = String::from_utf8_lossy(&line).into_owned();
                    known.push((NodeName(node.to_owned()), line));
                }
            }
            Ok(known)
        };
        read().map_err(|error| fault("read the nodes' host keys", error))
    }

    /// The file with the identity of the initialised cluster.
    pub(crate) fn identity_file(&self) -> PathBuf {
        self.folder.join("identity.json")
    }

    /// The identity of the initialised cluster; `None` before the initialisation.
    ///
    /// # Errors
    /// When it cannot be read: a damaged record is not the same as a missing one.
    pub fn identity(&self) -> Result<Option<Identity>, Failure> {
        let path = self.identity_file();
        let doing = "read the cluster's identity";
        let Some(bytes) = read_if_there(&path).map_err(|error| fault(doing, error))? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            Failure::caused(Exit::Local, doing, error).on(path.display()).hint(
                "if the cluster is running, move that file away: the next run records its identity again"
                    .to_owned(),
            )
        })
    }

    fn key(&self, name: &str, comment: &str) -> Result<KeyPair, Failure> {
        let path = self.folder.join("ssh").join(name);
        let doing = || format!("read the SSH key `{}`", path.display());
        if let Some(private) = self.known(&path).map_err(|error| fault(&doing(), error))? {
            let private = secrets::register(private);
            return KeyPair::from_openssh(private).map_err(|error| {
                Failure::caused(Exit::Local, doing(), error).hint(
                    "restore the file from a backup of the state folder: a machine created \
                         with it accepts no other key"
                        .to_owned(),
                )
            });
        }
        let pair = KeyPair::generate(comment)
            .map_err(|error| Failure::caused(Exit::Local, "make an SSH key", error))?;
        secrets::learn(pair.private.expose_secret());
        let mut made = self.made();
        made.push((path.clone(), pair.private.clone()));
        made.push((path.with_extension("pub"), SecretString::from(pair.public.clone())));
        Ok(pair)
    }

    /// The file that records that k8sha has written to the external etcd, or is about to.
    pub(crate) fn etcd_claim(&self) -> PathBuf {
        self.folder.join("etcd-claimed")
    }

    /// The folder with the documents that machines were created from, without their secrets.
    pub(crate) fn made_from(&self) -> PathBuf {
        self.folder.join("made-from")
    }

    /// The default path of the admin kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// The path of a new log file. Old logs are removed: the latest `LOGS` remain, including the
    /// new one.
    ///
    /// # Errors
    /// When its folder cannot be created.
    pub fn log(&self, command: &str) -> Result<PathBuf, Failure> {
        let folder = self.folder.join("log");
        private_folder(&folder).map_err(|error| fault("open the log folder", error))?;
        let format = time::macros::format_description!(
            "[year][month][day]T[hour][minute][second].[subsecond digits:3]Z"
        );
        prune(&folder, LOGS - 1);
        let now = time::OffsetDateTime::now_utc().format(format).unwrap_or_default();
        Ok(folder.join(format!("{now}-{command}.log")))
    }

    /// Forgets the former cluster: its creation id, the keys of its machines and its etcd, and its
    /// kubeconfig. The operator's key, the logs and the list of hosts with routes remain.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn forget(&self) -> Result<(), Failure> {
        let forget = || -> io::Result<()> {
            let remove = |path: PathBuf| match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
            for path in [self.kubeconfig(), self.etcd_claim(), self.identity_file()] {
                remove(path)?;
            }
            self.forget_etcd()?;
            match fs::remove_dir_all(self.made_from()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            for entry in fs::read_dir(self.folder.join("ssh"))? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().starts_with("host-") {
                    remove(entry.path())?;
                }
            }
            // Removed last: without it, the remaining files would look like a damaged folder.
            remove(self.folder.join("creation"))
        };
        self.made().clear();
        forget().map_err(|error| fault("clear the state folder", error))
    }
}

/// Removes all logs except the latest `keep`. Log names begin with a timestamp, so they sort by
/// time; files with other names are not k8sha's to remove. The next run retries what cannot be
/// removed.
fn prune(folder: &Path, keep: usize) {
    let is_log = |name: &str| name.starts_with("20") && name.ends_with(".log");
    let mut logs: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| is_log(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect();
    logs.sort();
    let old = logs.len().saturating_sub(keep);
    for log in &logs[..old] {
        let _ = fs::remove_file(log);
    }
}

fn fault(doing: &str, error: io::Error) -> Failure {
    let hint = match error.kind() {
        io::ErrorKind::StorageFull => Some("free space on that disk and run again".to_owned()),
        io::ErrorKind::PermissionDenied => Some("choose another folder with `--state`".to_owned()),
        _ => None,
    };
    Failure::caused(Exit::Local, doing, error).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_run_made_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let open = || State::open(folder.path().to_owned()).unwrap();
        let node = NodeName("m1".to_owned());
        let first = open();
        let (id, key) = (first.creation().unwrap(), first.host_key(&node).unwrap().public);
        assert_eq!(first.host_key(&node).unwrap().public, key);
        first.keep().unwrap();
        assert_eq!(open().creation().unwrap(), id);
        assert_eq!(open().host_key(&node).unwrap().public, key);
    }

    #[test]
    fn what_is_made_is_new_until_it_is_kept_and_a_look_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let open = || State::open(folder.path().to_owned()).unwrap();
        let node = NodeName("m1".to_owned());
        let hosts = [node.clone()].into();
        let state = open();
        state.creation().unwrap();
        state.host_key(&node).unwrap();
        assert_eq!(state.new_keys(), NewKeys { creation: true, hosts, ..NewKeys::default() });
        assert!(!folder.path().join("creation").exists());
        assert_eq!(fs::read_dir(folder.path().join("ssh")).unwrap().count(), 0);
        state.operator_key().unwrap();
        assert!(state.new_keys().operator);
        state.keep().unwrap();
        assert_eq!(state.new_keys(), NewKeys::default());
        let again = open();
        again.host_key(&node).unwrap();
        assert_eq!(again.new_keys(), NewKeys::default());
    }

    #[test]
    fn a_creation_id_that_is_lost_is_told_and_no_other_one_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let open = || State::open(folder.path().to_owned()).unwrap();
        let state = open();
        state.creation().unwrap();
        state.host_key(&NodeName("m1".to_owned())).unwrap();
        state.keep().unwrap();
        fs::remove_file(folder.path().join("creation")).unwrap();
        let failure = open().creation().unwrap_err();
        assert!(failure.said.contains("`ssh/host-m1"), "{failure}");
        assert!(failure.hint.unwrap().contains("creation:"));
        // A cleared folder contains nothing of a former cluster.
        open().forget().unwrap();
        open().creation().unwrap();
    }

    #[test]
    fn two_runs_at_once_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = State::open(folder.path().to_owned()).unwrap();
        let mut second = State::open(folder.path().to_owned()).unwrap();
        first.lock().unwrap();
        let failure = second.lock().unwrap_err();
        assert!(failure.said.contains(&std::process::id().to_string()), "{failure}");
        drop(first);
        second.lock().unwrap();
    }

    #[test]
    fn the_lock_is_its_owners_alone_even_where_an_older_one_was_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        State::open(folder.path().to_owned()).unwrap().lock().unwrap();
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        State::open(folder.path().to_owned()).unwrap().lock().unwrap();
        assert_eq!(mode(), 0o600);
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_refused_before_a_key_is_read_or_made() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        fs::create_dir(&state).unwrap();
        fs::set_permissions(&state, Permissions::from_mode(0o777)).unwrap();
        let failure = State::open(state.clone()).unwrap_err();
        let hint = failure.hint.unwrap();
        assert!(failure.said.contains("mode 0777") && hint.contains("chmod 700"), "{hint}");
        assert_eq!(fs::read_dir(&state).unwrap().count(), 0);
    }

    #[test]
    fn the_latest_logs_stay_and_other_files_too() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path().to_owned()).unwrap();
        let logs = folder.path().join("log");
        fs::create_dir(&logs).unwrap();
        for minute in 0..LOGS + 5 {
            fs::write(logs.join(format!("20260101T00{minute:02}00.000Z-up.log")), "").unwrap();
        }
        fs::write(logs.join("notes.log"), "").unwrap();
        let new = state.log("up").unwrap();
        assert!(!new.exists() && !logs.join("20260101T000500.000Z-up.log").exists());
        assert!(logs.join("20260101T000600.000Z-up.log").exists());
        assert_eq!(fs::read_dir(&logs).unwrap().count(), LOGS - 1 + 1);
    }

    #[test]
    fn a_forgotten_cluster_gets_new_machine_keys_and_keeps_the_operators() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path().to_owned()).unwrap();
        let node = NodeName("m1".to_owned());
        let (operator, host) = (state.operator_key().unwrap(), state.host_key(&node).unwrap());
        let id = state.creation().unwrap();
        state.keep().unwrap();
        state.forget().unwrap();
        assert_eq!(state.operator_key().unwrap().public, operator.public);
        assert_ne!(state.host_key(&node).unwrap().public, host.public);
        assert_ne!(state.creation().unwrap(), id);
    }
}
