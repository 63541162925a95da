//! A real sshd on a port of loopback, with users and a sudoers file that only it sees.

use std::net::SocketAddr;
use std::time::Duration;

use k8sha::net::Dialer;
use k8sha::ssh::{HostKey, Identity, KeyPair, Remote, Target};
use secrecy::ExposeSecret;

use crate::cell::{Cell, Running};
use crate::{loopback, wait};

/// Its login shell is bash and its sudo asks nothing, as for the user that cloud-init makes.
pub const KEEN: &str = "keen";
/// Its login shell is the system's `sh` and its sudo wants a password.
pub const ASKED: &str = "asked";

/// Outside the ports that the system gives away.
const PORT: u16 = 10022;

/// Debian's and Ubuntu's defaults, then our users.
const SUDOERS: &str = "Defaults env_reset\nDefaults mail_badpass\nDefaults use_pty\n\
     Defaults secure_path=\"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\"\n\
     root ALL=(ALL:ALL) ALL\nkeen ALL=(ALL) NOPASSWD:ALL\nasked ALL=(ALL) ALL\n";

/// A server that ends with the test.
pub struct Sshd {
    running: Running,
    address: SocketAddr,
    /// Its host key.
    pub host: KeyPair,
    /// The key that lets in.
    pub login: KeyPair,
    // Holds the server's files.
    _cell: Cell,
}

impl Sshd {
    /// A server like a node's.
    pub fn start() -> Self {
        let host = KeyPair::generate("host").unwrap();
        let private = host.private.expose_secret().to_owned();
        Self::with(host, &private, "")
    }

    /// A server whose host key file holds `private`, with more lines of configuration.
    pub fn with(host: KeyPair, private: &str, more: &str) -> Self {
        let login = KeyPair::generate("k8sha").unwrap();
        let address = SocketAddr::new(loopback::address().into(), PORT);
        let config = format!(
            "ListenAddress {address}\nHostKey /run/k8sha/host_key\nPidFile none\nUsePAM no\n\
             AuthorizedKeysFile /run/k8sha/keys/%u\nStrictModes no\nLogLevel DEBUG1\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nUseDNS no\n{more}"
        );
        let with_users = |path: &str, lines: &str| std::fs::read_to_string(path).unwrap() + lines;
        let passwd = with_users(
            "/etc/passwd",
            "keen:x:64101:64101::/run/home:/bin/bash\nasked:x:64102:64102::/run/home:/bin/sh\n",
        );
        let shadow = with_users("/etc/shadow", "keen:*:19000::::::\nasked:*:19000::::::\n");
        let group = with_users("/etc/group", "keen:x:64101:\nasked:x:64102:\n");
        let cell = Cell::new()
            .empty("/run")
            .empty("/run/sshd")
            .empty("/run/home")
            .after("chmod 1777 /run/home")
            .file("/run/k8sha/host_key", private, 0o600)
            .file("/run/k8sha/sshd_config", &config, 0o644)
            .file(&format!("/run/k8sha/keys/{KEEN}"), &login.public, 0o644)
            .file(&format!("/run/k8sha/keys/{ASKED}"), &login.public, 0o644)
            .file("/etc/passwd", &passwd, 0o644)
            .file("/etc/shadow", &shadow, 0o640)
            .file("/etc/group", &group, 0o644)
            .file("/etc/sudoers", SUDOERS, 0o440);
        let running = cell.start(&["/usr/sbin/sshd", "-D", "-e", "-f", "/run/k8sha/sshd_config"]);
        wait::until(
            "sshd listens",
            Duration::from_secs(10),
            || running.log().contains("Server listening on").then_some(()),
            || running.log(),
        );
        Self { running, address, host, login, _cell: cell }
    }

    /// How one of its users is reached.
    pub fn target(&self, user: &str) -> Target {
        Target {
            node: "k8s1master1".into(),
            address: self.address,
            user: user.to_owned(),
            host_key: HostKey::parse(&self.host.public).unwrap(),
            keys: Identity::from_openssh(&self.login.private).unwrap().into(),
            sudo_password: None,
            dialer: Dialer::direct(),
        }
    }

    /// One of its users.
    pub fn remote(&self, user: &str) -> Remote {
        Remote::new(self.target(user))
    }

    /// Everything that it has logged.
    pub fn log(&self) -> String {
        self.running.log()
    }

    /// Waits until it has logged the end of a connection that came to no login.
    pub fn wait_for_a_stranger_to_leave(&self) {
        let left = |line: &str| {
            line.starts_with("Connection closed by") || line.starts_with("Connection reset by")
        };
        let found = || self.log().lines().any(left).then_some(());
        wait::until("a connection ends", Duration::from_secs(10), found, || self.log());
    }

    /// Ends it and all its sessions, without warning.
    pub fn kill(&mut self) {
        self.running.kill();
    }
}
