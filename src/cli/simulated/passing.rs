//! The folder of a simulated world that lives for one command.
//!
//! It holds a simulated operator's keys, so it is its owner's alone. It goes with the command; what
//! a killed one has left goes with the next. A live one is known by its lock: the system drops a
//! dead process's locks (flock(2)).

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;

const PREFIX: &str = "k8sha-world-";
/// The name of one that has no lock yet.
const MAKING: &str = ".k8sha-making-";
/// How old one without a lock must be to count as abandoned: making it takes no time.
const MAKING_TAKES: Duration = Duration::from_secs(3600);
const LOCK: &str = "alive";

/// A folder that is removed with this value.
#[derive(Debug)]
pub(super) struct Passing {
    folder: PathBuf,
    /// Says to others that it is in use.
    _lock: File,
}

impl Passing {
    /// Makes one in a folder for temporary files, and removes those of killed runs there.
    ///
    /// # Errors
    /// What the system said.
    pub(super) fn open(place: &Path) -> io::Result<Self> {
        remove_dead(place);
        let private = Permissions::from_mode(0o700);
        let made =
            tempfile::Builder::new().prefix(MAKING).permissions(private).tempdir_in(place)?;
        let mut options = File::options();
        let lock = options.write(true).create_new(true).mode(0o600).open(made.path().join(LOCK))?;
        lock.try_lock().map_err(io::Error::from)?;
        // Under its own name only once it is locked: another run would take it for a dead one.
        let name = made.path().file_name().unwrap_or_default().to_string_lossy();
        let folder = place.join(format!("{PREFIX}{}", name.trim_start_matches(MAKING)));
        fs::rename(made.path(), &folder)?;
        let _ = made.keep();
        Ok(Self { folder, _lock: lock })
    }

    /// The folder.
    pub(super) fn path(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Removes what killed runs of this user have left. What cannot be removed stays and does
/// no harm.
fn remove_dead(place: &Path) {
    let me = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let name = name.to_string_lossy();
        // Not followed: a link that another user has put there leads elsewhere.
        let Ok(seen) = fs::symlink_metadata(&path) else { continue };
        if !seen.is_dir() || seen.uid() != me {
            continue;
        }
        let dead = if name.starts_with(PREFIX) {
            is_dead(&path)
        } else {
            let age = seen.modified().ok().and_then(|at| at.elapsed().ok());
            name.starts_with(MAKING) && age.is_some_and(|age| age > MAKING_TAKES)
        };
        if dead {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

fn is_dead(folder: &Path) -> bool {
    let mut options = File::options();
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    match options.write(true).custom_flags(flags).open(folder.join(LOCK)) {
        Ok(lock) => lock.try_lock().is_ok(),
        // Half removed: its lock went first.
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(place: &Path) -> Vec<PathBuf> {
        fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn it_is_private_and_goes_with_its_command() {
        let place = tempfile::tempdir().unwrap();
        let passing = Passing::open(place.path()).unwrap();
        let mode = fs::metadata(passing.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700);
        assert_eq!(names(place.path()), [passing.path()]);
        drop(passing);
        assert!(names(place.path()).is_empty());
    }

    #[test]
    fn what_a_killed_run_left_goes_with_the_next_and_a_live_one_stays() {
        let place = tempfile::tempdir().unwrap();
        let live = Passing::open(place.path()).unwrap();
        let dead = place.path().join("k8sha-world-dead");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join(LOCK), "").unwrap();
        fs::write(dead.join("key"), "secret").unwrap();
        let foreign = place.path().join("k8sha-notes");
        fs::create_dir(&foreign).unwrap();
        let link = place.path().join("k8sha-world-link");
        std::os::unix::fs::symlink(&foreign, &link).unwrap();
        let next = Passing::open(place.path()).unwrap();
        assert!(!dead.exists());
        for path in [live.path(), next.path(), foreign.as_path(), link.as_path()] {
            assert!(path.exists(), "{}", path.display());
        }
    }
}
