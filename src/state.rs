//! What the operator's machine remembers of a cluster: its creation id and the keys by which its
//! machines are known.
//!
//! Everything is written before it is used, so a run that was killed finds it again. Secrets are
//! files of mode 0600 in folders of mode 0700.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};

use crate::cluster::NodeName;
use crate::error::{Exit, Failure};
use crate::files::{private_folder, read_if_there, write_private};
use crate::ssh::KeyPair;

mod etcd;
mod routes;

pub use etcd::{EtcdKeys, MemberKeys};

/// A cluster's folder on the operator's machine.
#[derive(Debug)]
pub struct State {
    folder: PathBuf,
    lock: Option<File>,
}

impl State {
    /// Opens the folder and makes it if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(folder: PathBuf) -> Result<Self, Failure> {
        private_folder(&folder.join("ssh"))
            .map_err(|error| fault("open the state folder", &error))?;
        Ok(Self { folder, lock: None })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Claims the cluster for this run, until the process ends.
    ///
    /// # Errors
    /// When another run holds it.
    pub fn lock(&mut self) -> Result<(), Failure> {
        let path = self.folder.join("lock");
        let mut options = File::options();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| fault("lock the state folder", &error))?;
        match file.try_lock() {
            Ok(()) => {
                let _ = file.set_len(0);
                let _ = write!(file, "{}", std::process::id());
                self.lock = Some(file);
                Ok(())
            }
            Err(TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(&path).unwrap_or_default();
                let said = format!("another k8sha (process {holder}) is at work on this cluster");
                Err(Failure::new(Exit::Local, "lock the state folder", said)
                    .on(self.folder.display())
                    .hint(
                        "wait until it ends; two runs at once would step on each other".to_owned(),
                    ))
            }
            Err(TryLockError::Error(error)) => Err(fault("lock the state folder", &error)),
        }
    }

    /// The creation id: made with the cluster, part of the mark on everything of ours.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn creation(&self) -> Result<String, Failure> {
        let path = self.folder.join("creation");
        let doing = "read the creation id";
        if let Some(bytes) = read_if_there(&path).map_err(|error| fault(doing, &error))? {
            return Ok(String::from_utf8_lossy(&bytes).trim().to_owned());
        }
        let id: String = rand::random::<[u8; 4]>().iter().map(|b| format!("{b:02x}")).collect();
        write_private(&path, id.as_bytes()).map_err(|error| fault(doing, &error))?;
        Ok(id)
    }

    /// The key with which we log in to every node.
    ///
    /// # Errors
    /// When it cannot be read, made or written.
    pub fn operator_key(&self) -> Result<KeyPair, Failure> {
        self.key("operator", "k8sha")
    }

    /// A node's SSH host key, which its seed plants.
    ///
    /// # Errors
    /// When it cannot be read, made or written.
    pub fn host_key(&self, node: &NodeName) -> Result<KeyPair, Failure> {
        self.key(&format!("host-{node}"), node.as_str())
    }

    fn key(&self, name: &str, comment: &str) -> Result<KeyPair, Failure> {
        let path = self.folder.join("ssh").join(name);
        let doing = || format!("read the SSH key `{}`", path.display());
        if let Some(bytes) = read_if_there(&path).map_err(|error| fault(&doing(), &error))? {
            let private = SecretString::from(String::from_utf8_lossy(&bytes).into_owned());
            return KeyPair::from_openssh(private)
                .map_err(|error| Failure::new(Exit::Local, doing(), error));
        }
        let pair = KeyPair::generate(comment)
            .map_err(|error| Failure::new(Exit::Local, "make an SSH key", error))?;
        let write = || -> io::Result<()> {
            write_private(&path, pair.private.expose_secret().as_bytes())?;
            write_private(&path.with_extension("pub"), pair.public.as_bytes())
        };
        write().map_err(|error| fault("write an SSH key", &error))?;
        Ok(pair)
    }

    /// The file that says that we have written to the external etcd, or are about to.
    pub fn etcd_claim(&self) -> PathBuf {
        self.folder.join("etcd-claimed")
    }

    /// Where the admin kubeconfig lies unless asked otherwise.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// A new log file's path.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn log(&self, command: &str) -> Result<PathBuf, Failure> {
        let folder = self.folder.join("log");
        private_folder(&folder).map_err(|error| fault("open the log folder", &error))?;
        let format = time::macros::format_description!(
            "[year][month][day]T[hour][minute][second].[subsecond digits:3]Z"
        );
        let now = time::OffsetDateTime::now_utc().format(format).unwrap_or_default();
        Ok(folder.join(format!("{now}-{command}.log")))
    }

    /// Forgets the cluster that was: its creation id, its machines' and its etcd's keys, its
    /// kubeconfig. The operator's key, the logs and the note of the hosts with routes stay.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn forget(&self) -> Result<(), Failure> {
        let forget = || -> io::Result<()> {
            for entry in fs::read_dir(self.folder.join("ssh"))? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().starts_with("host-") {
                    fs::remove_file(entry.path())?;
                }
            }
            for path in [self.folder.join("creation"), self.kubeconfig(), self.etcd_claim()] {
                match fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            self.forget_etcd()
        };
        forget().map_err(|error| fault("clear the state folder", &error))
    }
}

fn fault(doing: &str, error: &io::Error) -> Failure {
    let hint = match error.kind() {
        io::ErrorKind::StorageFull => Some("make room on that disk and run again".to_owned()),
        io::ErrorKind::PermissionDenied => Some("name another folder with `--state`".to_owned()),
        _ => None,
    };
    Failure::new(Exit::Local, doing, error).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_run_made_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let open = || State::open(folder.path().to_owned()).unwrap();
        let node = NodeName("m1".to_owned());
        let (id, key) = (open().creation().unwrap(), open().host_key(&node).unwrap().public);
        assert_eq!(open().creation().unwrap(), id);
        assert_eq!(open().host_key(&node).unwrap().public, key);
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
    fn a_forgotten_cluster_gets_new_machine_keys_and_keeps_the_operators() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path().to_owned()).unwrap();
        let node = NodeName("m1".to_owned());
        let (operator, host) = (state.operator_key().unwrap(), state.host_key(&node).unwrap());
        let id = state.creation().unwrap();
        state.forget().unwrap();
        assert_eq!(state.operator_key().unwrap().public, operator.public);
        assert_ne!(state.host_key(&node).unwrap().public, host.public);
        assert_ne!(state.creation().unwrap(), id);
    }
}
