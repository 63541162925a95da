//! Root's files on a node.

use std::collections::BTreeMap;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::ParsedCertificate;
use sha2::{Digest, Sha256};

use super::error::Doing;
use super::{Error, path};
use crate::cause::cause;
use crate::ssh::{Command, Remote};

/// Whether a path exists.
pub(super) async fn exists(remote: &Remote, path: &str) -> Result<bool, Error> {
    let command = Command::sudo("test").args(["-e", path]);
    let output = remote.run(&command).await.doing(format!("look for `{path}`"))?;
    match output.code {
        0 => Ok(true),
        1 if output.stderr.is_empty() => Ok(false),
        _ => {
            // sudo exits with 1 too if it may not run the command: only its message shows the
            // difference.
            let error = remote.run_ok(&command).await.err();
            match error {
                None => Ok(true),
                Some(source) => Err(source).doing(format!("look for `{path}`")),
            }
        }
    }
}

/// A file's contents. May contain secrets.
pub(super) async fn read(remote: &Remote, path: &str) -> Result<String, Error> {
    let output =
        remote.run_ok(&Command::sudo("cat").arg(path)).await.doing(format!("read `{path}`"))?;
    Ok(output.stdout_text())
}

/// Writes a file that only root can read, and creates its parent folders.
pub(super) async fn write(remote: &Remote, path: &str, body: &[u8]) -> Result<(), Error> {
    write_for(remote, "root", path, body).await
}

/// Writes a file that only one user and root can read; the group has the user's name.
pub(super) async fn write_for(
    remote: &Remote,
    user: &str,
    path: &str,
    body: &[u8],
) -> Result<(), Error> {
    install(remote, user, "0600", path, body).await
}

/// Writes a file owned by root with these permission bits, in octal digits.
pub(super) async fn write_as(
    remote: &Remote,
    mode: &str,
    path: &str,
    body: &[u8],
) -> Result<(), Error> {
    install(remote, "root", mode, path, body).await
}

async fn install(
    remote: &Remote,
    user: &str,
    mode: &str,
    path: &str,
    body: &[u8],
) -> Result<(), Error> {
    let command = Command::sudo("install")
        .args(["-D", "-m", mode, "-o", user, "-g", user, "/dev/stdin", path])
        .stdin(body);
    remote.run_ok(&command).await.doing(format!("write `{path}`"))?;
    Ok(())
}

/// Copies a file, with its owner and its permissions.
pub(super) async fn copy(remote: &Remote, from: &str, to: &str) -> Result<(), Error> {
    let command = Command::sudo("cp").args(["-p", from, to]);
    remote.run_ok(&command).await.doing(format!("copy `{from}`"))?;
    Ok(())
}

/// Moves a file over another one atomically.
pub(super) async fn replace(remote: &Remote, from: &str, to: &str) -> Result<(), Error> {
    let command = Command::sudo("mv").args(["-f", from, to]);
    remote.run_ok(&command).await.doing(format!("write `{to}`"))?;
    Ok(())
}

/// Removes a file, if it exists.
pub(super) async fn remove(remote: &Remote, path: &str) -> Result<(), Error> {
    let command = Command::sudo("rm").args(["-f", path]);
    remote.run_ok(&command).await.doing(format!("remove `{path}`"))?;
    Ok(())
}

/// The SHA-256 of each file that exists, as hex digits.
pub(super) async fn hashes(
    remote: &Remote,
    paths: &[&str],
) -> Result<BTreeMap<String, String>, Error> {
    // Exits with 1 if a file is missing, and still prints the others.
    let command = Command::sudo("sha256sum").args(paths.iter().copied());
    let output = remote.run(&command).await.doing("compare files")?;
    if output.code > 1 {
        remote.run_ok(&command).await.doing("compare files")?;
    }
    Ok(output
        .stdout_text()
        .lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(hash, path)| (path.to_owned(), hash.to_owned()))
        .collect())
}

/// The hash by which a joining node verifies the cluster's CA: SHA-256 of its public key
/// (SubjectPublicKeyInfo), in the form of `--discovery-token-ca-cert-hash`.
pub(super) async fn ca_hash(master: &Remote) -> Result<String, Error> {
    let pem = read(master, path::CA).await?;
    spki_hash(&pem).map_err(|said| Error::Unread {
        what: format!("`{}`", path::CA),
        node: master.node().to_owned(),
        cause: cause(said),
    })
}

pub(super) fn spki_hash(pem: &str) -> Result<String, String> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| error.to_string())?;
    let certificate = ParsedCertificate::try_from(&der).map_err(|error| error.to_string())?;
    let key = certificate.subject_public_key_info();
    Ok(format!("sha256:{}", sha256(key.as_ref())))
}

/// SHA-256 as hex digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
