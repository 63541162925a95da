//! Turns environment variables and files into settings. The only reader of environment variables.

use std::env;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use crate::cluster::{HostName, Trust};
use crate::error::{Exit, Failure};
use crate::files::{Kind, read, read_text};
use crate::proxmox::{self, Auth, rights};
use crate::secrets::register;
use crate::text::one_line;

/// An API token, `USER@REALM!NAME=SECRET`.
pub const TOKEN: &str = "K8SHA_PVE_TOKEN";
/// A user to log in as, `USER@REALM`, if no token is given.
pub const USER: &str = "K8SHA_PVE_USER";
/// That user's password.
pub const PASSWORD: &str = "K8SHA_PVE_PASSWORD";

/// The profile, if `--profile` names none.
pub const PROFILE: &str = "K8SHA_PROFILE";

/// The passphrase of the private key that the profile or `--identity` names.
pub const PASSPHRASE: &str = "K8SHA_SSH_PASSPHRASE";
/// The login user's password on the nodes, if sudo there requires one.
pub const SUDO_PASSWORD: &str = "K8SHA_SUDO_PASSWORD";

/// The credentials for a host.
///
/// Looked up in this order: `K8SHA_PVE_TOKEN_<HOST>`, `K8SHA_PVE_TOKEN` (each also as `…_FILE`),
/// then `K8SHA_PVE_USER` with `K8SHA_PVE_PASSWORD` (or its `_FILE`, or a prompt on a terminal).
///
/// # Errors
/// When no credentials are given, or a named file cannot be read.
pub fn auth(host: &HostName) -> Result<Auth, Failure> {
    let own = format!("{TOKEN}_{}", variable(host));
    for name in [own.as_str(), TOKEN] {
        if let Some(token) = secret(name)? {
            return Ok(Auth::Token(token));
        }
    }
    let Some(user) = plain(USER) else {
        return Err(Failure::new(Exit::Usage, "log in to Proxmox VE", "no API token is given")
            .on(host)
            .hint(format!(
                "create a user with the least role, and its token, as root on the host:\n\
                 pveum user add k8sha@pve\n\
                 pveum role add {role} --privs \"{privileges}\"\n\
                 pveum acl modify / --users k8sha@pve --roles {role}\n\
                 pveum user token add k8sha@pve k8sha --privsep 0\n\
                 then, here: export {TOKEN}='k8sha@pve!k8sha=SECRET'     (or {own}, or {TOKEN}_FILE=PATH)",
                role = rights::ROLE,
                privileges = rights::PRIVILEGES.join(" "),
            )));
    };
    let password = match secret(PASSWORD)? {
        Some(password) => password,
        None => prompt(&user, host)?,
    };
    Ok(Auth::Ticket { user, password })
}

/// How a host's certificate is verified, with the contents of the CA file.
///
/// # Errors
/// When that file cannot be read.
pub fn trust(host: &HostName, trust: &Trust) -> Result<proxmox::Trust, Failure> {
    match trust {
        Trust::Fingerprint(pin) => Ok(proxmox::Trust::Fingerprint(*pin)),
        Trust::CaFile(path) => {
            let file = path.display().to_string();
            let pem = read(path, Kind::Certificate).map_err(|error| {
                let said = format!("cannot read the CA file `{file}`: {error}");
                Failure::new(Exit::Usage, "set up the client", said).on(host).because(error)
            })?;
            Ok(proxmox::Trust::Authority { file, pem })
        }
    }
}

/// A host's name as part of a variable's name.
fn variable(host: &HostName) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    host.as_str().chars().map(letter).collect()
}

/// The value of a variable that is set and not empty.
pub fn plain(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn secret(name: &str) -> Result<Option<SecretString>, Failure> {
    if let Some(value) = plain(name) {
        return Ok(Some(register(value.into())));
    }
    let Some(path) = plain(&format!("{name}_FILE")) else { return Ok(None) };
    let text = read_text(Path::new(&path), Kind::Secret).map_err(|error| {
        let said = format!("`{path}` (from {name}_FILE): {error}");
        Failure::new(Exit::Usage, "read a secret", said).because(error)
    })?;
    Ok(Some(register(text.trim().to_owned().into())))
}

/// The passphrase of a private key: `K8SHA_SSH_PASSPHRASE`, its `_FILE`, or a prompt on a terminal.
///
/// # Errors
/// When none of these is available, or a named file cannot be read.
pub fn passphrase(key: &Path) -> Result<SecretString, Failure> {
    if let Some(passphrase) = secret(PASSPHRASE)? {
        return Ok(passphrase);
    }
    let question = format!("passphrase of {}: ", one_line(&key.display().to_string()));
    rpassword::prompt_password(question).map(|typed| register(typed.into())).map_err(|error| {
        Failure::caused(Exit::Usage, "ask for a passphrase", error).on(key.display()).hint(format!(
            "set {PASSPHRASE} or {PASSPHRASE}_FILE, or add the key to your ssh-agent (`ssh-add`)"
        ))
    })
}

/// The login user's password on the nodes, if one is given.
///
/// # Errors
/// When a named file cannot be read.
pub fn sudo_password() -> Result<Option<SecretString>, Failure> {
    secret(SUDO_PASSWORD)
}

/// The socket of the operator's ssh-agent.
pub fn ssh_agent() -> Option<PathBuf> {
    plain("SSH_AUTH_SOCK").map(PathBuf::from)
}

/// The `known_hosts` files that OpenSSH reads too: the operator's and the system's.
pub fn known_hosts() -> Vec<PathBuf> {
    let own = plain("HOME").map(|home| PathBuf::from(home).join(".ssh/known_hosts"));
    own.into_iter().chain([PathBuf::from("/etc/ssh/ssh_known_hosts")]).collect()
}

fn prompt(user: &str, host: &HostName) -> Result<SecretString, Failure> {
    let question = format!("password of {user} on {host}: ");
    let typed = rpassword::prompt_password(one_line(&question));
    typed.map(|typed| register(typed.into())).map_err(|error| {
        Failure::caused(Exit::Usage, "ask for a password", error)
            .on(host)
            .hint(format!("set {PASSWORD}, {PASSWORD}_FILE or {TOKEN}"))
    })
}

/// The folder for the state of all clusters: `$XDG_STATE_HOME/k8sha`, or else
/// `~/.local/state/k8sha`.
///
/// # Errors
/// When neither variable is set.
pub fn state_home() -> Result<PathBuf, Failure> {
    if let Some(home) = plain("XDG_STATE_HOME") {
        return Ok(PathBuf::from(home).join("k8sha"));
    }
    plain("HOME").map(|home| PathBuf::from(home).join(".local/state/k8sha")).ok_or_else(|| {
        Failure::new(Exit::Usage, "find the state folder", "neither XDG_STATE_HOME nor HOME is set")
            .hint("name a folder with `--state`".to_owned())
    })
}

/// The user who became root through `sudo` (sudo(8), `SUDO_UID`).
pub fn sudo_user() -> Option<u32> {
    plain("SUDO_UID")?.parse().ok()
}

/// The terminal's type, for a program that draws on it.
pub fn terminal() -> String {
    plain("TERM").unwrap_or_else(|| "dumb".to_owned())
}

/// Whether the operator has disabled colours (<https://no-color.org>).
pub fn no_color() -> bool {
    plain("NO_COLOR").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hosts_own_variable_is_named_after_it() {
        assert_eq!(variable(&HostName("pve-2.lab".to_owned())), "PVE_2_LAB");
    }
}
