//! A real sshd on a loopback port, with users and a sudoers file that only it sees.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use k8sha::clock::Clock;
use k8sha::net::Dialer;
use k8sha::ssh::{HostKey, Identity, Jump, KeyPair, Remote, Target};
use secrecy::ExposeSecret;

use crate::cell::{Cell, Running};
use crate::{loopback, wait};

/// Its login shell is bash and its sudo needs no password, as for the user that cloud-init creates.
pub const KEEN: &str = "keen";
/// Its login shell is the system's `sh` and its sudo needs a password.
pub const ASKED: &str = "asked";
/// Its password, and its hash by `openssl passwd -6`.
pub const ASKED_PASSWORD: &str = "open sesame";
const ASKED_HASH: &str = "$6$k8sha$lM7wLT7UohW1Q14G8bZbnnsSZe2qWvZOJwrPuw7LHY8mdVn8RXLJPzVk0dCL0J1bVMi2LhYY2inau61E3y/wu.";

/// Outside the range of ephemeral ports.
pub const PORT: u16 = 10022;

/// Debian's and Ubuntu's defaults, then the test's users.
const SUDOERS: &str = "Defaults env_reset\nDefaults mail_badpass\nDefaults use_pty\n\
     Defaults secure_path=\"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\"\n\
     root ALL=(ALL:ALL) ALL\nkeen ALL=(ALL) NOPASSWD:ALL\nasked ALL=(ALL) ALL\n";

/// A server that ends with the test.
pub struct Sshd {
    running: Running,
    /// Its address.
    pub address: SocketAddr,
    /// Its host key.
    pub host: KeyPair,
    /// The accepted login key.
    pub login: KeyPair,
    // Holds the server's files.
    _cell: Cell,
}

/// The settings of a server.
pub struct Setup {
    cell: Cell,
    network: Option<String>,
    address: SocketAddr,
    host: KeyPair,
    host_file: String,
    keys: Vec<String>,
    more: String,
    sudoers: String,
    authority: String,
    second: Option<String>,
    files: Vec<(String, String)>,
}

impl Setup {
    /// Like a node's, on an address of loopback.
    pub fn new() -> Self {
        let host = KeyPair::generate("host").unwrap();
        Self {
            cell: Cell::new(),
            network: None,
            address: SocketAddr::new(loopback::address().into(), PORT),
            host_file: host.private.expose_secret().to_owned(),
            host,
            keys: Vec::new(),
            more: String::new(),
            sudoers: SUDOERS.to_owned(),
            authority: String::new(),
            second: None,
            files: Vec::new(),
        }
    }

    /// On a machine of the lab, at this address.
    pub fn at(mut self, network: &str, address: Ipv4Addr) -> Self {
        self.network = Some(network.to_owned());
        self.address = SocketAddr::new(address.into(), PORT);
        self
    }

    /// On another port.
    pub fn port(mut self, port: u16) -> Self {
        self.address.set_port(port);
        self
    }

    /// In a cell that contains more than the server.
    pub fn within(mut self, cell: Cell) -> Self {
        self.cell = cell;
        self
    }

    /// With this private key in its file, whichever key the client expects.
    pub fn host_file(mut self, private: &str) -> Self {
        private.clone_into(&mut self.host_file);
        self
    }

    /// With another host key beside the first.
    pub fn second_host_file(mut self, private: &str) -> Self {
        self.second = Some(private.to_owned());
        self.config("HostKey /run/k8sha/second_key\n")
    }

    /// Accepting this public key too.
    pub fn key(mut self, public: &str) -> Self {
        self.keys.push(public.trim().to_owned());
        self
    }

    /// With more lines of configuration, before the test's: sshd uses the first of two.
    pub fn config(mut self, lines: &str) -> Self {
        self.more.push_str(lines);
        self
    }

    /// Trusting the certificates of this public key.
    pub fn trusting(mut self, authority: &str) -> Self {
        authority.clone_into(&mut self.authority);
        self.config("TrustedUserCAKeys /run/k8sha/ca.pub\n")
    }

    /// With this file in the place where a node has it.
    pub fn file(mut self, path: &str, content: &str) -> Self {
        self.files.push((path.to_owned(), content.to_owned()));
        self
    }

    /// With another sudoers file.
    pub fn sudoers(mut self, lines: &str) -> Self {
        lines.clone_into(&mut self.sudoers);
        self
    }

    /// Starts it and waits until it listens.
    pub fn start(self) -> Sshd {
        let Setup {
            cell,
            network,
            address,
            host,
            host_file,
            keys,
            more,
            sudoers,
            authority,
            second,
            files,
        } = self;
        let login = KeyPair::generate("k8sha").unwrap();
        let config = format!(
            "{more}ListenAddress {address}\nHostKey /run/k8sha/host_key\nPidFile none\nUsePAM no\n\
             AuthorizedKeysFile /run/k8sha/keys/%u\nStrictModes no\nLogLevel DEBUG1\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nUseDNS no\n"
        );
        let with_users = |path: &str, lines: &str| std::fs::read_to_string(path).unwrap() + lines;
        let passwd = with_users(
            "/etc/passwd",
            "keen:x:64101:64101::/run/home:/bin/bash\nasked:x:64102:64102::/run/home:/bin/sh\n",
        );
        let shadow = format!("keen:*:19000::::::\nasked:{ASKED_HASH}:19000::::::\n");
        let shadow = with_users("/etc/shadow", &shadow);
        let group = with_users("/etc/group", "keen:x:64101:\nasked:x:64102:\n");
        let keys =
            [std::slice::from_ref(&login.public), keys.as_slice()].concat().join("\n") + "\n";
        let mut cell = cell
            .empty("/run")
            .overlaid("/etc")
            .empty("/run/sshd")
            .empty("/run/home")
            .after("chmod 1777 /run/home")
            .file("/run/k8sha/host_key", &host_file, 0o600)
            .file("/run/k8sha/sshd_config", &config, 0o644)
            .file(&format!("/run/k8sha/keys/{KEEN}"), &keys, 0o644)
            .file(&format!("/run/k8sha/keys/{ASKED}"), &keys, 0o644)
            .file("/run/k8sha/ca.pub", &authority, 0o644)
            .file("/etc/passwd", &passwd, 0o644)
            .file("/etc/shadow", &shadow, 0o640)
            .file("/etc/group", &group, 0o644)
            .file("/etc/sudoers", &sudoers, 0o440);
        if let Some(second) = second {
            cell = cell.file("/run/k8sha/second_key", &second, 0o600);
        }
        for (path, content) in &files {
            cell = cell.file(path, content, 0o644);
        }
        if let Some(network) = network {
            cell = cell.in_network(&network);
        }
        let running = cell.start(&["/usr/sbin/sshd", "-D", "-e", "-f", "/run/k8sha/sshd_config"]);
        wait::until(
            "sshd listens",
            Duration::from_secs(10),
            || running.log().contains("Server listening on").then_some(()),
            || running.log(),
        );
        Sshd { running, address, host, login, _cell: cell }
    }
}

impl Sshd {
    /// A server like a node's.
    pub fn start() -> Self {
        Setup::new().start()
    }

    /// The accepted login key, as a client offers it.
    pub fn identity(&self) -> Identity {
        Identity::from_openssh(&self.login.private).unwrap()
    }

    /// The jump through it to other machines.
    pub fn jump(&self, user: &str) -> Jump {
        Jump {
            host: self.address.ip().to_string(),
            port: self.address.port(),
            user: user.to_owned(),
            host_keys: HostKey::parse(&self.host.public).unwrap().into(),
            keys: self.identity().into(),
        }
    }

    /// The SSH access to one of its users.
    pub fn target(&self, user: &str) -> Target {
        Target {
            node: "k8s1master1".into(),
            address: self.address,
            user: user.to_owned(),
            host_key: HostKey::parse(&self.host.public).unwrap(),
            keys: self.identity().into(),
            sudo_password: None,
            dialer: Dialer::direct(),
            clock: Clock::real(),
        }
    }

    /// One of its users.
    pub fn remote(&self, user: &str) -> Remote {
        Remote::new(self.target(user))
    }

    /// Its complete log.
    pub fn log(&self) -> String {
        self.running.log()
    }

    /// Waits until it has logged the end of a connection without a login.
    pub fn wait_for_a_stranger_to_leave(&self) {
        let left = |line: &str| {
            line.starts_with("Connection closed by") || line.starts_with("Connection reset by")
        };
        let found = || self.log().lines().any(left).then_some(());
        wait::until("a connection ends", Duration::from_secs(10), found, || self.log());
    }

    /// The process whose end also ends all its sessions.
    pub fn pid(&self) -> i32 {
        self.running.inner().unwrap()
    }

    /// Kills it and all its sessions.
    pub fn kill(&mut self) {
        self.running.kill();
    }
}
