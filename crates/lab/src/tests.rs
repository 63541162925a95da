//! Checks that the layer of stand-ins is complete. Its table is also compiled into the real tier, so it
//! is checked here.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::standin::FILES;

fn below(folder: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            below(&path, found);
        } else {
            found.insert(path);
        }
    }
}

#[test]
fn the_table_lists_the_files_in_the_folder() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/standin");
    let mut there = BTreeSet::new();
    below(&folder, &mut there);
    let listed: Vec<PathBuf> =
        FILES.iter().map(|(path, ..)| folder.join(path.trim_start_matches('/'))).collect();
    assert_eq!(listed.iter().cloned().collect::<BTreeSet<_>>(), there);
    assert_eq!(listed.len(), there.len(), "a file is listed twice");
}

#[test]
fn only_files_with_an_interpreter_are_executable() {
    for (path, mode, content) in FILES {
        assert_eq!(*mode == 0o755, content.starts_with("#!"), "{path} has the mode {mode:o}");
    }
}

#[test]
fn no_file_is_longer_than_the_limit() {
    for (path, _, content) in FILES {
        assert!(content.lines().count() <= 500, "{path}");
    }
}
