//! Checks that only its owner can write to a folder that holds keys.
//!
//! A user who can write to such a folder, or to a folder above it, can replace the keys in it,
//! whatever the modes of the files are. The state folder must meet the same requirements as
//! `~/.ssh` for OpenSSH (`safe_path` in its misc.c).

use std::fmt;
use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The mode bits that allow users other than the owner to write.
const OTHERS_WRITE: u32 = 0o022;
const GROUP_WRITES: u32 = 0o020;
const STICKY: u32 = 0o1000;

/// Why a folder is not trusted, and what to do about it.
#[derive(Debug)]
pub enum Unsafe {
    /// Its metadata cannot be read, or its mode cannot be set.
    Unseen(PathBuf, io::Error),
    /// Another user owns it.
    Owner {
        /// The folder or link.
        path: PathBuf,
        /// That user.
        owner: u32,
        /// The user who should own it.
        me: u32,
        /// Whether it is the folder itself, and not one above it.
        own: bool,
    },
    /// Others can write to it.
    Mode {
        /// The folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// Whether it is the folder itself, and not one above it.
        own: bool,
    },
    /// It is not a folder.
    NoFolder(PathBuf),
}

impl fmt::Display for Unsafe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unseen(path, error) => write!(f, "`{}`: {error}", path.display()),
            Self::Owner { path, owner, me, .. } => write!(
                f,
                "`{}` belongs to user {owner}, and this is user {me}: its owner could replace the keys",
                path.display()
            ),
            Self::Mode { path, mode, .. } => write!(
                f,
                "`{}` has mode {mode:04o}: other users can write to it and could have replaced the \
                 keys",
                path.display()
            ),
            Self::NoFolder(path) => write!(f, "`{}` is not a folder", path.display()),
        }
    }
}

impl Unsafe {
    /// The next thing to try.
    pub fn hint(&self) -> Option<String> {
        const ELSE: &str = "or choose another folder with `--state`";
        match self {
            Self::Unseen(..) => None,
            Self::Owner { path, me, own: true, .. } => Some(format!(
                "chown -R {me} {}     (if you know what is in it), {ELSE}",
                word(path)
            )),
            Self::Mode { path, own: true, .. } => Some(format!(
                "chmod 700 {}     (if nothing in it was changed by others), {ELSE}",
                word(path)
            )),
            Self::Mode { path, .. } => Some(format!("chmod go-w {}     {ELSE}", word(path))),
            Self::Owner { .. } | Self::NoFolder(_) => {
                Some("choose another folder with `--state`".to_owned())
            }
        }
    }
}

/// A path quoted as a single shell word.
fn word(path: &Path) -> String {
    let text = path.display().to_string();
    let bare = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if text.chars().all(bare) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Ensures that only this user and root can change the contents of a folder. A folder that others
/// can only read is closed to them.
///
/// `person` is the user who became root through `sudo`: what they own is trusted like this user's
/// own.
///
/// # Errors
/// The first folder of the path that others can write to, or that another user owns.
pub fn closed(folder: &Path, person: Option<u32>) -> Result<(), Unsafe> {
    let unseen = |path: &Path| {
        let path = path.to_owned();
        move |error| Unsafe::Unseen(path, error)
    };
    let me = rustix::process::geteuid().as_raw();
    let trusted = |owner: u32| owner == me || (me == 0 && person == Some(owner));
    let real = fs::canonicalize(folder).map_err(unseen(folder))?;
    let seen = fs::metadata(&real).map_err(unseen(&real))?;
    if !seen.is_dir() {
        return Err(Unsafe::NoFolder(real));
    }
    if !trusted(seen.uid()) {
        return Err(Unsafe::Owner { path: real, owner: seen.uid(), me, own: true });
    }
    if seen.mode() & OTHERS_WRITE != 0 {
        return Err(Unsafe::Mode { path: real, mode: seen.mode() & 0o7777, own: true });
    }
    if seen.mode() & 0o077 != 0 {
        fs::set_permissions(&real, Permissions::from_mode(0o700)).map_err(unseen(&real))?;
    }
    // The path as it was typed, with its links, and the path that it resolves to.
    let typed = std::path::absolute(folder).map_err(unseen(folder))?;
    for above in typed.ancestors().chain(real.ancestors().skip(1)) {
        let seen = fs::symlink_metadata(above).map_err(unseen(above))?;
        if above.parent().is_some() && seen.uid() != 0 && !trusted(seen.uid()) {
            let (path, owner) = (above.to_owned(), seen.uid());
            return Err(Unsafe::Owner { path, owner, me, own: false });
        }
        if seen.is_dir() && is_open(&seen) {
            let (path, mode) = (above.to_owned(), seen.mode() & 0o7777);
            return Err(Unsafe::Mode { path, mode, own: false });
        }
    }
    Ok(())
}

/// Whether others can rename its entries. In a sticky folder, such as `/tmp`, only the owner of an
/// entry can; a group with the same id as its user has only that user as a member (user private
/// groups).
fn is_open(seen: &Metadata) -> bool {
    let writers = seen.mode() & OTHERS_WRITE;
    let private_group = writers == GROUP_WRITES && seen.gid() == seen.uid();
    writers != 0 && seen.mode() & STICKY == 0 && !private_group
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn made(path: &Path, mode: u32) {
        fs::create_dir_all(path).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_folder_that_others_write_to_is_refused_with_the_fix() {
        let base = tempfile::tempdir().unwrap();
        let state = base.path().join("it's/state");
        for mode in [0o777, 0o770, 0o720, 0o1777] {
            made(&state, mode);
            let why = closed(&state, None).unwrap_err();
            assert!(matches!(why, Unsafe::Mode { own: true, .. }), "{why}");
            assert!(why.hint().unwrap().starts_with("chmod 700 '"), "{why}");
            let now = fs::metadata(&state).unwrap().permissions().mode() & 0o7777;
            assert_eq!(now, mode, "what may have been swapped is not trusted by closing it");
        }
    }

    #[test]
    fn a_folder_that_others_only_look_into_is_closed() {
        let base = tempfile::tempdir().unwrap();
        let state = base.path().join("state");
        made(&state, 0o755);
        closed(&state, None).unwrap();
        assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o7777, 0o700);
    }

    #[test]
    fn a_folder_above_that_others_write_to_is_refused_unless_it_is_sticky() {
        let base = tempfile::tempdir().unwrap();
        let (above, state) = (base.path().join("above"), base.path().join("above/state"));
        made(&state, 0o700);
        made(&above, 0o777);
        let why = closed(&state, None).unwrap_err();
        assert!(matches!(why, Unsafe::Mode { own: false, .. }), "{why}");
        assert!(why.hint().unwrap().starts_with("chmod go-w "), "{why}");
        made(&above, 0o1777);
        closed(&state, None).unwrap();
    }

    #[test]
    fn a_link_is_followed_and_the_folders_on_both_ways_are_looked_at() {
        let base = tempfile::tempdir().unwrap();
        let (open, state) = (base.path().join("open"), base.path().join("real/state"));
        made(&state, 0o700);
        made(&open, 0o755);
        symlink(&state, open.join("link")).unwrap();
        closed(&open.join("link"), None).unwrap();
        made(&open, 0o777);
        assert!(closed(&open.join("link"), None).is_err(), "others could turn the link");
        made(&open, 0o755);
        made(&base.path().join("real"), 0o777);
        assert!(closed(&open.join("link"), None).is_err());
    }

    #[test]
    fn another_owner_is_refused_but_for_the_person_behind_sudo() {
        if !rustix::process::geteuid().is_root() {
            // Only root can change the owner of a folder; other users test with a folder that root
            // owns.
            let why = closed(Path::new("/usr"), None).unwrap_err();
            assert!(matches!(why, Unsafe::Owner { own: true, owner: 0, .. }), "{why}");
            return;
        }
        let base = tempfile::tempdir().unwrap();
        let state = base.path().join("state");
        made(&state, 0o700);
        std::os::unix::fs::chown(&state, Some(12_345), None).unwrap();
        let why = closed(&state, None).unwrap_err();
        assert!(why.hint().unwrap().starts_with("chown -R 0 "), "{why}");
        closed(&state, Some(12_345)).unwrap();
    }
}
