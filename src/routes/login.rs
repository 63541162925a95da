//! SSH access to a Proxmox VE host: its address, its host key, and k8sha's credentials.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

use secrecy::SecretString;

use super::Host;
use crate::clock::Clock;
use crate::cluster::{Cluster, Host as Settings, HostName};
use crate::error::{Exit, Failure};
use crate::files::{self, Kind};
use crate::net::Dialer;
use crate::secrets;
use crate::ssh::{HostKey, Identity, Keys, Known, Remote, Target};

const SSH_PORT: u16 = 22;

/// All hosts of the profile. Each host key is known before the first connection.
///
/// # Errors
/// When the private key is not set or not usable, or a host's own key or address is not known.
pub async fn hosts(cluster: &Cluster, dialer: &Dialer) -> Result<Vec<Host>, Failure> {
    let login = &cluster.proxmox.ssh;
    let identity = identity(login.identity.as_deref())?;
    let mut hosts = Vec::new();
    for (name, settings) in &cluster.proxmox.hosts {
        let (host, port) = place(settings);
        let host_key = host_key(cluster, name, settings, host, port)?;
        hosts.push(Host {
            name: name.clone(),
            remote: Remote::new(Target {
                node: name.to_string(),
                address: resolve(name, host, port).await?,
                user: login.user.clone(),
                host_key,
                keys: Keys::from(identity.clone()),
                sudo_password: None,
                dialer: dialer.clone(),
                clock: Clock::real(),
            }),
            is_root: login.user == "root",
        });
    }
    Ok(hosts)
}

fn identity(path: Option<&Path>) -> Result<Identity, Failure> {
    let doing = "log in to the Proxmox VE hosts";
    let Some(path) = path else {
        return Err(Failure::new(Exit::Usage, doing, "the profile sets no SSH key for the hosts")
            .hint(
                "`proxmox: { ssh: { identity: FILE } }`, a private key that the hosts know"
                    .to_owned(),
            ));
    };
    let named = |said: &dyn fmt::Display| {
        Failure::new(Exit::Usage, doing, format!("`{}`: {said}", path.display()))
    };
    let pem = files::read_text(path, Kind::Key).map_err(|error| named(&error).because(error))?;
    let pem = secrets::register(SecretString::from(pem));
    Identity::from_openssh(&pem).map_err(|error| named(&error).because(error))
}

/// The host and port of its SSH server.
fn place(settings: &Settings) -> (&str, u16) {
    let of_api = || {
        let rest = settings.endpoint.trim_start_matches("https://");
        rest.split(':').next().unwrap_or(rest)
    };
    match settings.ssh_address.as_deref() {
        None => (of_api(), SSH_PORT),
        Some(address) => match address.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().unwrap_or(SSH_PORT)),
            None => (address, SSH_PORT),
        },
    }
}

fn host_key(
    cluster: &Cluster,
    name: &HostName,
    settings: &Settings,
    host: &str,
    port: u16,
) -> Result<HostKey, Failure> {
    let doing = "verify the host's SSH key";
    if let Some(line) = &settings.ssh_host_key {
        return HostKey::parse(line)
            .map_err(|error| Failure::caused(Exit::Usage, doing, error).on(name));
    }
    let hint = format!(
        "read it on {name} itself (`cat /etc/ssh/ssh_host_ed25519_key.pub`) and set it as \
         `ssh_host_key`;\nk8sha does not trust unverified host keys"
    );
    let Some(file) = &cluster.proxmox.ssh.known_hosts else {
        let said = "the profile has neither `ssh_host_key` for it nor `known_hosts`";
        return Err(Failure::new(Exit::Usage, doing, said).on(name).hint(hint));
    };
    let fail = |said: String| {
        let said = format!("`{}`: {said}", file.display());
        Failure::new(Exit::Usage, doing, said).on(name).hint(hint)
    };
    let text = match files::read_text(file, Kind::KnownHosts) {
        Ok(text) => text,
        Err(error) => return Err(fail(error.to_string()).because(error)),
    };
    let mut known = Known::default();
    known.read(&text, host, port);
    known.only().map_err(fail)
}

async fn resolve(name: &HostName, host: &str, port: u16) -> Result<SocketAddr, Failure> {
    let doing = "find the host";
    let found = tokio::net::lookup_host((host, port)).await;
    let mut found = found.map_err(|error| {
        Failure::new(Exit::Node, doing, format!("`{host}`: {error}")).on(name).because(error)
    })?;
    // The dropped packets are IPv4; the SSH connection may use IPv4 or IPv6.
    found
        .next()
        .ok_or_else(|| Failure::new(Exit::Node, doing, format!("`{host}` has no address")).on(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fixture::k8s1;
    use crate::ssh::KeyPair;
    use secrecy::ExposeSecret as _;

    fn cluster(folder: &Path) -> Cluster {
        let mut cluster = k8s1();
        let pair = KeyPair::generate("me").unwrap();
        let key = folder.join("key");
        std::fs::write(&key, pair.private.expose_secret()).unwrap();
        cluster.proxmox.ssh.identity = Some(key);
        let host = Settings {
            endpoint: "https://127.0.0.1:8006".into(),
            trust: None,
            ssh_address: None,
            ssh_host_key: Some(pair.public.clone()),
            storage: "local".into(),
            iso_storage: "local".into(),
            import_storage: "local".into(),
            templates: Default::default(),
        };
        cluster.proxmox.hosts.insert(HostName("pve1".into()), host);
        cluster
    }

    #[tokio::test]
    async fn a_host_is_where_its_api_is_unless_said_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let mut cluster = cluster(folder.path());
        for (address, want) in [
            (None, "127.0.0.1:22"),
            (Some("127.0.0.2"), "127.0.0.2:22"),
            (Some("127.0.0.2:2222"), "127.0.0.2:2222"),
        ] {
            let host = cluster.proxmox.hosts.get_mut(&HostName("pve1".into())).unwrap();
            host.ssh_address = address.map(str::to_owned);
            let hosts = hosts(&cluster, &Dialer::direct()).await.unwrap();
            assert_eq!(hosts[0].remote.address().to_string(), want);
            assert!(hosts[0].is_root);
        }
    }

    #[tokio::test]
    async fn who_knows_neither_key_gets_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let mut cluster = cluster(folder.path());
        let host = cluster.proxmox.hosts.get_mut(&HostName("pve1".into())).unwrap();
        host.ssh_host_key = None;
        let error = hosts(&cluster, &Dialer::direct()).await.unwrap_err().to_string();
        assert!(error.contains("neither `ssh_host_key`") && error.contains("pve1"), "{error}");
        cluster.proxmox.ssh.identity = None;
        let error = hosts(&cluster, &Dialer::direct()).await.unwrap_err().to_string();
        assert!(error.contains("sets no SSH key"), "{error}");
    }
}
