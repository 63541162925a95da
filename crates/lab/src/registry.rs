//! The labs on this machine, and whether a process still runs each: so that the remains of a killed run
//! can be removed, and another run's lab is left alone.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Error, command, file, groups, private_folder};

/// The folder of lab records: deleted by a restart of the machine, like the labs.
const LABS: &str = "/run/k8sha/labs";
/// The folder of the disks of a lab without a folder: not in memory.
const PASSING: &str = "/var/tmp";
const NOTE: &str = "lab.json";
const LOCK: &str = "lock";

/// A lab of this process.
#[derive(Debug)]
pub(super) struct Entry {
    /// Eight hexadecimal digits.
    pub(super) id: String,
    /// The folder of its files.
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
    /// Records a new lab.
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
            serde_json::to_vec(&note).map_err(|error| file("record the lab")(error.into()))?;
        fs::write(place.join(NOTE), text).map_err(file("record the lab"))?;
        private_folder(&folder)?;
        Ok(Self { id, folder, passing, _lock: lock })
    }
}

/// Ends and removes everything of it except the disks in the user's own folder.
impl Drop for Entry {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.id, &self.folder, self.passing) {
            // The next run finds its record, and tries again.
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

/// Removes the labs that no process runs any more; returns which.
///
/// # Errors
/// Without root, or if something cannot be removed.
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
        // Killed before it had recorded more than its name: there are no machines yet.
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
