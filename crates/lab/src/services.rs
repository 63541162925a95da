//! The site's existing services, as real ones: its name servers (dnsmasq) and its etcd.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;

use super::network::Network;
use super::registry::Entry;
use super::{Error, file, groups, layer, private_folder};
use k8sha_simulator::guests::Guests;
use k8sha_simulator::site::Site;

/// The machine name that groups the services.
const GROUP: &str = "services";
const DNS_PORT: u16 = 53;
const PEER_PORT: u16 = 2380;
/// How long a service may take to answer.
const READY: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

/// The services of a lab.
pub(super) struct Services {
    lab: String,
    children: Vec<Child>,
}

impl Services {
    /// Stops them all.
    pub(super) fn end(&mut self) {
        groups::kill(&self.lab, Some(GROUP));
        for child in &mut self.children {
            let _ = child.wait();
        }
    }
}

/// Starts them all and waits until each answers. Those that a fault disables are not started.
pub(super) fn start(
    entry: &Entry,
    lower: &str,
    network: &Network,
    site: &Site,
    guests: &Guests,
) -> Result<Services, Error> {
    let mut services = Services { lab: entry.id.clone(), children: Vec::new() };
    let mut awaited = Vec::new();
    for server in &site.nameservers {
        if guests.silent(*server) {
            hold(network, *server);
            continue;
        }
        let files = entry.folder.join("run").join(format!("dns-{server}"));
        private_folder(&files)?;
        write(&files.join("dnsmasq.conf"), &zone(site, guests, *server))?;
        let words = ["dnsmasq", "--keep-in-foreground", "--conf-file=/mnt/dnsmasq.conf"];
        services.spawn(entry, network, lower, &files, &words)?;
        awaited.push(("name server", SocketAddrV4::new(*server, DNS_PORT), files));
    }
    for member in &site.etcd {
        if !guests.etcd_member(*member).unwrap_or(false) {
            continue;
        }
        let files = entry.folder.join("etcd").join(member.ip().to_string());
        private_folder(&files)?;
        let (ca, pair) = guests.etcd_server(*member).map_err(file("create etcd's certificates"))?;
        write(&files.join("ca.crt"), &ca)?;
        write(&files.join("server.crt"), &pair.cert)?;
        write(&files.join("server.key"), &pair.key)?;
        let words = etcd(*member, &site.etcd);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        services.spawn(entry, network, lower, &files, &words)?;
        awaited.push(("etcd", *member, files));
    }
    for (what, address, files) in awaited {
        answers(network, what, address, &files).inspect_err(|_| services.end())?;
    }
    Ok(services)
}

impl Services {
    fn spawn(
        &mut self,
        entry: &Entry,
        network: &Network,
        lower: &str,
        files: &Path,
        words: &[&str],
    ) -> Result<(), Error> {
        let scripts = entry.folder.join("layer");
        let log = File::create(files.join("log")).map_err(file("open a service's log"))?;
        let errors = log.try_clone().map_err(file("open a service's log"))?;
        let child = Command::new("sh")
            .arg(scripts.join(layer::GROUP))
            .args([&entry.id, GROUP, "unshare", "--mount", "--", "sh"])
            .arg(scripts.join(layer::SERVICE))
            .args([network.hub(), lower])
            .arg(files)
            .args(words)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // A Ctrl-C in the terminal is for k8sha only.
            .process_group(0)
            .spawn()
            .map_err(file(format!("start {}", words.first().unwrap_or(&"a service"))))?;
        self.children.push(child);
        Ok(())
    }
}

fn write(path: &PathBuf, text: &str) -> Result<(), Error> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt;
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut open| open.write_all(text.as_bytes()))
        .map_err(file(format!("write `{}`", path.display())))
}

/// dnsmasq's configuration: the site's records, and no others. `host-record` creates the PTR records
/// too (dnsmasq(8)).
fn zone(site: &Site, guests: &Guests, server: Ipv4Addr) -> String {
    let mut text = format!(
        "no-resolv\nno-hosts\nuser=root\npid-file=\nbind-interfaces\nlisten-address={server}\nlocal=/{}/\n",
        site.domain
    );
    let mut reverse: Vec<String> = Vec::new();
    for (name, _) in &site.records {
        for address in guests.lookup(server, name) {
            let [a, b, c, _] = address.octets();
            let zone = format!("local=/{c}.{b}.{a}.in-addr.arpa/\n");
            if !reverse.contains(&zone) {
                reverse.push(zone);
            }
            // Writing to a String cannot fail.
            let _ = writeln!(text, "host-record={name},{address}");
        }
    }
    text.extend(reverse);
    text
}

/// Receives the queries to a name server and never answers.
fn hold(network: &Network, server: Ipv4Addr) {
    network.inside().spawn(async move {
        let Ok(socket) = UdpSocket::bind((server, DNS_PORT)).await else { return };
        let mut thrown = [0; 512];
        while socket.recv_from(&mut thrown).await.is_ok() {}
    });
}

fn etcd(member: SocketAddrV4, all: &[SocketAddrV4]) -> Vec<String> {
    let name = |ip: &Ipv4Addr| format!("etcd-{ip}");
    let peer = |ip: &Ipv4Addr| format!("https://{ip}:{PEER_PORT}");
    let cluster: Vec<String> =
        all.iter().map(|member| format!("{}={}", name(member.ip()), peer(member.ip()))).collect();
    let (ip, client) = (member.ip(), format!("https://{member}"));
    let mut words = vec!["etcd".to_owned()];
    for (flag, value) in [
        ("name", name(ip)),
        ("data-dir", "/mnt/data".to_owned()),
        ("initial-cluster", cluster.join(",")),
        ("initial-cluster-state", "new".to_owned()),
        ("initial-advertise-peer-urls", peer(ip)),
        ("listen-peer-urls", peer(ip)),
        ("listen-client-urls", client.clone()),
        ("advertise-client-urls", client),
        ("logger", "zap".to_owned()),
        // Many members share a few cores here: a member is not given up after a short silence.
        ("heartbeat-interval", "500".to_owned()),
        ("election-timeout", "5000".to_owned()),
    ] {
        words.push(format!("--{flag}={value}"));
    }
    for kind in ["", "peer-"] {
        words.push(format!("--{kind}client-cert-auth"));
        words.push(format!("--{kind}trusted-ca-file=/mnt/ca.crt"));
        words.push(format!("--{kind}cert-file=/mnt/server.crt"));
        words.push(format!("--{kind}key-file=/mnt/server.key"));
    }
    words
}

/// Waits until a service accepts connections.
fn answers(
    network: &Network,
    what: &str,
    address: SocketAddrV4,
    files: &Path,
) -> Result<(), Error> {
    let (tell, mut told) = mpsc::unbounded_channel();
    network.inside().spawn(async move {
        let wait = async {
            while TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(LOOK).await;
            }
        };
        let _ = tell.send(tokio::time::timeout(READY, wait).await.is_ok());
    });
    if tokio::task::block_in_place(|| told.blocking_recv()) == Some(true) {
        return Ok(());
    }
    let text = fs::read_to_string(files.join("log")).unwrap_or_default();
    let last: Vec<&str> = text.lines().rev().take(10).collect();
    let said = last.into_iter().rev().collect::<Vec<_>>().join("\n");
    Err(Error::Service { what: what.to_owned(), address: address.to_string(), said })
}
