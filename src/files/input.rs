//! The only reader of input files. It reads regular files only, each up to the size limit of its
//! kind.
//!
//! A device has no end, and a FIFO may never have a writer. A path that a user gives by mistake, or
//! a profile on purpose, must not use up the memory or block forever.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

#[cfg(feature = "simulate")]
use super::named;

/// The kind of a file, which determines its size limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A profile. A table of 800 rows with every column written out has 200 KiB.
    Profile,
    /// A manifest of the pod network. Calico's operator and its resources have 2 MiB; an object
    /// of Kubernetes may have 1.5 MiB in etcd.
    Manifest,
    /// A private or public key. An RSA key of 16,384 bits has 13 KiB in PEM.
    Key,
    /// Certificates in PEM. All CAs of a browser have 250 KiB.
    Certificate,
    /// A `known_hosts` file: 100 bytes a line, for 100,000 machines.
    KnownHosts,
    /// A kubeconfig: some 6 KiB for each cluster, for a thousand clusters.
    Kubeconfig,
    /// A token, password or passphrase. Proxmox VE limits passwords to 64 characters.
    Secret,
    /// A file of k8sha's state folder: ids, keys and lists of hosts.
    State,
    /// A cloud-init template. Seeds are read into memory by the node and have some 100 KiB.
    Template,
    /// The output of `k8sha sim`.
    #[cfg(feature = "simulate")]
    Endpoints,
    /// A schema of Proxmox VE's API. That of PVE 9 has 4 MiB.
    #[cfg(feature = "simulate")]
    Schema,
    /// A table of the kernel, which reports a size of zero.
    Kernel,
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

impl Kind {
    /// The size limit of such a file, in bytes.
    pub const fn most(self) -> u64 {
        match self {
            Self::Profile | Self::Certificate | Self::State | Self::Template => MIB,
            #[cfg(feature = "simulate")]
            Self::Endpoints => MIB,
            Self::Manifest | Self::KnownHosts => 16 * MIB,
            Self::Key => 64 * KIB,
            Self::Kubeconfig | Self::Kernel => 8 * MIB,
            Self::Secret => 16 * KIB,
            #[cfg(feature = "simulate")]
            Self::Schema => 64 * MIB,
        }
    }

    const fn noun(self) -> &'static str {
        match self {
            Self::Profile => "a profile",
            Self::Manifest => "a manifest",
            Self::Key => "a key",
            Self::Certificate => "a certificate",
            Self::KnownHosts => "a known_hosts file",
            Self::Kubeconfig => "a kubeconfig",
            Self::Secret => "a secret",
            Self::State => "a file of the state folder",
            Self::Template => "a template",
            #[cfg(feature = "simulate")]
            Self::Endpoints => "a simulator's endpoints",
            #[cfg(feature = "simulate")]
            Self::Schema => "an API schema",
            Self::Kernel => "a table of the kernel",
        }
    }
}

/// Reads a file.
///
/// # Errors
/// The system's error, or that it is not a regular file or exceeds the limit. The error does not
/// name the path: the caller knows it.
pub fn read(path: &Path, kind: Kind) -> io::Result<Vec<u8>> {
    let file = open(path, kind)?;
    let most = kind.most();
    let mut bytes = Vec::new();
    // A file may grow while it is read, and a file of the kernel reports a size of zero.
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(too_large(kind)) } else { Ok(bytes) }
}

/// Reads a file of text.
///
/// # Errors
/// As [`read`]; if the file is not UTF-8, the line and the byte.
pub fn read_text(path: &Path, kind: Kind) -> io::Result<String> {
    String::from_utf8(read(path, kind)?).map_err(|error| {
        let (bytes, at) = (error.as_bytes(), error.utf8_error().valid_up_to());
        let line = 1 + bytes[..at].iter().filter(|byte| **byte == b'\n').count();
        let begin = bytes[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let byte = bytes.get(at).copied().unwrap_or_default();
        let place = format!("line {line}, byte {} of it", at - begin + 1);
        let said = format!("{place}: 0x{byte:02x} is not UTF-8; save the file as UTF-8");
        io::Error::new(io::ErrorKind::InvalidData, said)
    })
}

/// Checks that a file that another module reads is readable.
///
/// # Errors
/// As [`read`], with the path.
#[cfg(feature = "simulate")]
pub fn check(path: &Path, kind: Kind) -> io::Result<()> {
    open(path, kind).map(drop).map_err(|error| named(path, error))
}

fn open(path: &Path, kind: Kind) -> io::Result<File> {
    // Without O_NONBLOCK, opening a FIFO waits for a writer (open(2)). The file type is also
    // checked before the file is opened: opening a device may have side effects.
    refuse(std::fs::metadata(path)?.file_type())?;
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let seen = file.metadata()?;
    refuse(seen.file_type())?;
    if seen.len() > kind.most() { Err(too_large(kind)) } else { Ok(file) }
}

fn refuse(file_type: std::fs::FileType) -> io::Result<()> {
    let what = match file_type {
        kind if kind.is_file() => return Ok(()),
        kind if kind.is_dir() => "a folder",
        kind if kind.is_fifo() => "a pipe (FIFO)",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    };
    let said = format!("it is {what}, but only regular files are read");
    Err(io::Error::new(io::ErrorKind::InvalidInput, said))
}

fn too_large(kind: Kind) -> io::Error {
    let (noun, most) = (kind.noun(), kind.most());
    let most =
        if most >= MIB { format!("{} MiB", most / MIB) } else { format!("{} KiB", most / KIB) };
    let said = format!("the file is too large for {noun}: the limit is {most}");
    io::Error::new(io::ErrorKind::FileTooLarge, said)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(path: &Path, kind: Kind) -> String {
        read_text(path, kind).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(said(&fifo, Kind::Profile).contains("a pipe (FIFO)"));
        assert!(said(folder.path(), Kind::Key).contains("a folder"));
        assert!(said(Path::new("/dev/zero"), Kind::Manifest).contains("a device"));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        assert!(said(&link, Kind::Secret).contains("a device"));
    }

    #[test]
    fn a_file_is_read_up_to_the_size_of_its_kind_and_not_beyond() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        for kind in [Kind::Profile, Kind::Key, Kind::Secret, Kind::Manifest] {
            let file = File::create(&path).unwrap();
            file.set_len(kind.most()).unwrap();
            assert_eq!(read(&path, kind).unwrap().len() as u64, kind.most());
            file.set_len(kind.most() + 1).unwrap();
            assert!(said(&path, kind).contains("too large"), "{kind:?}");
        }
    }

    #[test]
    fn a_file_that_is_not_utf_8_is_told_by_line_and_byte() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, b"a: 1\nb: \xffx\n").unwrap();
        let want = "line 2, byte 4 of it: 0xff is not UTF-8; save the file as UTF-8";
        assert_eq!(said(&path, Kind::Profile), want);
    }
}
