//! The root file system that all machines share: built once from Debian packages, or the user's own.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use super::{Error, command, file, private_folder};

/// The folder that caches root file systems between runs.
const CACHE: &str = "/var/cache/k8sha/root";
const SCRIPT: &str = include_str!("root.sh");

/// The one of Debian packages, built if it does not exist.
pub(super) fn built(suite: &str, say: &impl Fn(&str)) -> Result<PathBuf, Error> {
    let name = format!("{suite}-{}", short(&[SCRIPT, suite, std::env::consts::ARCH]));
    kept(&name, |folder| {
        say(&format!(
            "building the machines' root file system from Debian packages ({suite}); this happens \
             once and takes some minutes"
        ));
        let log = folder.with_extension("log");
        let output = fs::File::create(&log).map_err(file("write the build log"))?;
        let errors = output.try_clone().map_err(file("write the build log"))?;
        let script = folder.with_extension("sh");
        fs::write(&script, SCRIPT).map_err(file("write the build script"))?;
        let status = Command::new("sh")
            .arg(&script)
            .arg(folder)
            .arg(suite)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .status()
            .map_err(file("build the root file system"))?;
        let _ = fs::remove_file(&script);
        if status.success() {
            return fs::remove_file(&log).map_err(file("remove the build log"));
        }
        let text = fs::read_to_string(&log).unwrap_or_default();
        let last: Vec<&str> = text.lines().rev().take(20).collect();
        Err(Error::Command {
            command: "mmdebstrap".to_owned(),
            said: last.into_iter().rev().collect::<Vec<_>>().join("\n"),
        })
    })
}

/// The user's own: a folder is used directly, an archive is unpacked once.
pub(super) fn own(path: &Path, say: &impl Fn(&str)) -> Result<PathBuf, Error> {
    let doing = || format!("use the root file system `{}`", path.display());
    let path = fs::canonicalize(path).map_err(file(doing()))?;
    let about = fs::metadata(&path).map_err(file(doing()))?;
    if about.is_dir() {
        return Ok(path);
    }
    let changed = about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let facts = format!("{} {} {changed:?}", path.display(), about.len());
    kept(&format!("own-{}", short(&[&facts])), |folder| {
        say(&format!("unpacking `{}`, once", path.display()));
        fs::create_dir_all(folder).map_err(file("create its folder"))?;
        let (archive, to) = (path.display().to_string(), folder.display().to_string());
        let words = ["tar", "--numeric-owner", "--xattrs", "-xpf", &archive, "-C", &to];
        command(&words).map(drop)
    })
}

/// A folder of the cache: created under a temporary name and renamed when it is complete, by one
/// process at a time.
fn kept(name: &str, make: impl FnOnce(&Path) -> Result<(), Error>) -> Result<PathBuf, Error> {
    let cache = Path::new(CACHE);
    private_folder(cache)?;
    let place = cache.join(name);
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(cache.join(format!("{name}.lock")))
        .and_then(|lock| lock.lock().map(|()| lock))
        .map_err(file("lock the cache of root file systems"))?;
    if !place.is_dir() {
        let half = cache.join(format!("{name}.new"));
        match fs::remove_dir_all(&half) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(file(format!("remove `{}`", half.display()))(error));
            }
            _ => {}
        }
        make(&half)?;
        fs::rename(&half, &place).map_err(file(format!("keep `{}`", place.display())))?;
    }
    drop(lock);
    Ok(place)
}

fn short(parts: &[&str]) -> String {
    let hash = Sha256::digest(parts.join("\n"));
    hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}
