//! SSH access to the nodes: combines the profile, the command line and the user's own SSH
//! configuration.

use std::path::Path;

use secrecy::SecretString;

use super::args::AccessArgs;
use crate::cluster::{Access, Cluster, Jump};
use crate::error::{Exit, Failure};
use crate::files::{self, Kind};
use crate::net::Dialer;
use crate::secrets;
use crate::settings;
use crate::ssh::{self, HostKey, HostKeys, Identity, Keys, Known};
use crate::state::State;

/// SSH access to the nodes.
#[derive(Clone, Debug)]
pub(super) struct Way {
    /// How connections to their addresses are made.
    pub(super) dialer: Dialer,
    /// The keys offered to them.
    pub(super) keys: Keys,
    /// The password for sudo, if it asks for one.
    pub(super) sudo_password: Option<SecretString>,
}

/// Overrides the profile's access settings with the command line.
pub(super) fn typed_over(args: &AccessArgs, cluster: &mut Cluster) -> Result<(), Failure> {
    let access = &mut cluster.access;
    if let Some(jump) = &args.jump {
        // The same machine by another user has the same key.
        let known =
            access.jump.take().filter(|own| (&own.host, own.port) == (&jump.host, jump.port));
        let (host_key, known_hosts) =
            known.map_or((None, None), |own| (own.host_key, own.known_hosts));
        access.jump = Some(Jump { host_key, known_hosts, ..jump.clone() });
    }
    if let Some(key) = &args.jump_host_key {
        let Some(jump) = &mut access.jump else {
            return Err(Failure::new(
                Exit::Usage,
                "use `--jump-host-key`",
                "there is no jump host",
            )
            .hint("set one with `--jump`, or in the profile under `access`".to_owned()));
        };
        jump.host_key = Some(key.clone());
    }
    if let Some(file) = &args.identity {
        access.identity = Some(file.clone());
    }
    Ok(())
}

/// Access to simulated nodes: through the simulator's proxy, with k8sha's own key.
pub(super) fn simulated(state: &State, dialer: Dialer) -> Result<Way, Failure> {
    Ok(Way { dialer, keys: Keys::from(own_key(state)?), sudo_password: None })
}

/// Access to real nodes.
///
/// Nodes are offered k8sha's own key first, because their seed contains it. A jump host is offered
/// the user's keys first, as `ssh` does.
pub(super) fn real(access: &Access, state: &State) -> Result<Way, Failure> {
    let own = own_key(state)?;
    let identity = match &access.identity {
        None => None,
        Some(file) => Some((file.display().to_string(), identity(file)?)),
    };
    let theirs = |agent: bool, mut keys: Keys| {
        if let Some((name, identity)) = &identity {
            keys = keys.key(format!("`{name}`"), identity.clone());
        }
        match settings::ssh_agent().filter(|_| agent) {
            Some(socket) => keys.agent(socket),
            None => keys,
        }
    };
    if access.agent == Some(true) && settings::ssh_agent().is_none() {
        let said = "SSH_AUTH_SOCK is not set, and the profile says `agent: true`";
        return Err(Failure::new(Exit::Usage, "ask your ssh-agent for keys", said)
            .hint("eval \"$(ssh-agent)\" && ssh-add".to_owned()));
    }
    let dialer = match &access.jump {
        None => Dialer::direct(),
        Some(jump) => {
            let keys = theirs(access.agent != Some(false), Keys::none());
            let route = ssh::Jump {
                host: jump.host.clone(),
                port: jump.port,
                user: jump.user.clone(),
                host_keys: host_keys(jump)?,
                keys: keys.key(OWN, own.clone()),
            };
            Dialer::by(route.route())
        }
    };
    let keys = theirs(access.agent == Some(true), Keys::none().key(OWN, own));
    Ok(Way { dialer, keys, sudo_password: settings::sudo_password()? })
}

/// The name of the generated key in messages.
const OWN: &str = "k8sha's own key";

fn own_key(state: &State) -> Result<Identity, Failure> {
    Identity::from_openssh(&state.operator_key()?.private)
        .map_err(|error| Failure::caused(Exit::Local, "read our SSH key", error))
}

/// Reads the user's own private key. Asks for a passphrase only if the key has one.
fn identity(file: &Path) -> Result<Identity, Failure> {
    let doing = "read your private key";
    let failure =
        |error: &dyn std::fmt::Display| Failure::new(Exit::Usage, doing, error).on(file.display());
    let pem = files::read_text(file, Kind::Key).map_err(|error| failure(&error))?;
    let pem = secrets::register(SecretString::from(pem));
    let passphrase = Identity::is_locked(&pem).then(|| settings::passphrase(file)).transpose()?;
    Identity::unlock(&pem, passphrase.as_ref()).map_err(|error| failure(&error))
}

/// The trusted host keys of a jump host. k8sha never trusts a key on first use.
fn host_keys(jump: &Jump) -> Result<HostKeys, Failure> {
    let doing = "verify the jump host";
    if let Some(line) = &jump.host_key {
        return HostKey::parse(line)
            .map(HostKeys::from)
            .map_err(|error| Failure::caused(Exit::Usage, doing, error).on(jump).hint(pin(jump)));
    }
    let files = jump.known_hosts.clone().map_or_else(settings::known_hosts, |file| vec![file]);
    let mut known = Known::default();
    for file in &files {
        match files::read(file, Kind::KnownHosts) {
            Ok(bytes) => known.read(&String::from_utf8_lossy(&bytes), &jump.host, jump.port),
            // The default files may be missing; a file that was named must exist.
            Err(_) if jump.known_hosts.is_none() => {}
            Err(error) => {
                let said = format!("`{}`: {error}", file.display());
                let failure = Failure::new(Exit::Usage, doing, said).because(error);
                return Err(failure.on(jump).hint(pin(jump)));
            }
        }
    }
    known.keys().map_err(|why| {
        let files: Vec<String> = files.iter().map(|file| format!("`{}`", file.display())).collect();
        let said = format!(
            "{why} (searched {}); k8sha does not trust unverified host keys",
            files.join(", ")
        );
        Failure::new(Exit::Usage, doing, said).on(jump).hint(pin(jump))
    })
}

fn pin(jump: &Jump) -> String {
    let port = if jump.port == 22 { String::new() } else { format!("-p {} ", jump.port) };
    let known =
        if jump.port == 22 { jump.host.clone() } else { format!("[{}]:{}", jump.host, jump.port) };
    format!(
        "ssh-keyscan -t ed25519 {port}{} | tee jump.key; ssh-keygen -lf jump.key\n\
         compare with the output of `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the jump \
         host's own console;\n\
         if both match, set the key in the profile (`access.jump.host_key`), pass it with \
         `--jump-host-key`,\n\
         or append the line for `{known}` to ~/.ssh/known_hosts",
        jump.host
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cluster::fixture;
    use crate::ssh::KeyPair;

    fn args(jump: &str) -> AccessArgs {
        AccessArgs { jump: Some(jump.parse().unwrap()), jump_host_key: None, identity: None }
    }

    #[test]
    fn what_is_typed_wins_but_the_pin_of_the_same_machine_stays() {
        let mut cluster = fixture::k8s1();
        let pinned = Jump { host_key: Some("key".to_owned()), .."a@one".parse().unwrap() };
        cluster.access.jump = Some(pinned);
        typed_over(&args("b@one"), &mut cluster).unwrap();
        let jump = cluster.access.jump.clone().unwrap();
        assert_eq!((jump.user.as_str(), jump.host_key.as_deref()), ("b", Some("key")));
        typed_over(&args("b@two"), &mut cluster).unwrap();
        assert_eq!(cluster.access.jump.unwrap().host_key, None);
    }

    #[test]
    fn a_pin_without_a_jump_host_is_refused() {
        let mut cluster = fixture::k8s1();
        let args = AccessArgs { jump: None, jump_host_key: Some("key".to_owned()), identity: None };
        let failure = typed_over(&args, &mut cluster).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
    }

    #[test]
    fn a_jump_host_that_is_not_known_is_an_error_that_says_how_to_pin_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("known_hosts");
        let jump: Jump = "ops@bastion:2222".parse().unwrap();
        let jump = Jump { known_hosts: Some(file.clone()), ..jump };
        assert!(host_keys(&jump).unwrap_err().said.contains("No such file"));
        let key = KeyPair::generate("x").unwrap().public;
        fs::write(&file, format!("bastion {key}\n")).unwrap();
        let failure = host_keys(&jump).unwrap_err();
        assert!(failure.said.contains("its host key is not known"), "{failure}");
        let hint = failure.hint.unwrap();
        assert!(hint.starts_with("ssh-keyscan -t ed25519 -p 2222 bastion"), "{hint}");
        assert!(hint.contains("`[bastion]:2222`"), "{hint}");
        fs::write(&file, format!("[bastion]:2222 {key}\n")).unwrap();
        let found = host_keys(&jump).unwrap().fingerprints();
        assert_eq!(found, HostKey::parse(&key).unwrap().fingerprint());
    }

    #[test]
    fn a_private_key_that_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("id");
        assert!(identity(&file).unwrap_err().to_string().contains("No such file"));
        fs::write(&file, "nonsense").unwrap();
        let failure = identity(&file).unwrap_err();
        assert_eq!(failure.on.as_deref(), Some(file.display().to_string().as_str()));
        assert!(!failure.to_string().contains("nonsense"), "{failure}");
    }
}
