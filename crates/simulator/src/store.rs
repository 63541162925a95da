//! The storage of a world: a folder, written completely and atomically at each change, or memory.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::mem;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::OFlags;
use sha2::{Digest, Sha256};

use super::world::{Folder, World};

const WORLD: &str = "world.json";
const BLOBS: &str = "blobs";
const LOCK: &str = "lock";

/// Stores a world and its large objects (uploaded ISO images).
#[derive(Debug)]
pub struct Store {
    folder: Folder,
    blobs: Mutex<HashMap<String, Arc<[u8]>>>,
    /// The blobs of guests' disks that the world's file names.
    disks: Mutex<BTreeSet<String>>,
    failed: Mutex<Option<String>>,
}

/// The right to change the world in a folder, which only one process has at a time. It ends when this
/// is dropped or the process ends, because the system releases a dead process's locks (flock(2)).
#[derive(Debug)]
pub struct Claim(Option<File>);

impl Drop for Claim {
    fn drop(&mut self) {
        // Explicit: a child process that is being started also holds the file until its exec.
        let _ = self.0.as_ref().map(File::unlock);
    }
}

/// Why a world cannot be claimed.
#[derive(Debug, thiserror::Error)]
pub enum Unclaimed {
    /// Another process has claimed it.
    #[error("{0}")]
    InUse(String),
    /// The lock cannot be used.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<Unclaimed> for io::Error {
    fn from(unclaimed: Unclaimed) -> Self {
        match unclaimed {
            Unclaimed::InUse(text) => io::Error::new(io::ErrorKind::ResourceBusy, text),
            Unclaimed::Io(error) => error,
        }
    }
}

impl Store {
    /// A store in a folder (created if missing, mode 0700), or in memory.
    ///
    /// # Errors
    /// If the folder cannot be created.
    pub fn open(folder: Folder) -> io::Result<Self> {
        if let Some(folder) = &folder {
            use std::os::unix::fs::DirBuilderExt;
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder.join(BLOBS))?;
        }
        Ok(Self {
            folder,
            blobs: Mutex::default(),
            disks: Mutex::default(),
            failed: Mutex::default(),
        })
    }

    /// Claims the right to change the world, which is required before loading it to serve it. Read-only
    /// access needs no claim.
    ///
    /// # Errors
    /// If another process has it, or the lock cannot be used.
    pub fn claim(&self) -> Result<Claim, Unclaimed> {
        use std::os::unix::fs::OpenOptionsExt;
        let Some(folder) = &self.folder else { return Ok(Claim(None)) };
        let mut options = File::options();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits() as i32)
            .open(folder.join(LOCK))?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)?;
                write!(file, "{}", std::process::id())?;
                Ok(Claim(Some(file)))
            }
            Err(TryLockError::WouldBlock) => {
                let holder = io::read_to_string(&file).unwrap_or_default();
                let holder = match holder.parse::<u32>() {
                    Ok(process) => format!("process {process}"),
                    // It has the lock and has not written its process id yet.
                    Err(_) => "another process".to_owned(),
                };
                Err(Unclaimed::InUse(format!(
                    "{holder} uses the simulated world in `{}`; wait until it ends, or use another \
                     folder",
                    folder.display()
                )))
            }
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    /// The world in the folder, if there is one.
    ///
    /// # Errors
    /// If it cannot be read or is not a world.
    pub fn load(&self) -> io::Result<Option<World>> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let mut left = 100;
        loop {
            let mut world: World = match fs::read(folder.join(WORLD)) {
                Ok(bytes) => serde_json::from_slice(&bytes)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            };
            let disks = world.guests.disks_mut().try_for_each(|disk| disk.read(self));
            match disks {
                Ok(()) => {
                    let ids = world.guests.disks().filter_map(|disk| disk.id().map(str::to_owned));
                    *self.lock_disks() = ids.collect();
                    return Ok(Some(world));
                }
                // A simulator that serves the world replaced it between the two reads.
                Err(error) if error.kind() == io::ErrorKind::NotFound && left > 0 => left -= 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn lock_disks(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.disks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Saves the world. An error is kept for [`Store::failure`]: the servers must not panic.
    pub fn save(&self, world: &World) {
        let Some(folder) = &self.folder else { return };
        // Through a `Value` most of the work is done in serde_json, which development builds optimise;
        // written directly it would be code of this crate.
        let write = || -> io::Result<()> {
            let ids = world.guests.disks().map(|disk| disk.write(self).map(str::to_owned));
            let ids: BTreeSet<String> = ids.collect::<io::Result<_>>()?;
            let text = serde_json::to_value(world)?.to_string();
            write_atomically(&folder.join(WORLD), text.as_bytes())?;
            // Only now does nothing need the disks as they were.
            let former = mem::replace(&mut *self.lock_disks(), ids.clone());
            former.difference(&ids).for_each(|id| self.forget(id));
            Ok(())
        };
        if let Err(error) = write() {
            let text = format!("cannot write `{}`: {error}", folder.join(WORLD).display());
            *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
        }
    }

    /// Why the world could not be saved, if it could not.
    pub fn failure(&self) -> Option<String> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stores a large object and returns its id (its SHA-256 in hex).
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn keep(&self, bytes: &[u8]) -> io::Result<String> {
        let id: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
        match &self.folder {
            Some(folder) => write_atomically(&folder.join(BLOBS).join(&id), bytes)?,
            None => {
                let mut blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
                blobs.insert(id.clone(), bytes.into());
            }
        }
        Ok(id)
    }

    /// A large object by its id.
    pub fn blob(&self, id: &str) -> Option<Arc<[u8]>> {
        match &self.folder {
            Some(folder) => fs::read(folder.join(BLOBS).join(id)).ok().map(Into::into),
            None => self.blobs.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned(),
        }
    }

    /// Deletes a large object.
    pub fn forget(&self, id: &str) {
        match &self.folder {
            Some(folder) => drop(fs::remove_file(folder.join(BLOBS).join(id))),
            None => {
                self.blobs.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
            }
        }
    }
}

/// Writes a temporary file and renames it, so that a crash leaves the old file or the new one.
fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let beside = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    drop(file);
    fs::rename(&beside, path)
}
