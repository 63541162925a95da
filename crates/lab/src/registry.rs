//! Which labs there are on this machine, and whether a process still runs each: so that what a
//! killed run has left behind can be removed, and what another run uses is left alone.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Error, command, file, groups, private_folder};

/// Where labs are written down: gone with a restart of the machine, as they are.
const LABS: &str = "/run/k8sha/labs";
/// Where the machines of a lab without a folder have their disks: not in memory.
const PASSING: &str = "/var/tmp";
const NOTE: &str = "lab.json";
const LOCK: &str = "lock";

/// A lab of this process.
#[derive(Debug)]
pub(super) struct Entry {
    /// Eight hexadecimal digits.
    pub(super) id: String,
    /// Where its files lie.
    pub(super) folder: PathBuf,
    passing: bool,
    /// Held as long as the lab runs.
    _lock: File,
}

#[derive(Debug, Serialize, Deserialize)]
struct Note {
    folder: PathBuf,
    passing: bool,
}

impl Entry {
    /// Writes a new lab down.
    pub(super) fn register(folder: Option<&Path>) -> Result<Self, Error> {
        let id: String =
            rand::random::<[u8; 4]>().iter().map(|byte| format!("{byte:02x}")).collect();
        let passing = folder.is_none();
        let folder = match folder {
            // overlayfs takes absolute paths only.
            Some(folder) => std::path::absolute(folder).map_err(file("find the folder"))?,
            None => Path::new(PASSING).join(format!("k8sha-lab-{id}")),
        };
        let place = Path::new(LABS).join(&id);
        private_folder(&place)?;
        let lock = open(&place.join(LOCK))?;
        lock.lock().map_err(file("lock the lab"))?;
        let note = Note { folder: folder.clone(), passing };
        let text =
            serde_json::to_vec(&note).map_err(|error| file("write the lab down")(error.into()))?;
        fs::write(place.join(NOTE), text).map_err(file("write the lab down"))?;
        private_folder(&folder)?;
        Ok(Self { id, folder, passing, _lock: lock })
    }
}

/// Ends and removes everything of it but the disks in a folder of a person's own.
impl Drop for Entry {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.id, &self.folder, self.passing) {
            // The next run finds it written down, and tries again.
            tracing::warn!(lab = self.id, %error, "the lab cannot be removed");
        }
    }
}

fn open(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(file(format!("open `{}`", path.display())))
}

/// Removes the labs that no process runs any more; says which.
///
/// # Errors
/// Without root, or when something does not go.
pub fn clean() -> Result<Vec<String>, Error> {
    super::check()?;
    let Ok(entries) = fs::read_dir(LABS) else { return Ok(Vec::new()) };
    let mut gone = Vec::new();
    for place in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        let id = place.file_name().map(|name| name.to_string_lossy().into_owned());
        let Some(id) = id else { continue };
        let lock = open(&place.join(LOCK))?;
        if lock.try_lock().is_err() {
            continue;
        }
        let note = fs::read(place.join(NOTE)).ok();
        let note = note.and_then(|text| serde_json::from_slice::<Note>(&text).ok());
        // Killed before it had written more than its name: there are no machines yet.
        let (folder, passing) = note.map_or_else(
            || (Path::new(PASSING).join(format!("k8sha-lab-{id}")), true),
            |note| (note.folder, note.passing),
        );
        remove(&id, &folder, passing)?;
        gone.push(format!("lab {id} ({})", folder.display()));
    }
    Ok(gone)
}

fn remove(id: &str, folder: &Path, passing: bool) -> Result<(), Error> {
    groups::kill(id, None);
    let mark = format!("k8sha-{id}");
    if let Ok(entries) = fs::read_dir("/run/netns") {
        for name in entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
            if name == mark || name.starts_with(&format!("{mark}-")) {
                command(&["ip", "netns", "del", &name])?;
            }
        }
    }
    let ours: &[&str] = if passing { &[""] } else { &["layer", "standin", "run"] };
    for part in ours {
        match fs::remove_dir_all(folder.join(part)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(file(format!("remove `{}`", folder.join(part).display()))(error));
            }
            _ => {}
        }
    }
    let place = Path::new(LABS).join(id);
    fs::remove_dir_all(&place).map_err(file(format!("remove `{}`", place.display())))
}
