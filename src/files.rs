//! Files on the operator's machine. Reads are bounded. Private files have mode 0600, are in folders
//! of mode 0700, and are written atomically.

mod guard;
mod input;

pub use guard::closed;
#[cfg(feature = "simulate")]
pub use input::check;
pub use input::{Kind, read, read_text};

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Creates a folder that only its owner can enter; an existing one stays unchanged.
///
/// # Errors
/// The system's error, with the path.
pub fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| named(path, error))
}

/// Writes a file that only its owner can read. It is first written next to its destination, then
/// renamed, so that a full disk or a crash leaves the old file intact.
///
/// # Errors
/// The system's error, with the path.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let write = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        // A new file has this mode from the beginning; an existing one would keep its own.
        let options = options.write(true).create_new(true).mode(0o600);
        let mut file = match options.open(&beside) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&beside)?;
                options.open(&beside)?
            }
            opened => opened?,
        };
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&beside);
        named(path, error)
    })
}

/// Reads a file of the state folder; `None` if there is none.
///
/// # Errors
/// The system's error, with the path.
pub fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match read(path, Kind::State) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(named(path, error)),
    }
}

/// The system's error, with the path.
#[derive(Debug, thiserror::Error)]
#[error("`{}`: {source}", path.display())]
struct Named {
    path: PathBuf,
    source: io::Error,
}

fn named(path: &Path, source: io::Error) -> io::Error {
    io::Error::new(source.kind(), Named { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn an_error_with_its_path_keeps_the_systems_error_as_its_source() {
        let error = named(Path::new("/etc/k8sha"), io::ErrorKind::PermissionDenied.into());
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(error.to_string(), "`/etc/k8sha`: permission denied");
        let source = std::error::Error::source(&error).and_then(|error| error.downcast_ref());
        assert_eq!(source.map(io::Error::kind), Some(io::ErrorKind::PermissionDenied));
    }

    #[test]
    fn a_private_file_is_readable_by_its_owner_only_and_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("a/b");
        private_folder(&place).unwrap();
        let file = place.join("secret");
        write_private(&file, b"one").unwrap();
        write_private(&file, b"two").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(&place).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_lies_where_a_private_file_is_written_gives_it_neither_its_mode_nor_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        let beside = file.with_extension(format!("{}.new", std::process::id()));
        fs::write(&beside, "left by a killed run").unwrap();
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o666)).unwrap();
        write_private(&file, b"x").unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let elsewhere = folder.path().join("elsewhere");
        std::os::unix::fs::symlink(&elsewhere, &beside).unwrap();
        write_private(&file, b"y").unwrap();
        assert!(!elsewhere.exists());
    }

    #[test]
    fn an_error_names_the_path() {
        let error = write_private(Path::new("/dev/null/secret"), b"x").unwrap_err();
        assert!(error.to_string().contains("/dev/null/secret"), "{error}");
    }
}
