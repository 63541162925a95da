//! Worlds that many tests start with: created by the first test that needs one, copied for the others.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::world::World;

/// A file below a folder, or a folder (without bytes), and its permission bits.
#[derive(Debug)]
struct Entry {
    path: PathBuf,
    mode: u32,
    bytes: Option<Vec<u8>>,
}

/// A world's folder, with the program's state in it. It is kept in memory, so that a test process
/// leaves nothing behind.
type Folder = Arc<OnceLock<Vec<Entry>>>;

/// The created worlds, by the steps that create them.
static MADE: Mutex<BTreeMap<String, Folder>> = Mutex::new(BTreeMap::new());

/// Lets `make` bring an empty world into a state, once in this process for each key; a later world with
/// that key gets a copy of the first one's folder. The key contains everything that `make` depends on.
pub fn once(world: &mut World, key: String, make: impl FnOnce(&mut World)) {
    let folder =
        MADE.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default().clone();
    let mut make = Some(make);
    let entries = folder.get_or_init(|| {
        if let Some(make) = make.take() {
            make(world);
        }
        let mut entries = Vec::new();
        read(&world.path(), Path::new(""), &mut entries);
        entries
    });
    if make.is_some() {
        write(&world.path(), entries);
    }
}

fn read(root: &Path, below: &Path, entries: &mut Vec<Entry>) {
    let folder = root.join(below);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    entries.push(Entry { path: below.to_owned(), mode: mode(&folder), bytes: None });
    for entry in fs::read_dir(&folder).unwrap() {
        let entry = entry.unwrap();
        let (path, kind) = (below.join(entry.file_name()), entry.file_type().unwrap());
        assert!(!kind.is_symlink(), "a world has no links: {}", path.display());
        if kind.is_dir() {
            read(root, &path, entries);
        } else {
            let bytes = Some(fs::read(entry.path()).unwrap());
            entries.push(Entry { path, mode: mode(&entry.path()), bytes });
        }
    }
}

fn write(root: &Path, entries: &[Entry]) {
    for Entry { path, mode, bytes } in entries {
        let path = root.join(path);
        match bytes {
            None => fs::DirBuilder::new().recursive(true).mode(*mode).create(path).unwrap(),
            Some(bytes) => {
                let mut options = fs::OpenOptions::new();
                let mut file = options.write(true).create_new(true).mode(*mode).open(path).unwrap();
                std::io::Write::write_all(&mut file, bytes).unwrap();
            }
        }
    }
}
