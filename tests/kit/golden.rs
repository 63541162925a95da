//! Texts that a user or a program reads, compared verbatim with `tests/golden/`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The folder of the tests.
pub fn tests_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// Compares a text with `tests/golden/NAME`; with `UPDATE_GOLDENS=1` in the environment, writes it.
///
/// # Panics
/// If they differ, with the difference.
pub fn assert_golden(name: &str, actual: &str) {
    let path = tests_dir().join("golden").join(name);
    let actual = if actual.ends_with('\n') { actual.to_owned() } else { format!("{actual}\n") };
    if std::env::var_os("UPDATE_GOLDENS").is_some_and(|value| value == "1") {
        let folder = path.parent().unwrap();
        fs::create_dir_all(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        fs::write(&path, actual).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!("tests/golden/{name}: {error}; run UPDATE_GOLDENS=1 cargo test to write it")
    });
    if expected == actual {
        return;
    }
    let mut difference = String::new();
    for change in similar::TextDiff::from_lines(&expected, &actual).iter_all_changes() {
        let sign = match change.tag() {
            similar::ChangeTag::Delete => '-',
            similar::ChangeTag::Insert => '+',
            similar::ChangeTag::Equal => ' ',
        };
        write!(difference, "{sign}{change}").unwrap();
    }
    panic!(
        "tests/golden/{name} differs (- golden, + now); if the new text is right, run \
         UPDATE_GOLDENS=1 cargo test\n{difference}"
    );
}
