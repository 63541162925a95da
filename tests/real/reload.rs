//! Running balancers take a new configuration: k8sha's step over a real sshd and sudo, the real HAProxy
//! and keepalived. Only `systemctl` and `journalctl` are stand-ins: systemd does not run here.

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use k8sha::clock::Clock;
use k8sha::cluster::{Cluster, Failover, Node, Role};
use k8sha::kubeadm::Error;
use k8sha::kubeadm::balance::{self, File};
use k8sha::ssh::{Command, Remote};

use crate::balancers::PROGRAMS;
use crate::cell::Cell;
use crate::client::{Api, Client};
use crate::lab::Lab;
use crate::masters::Masters;
use crate::sshd::{KEEN, Setup, Sshd};
use crate::{needs, profiles, wait};

const LIMIT: Duration = Duration::from_secs(30);

/// The commands of both programs' units; each is reloaded with its package's own command.
const SYSTEMCTL: &str = r#"#!/bin/sh
runs() {
    pid=$(cat "/run/unit-$1.pid" 2> /dev/null) && grep -q '^State:.[^Z]' "/proc/$pid/status" 2> /dev/null
}
start() {
    name=$1
    shift
    setsid "$@" > "/run/$name.log" 2>&1 < /dev/null &
    echo $! > "/run/unit-$name.pid"
}
case "$*" in
"is-active "*)
    if runs "$2"; then echo active; else echo inactive; exit 3; fi
    ;;
"reload-or-restart haproxy")
    runs haproxy || { start haproxy haproxy -W -f /etc/haproxy/haproxy.cfg; exit 0; }
    haproxy -W -f /etc/haproxy/haproxy.cfg -c -q || { echo "Job for haproxy.service failed." >&2; exit 1; }
    kill -USR2 "$pid"
    ;;
"reload-or-restart keepalived")
    runs keepalived || { start keepalived keepalived --dont-fork --log-console --log-detail; exit 0; }
    kill -HUP "$pid"
    ;;
*)
    echo "systemctl: $*" >&2
    exit 1
    ;;
esac
"#;

const JOURNALCTL: &str = "#!/bin/sh\ntail -n 40 \"/run/$2.log\"\n";

/// A balancer's machine with an sshd and its files, and nothing running yet.
fn boot(lab: &Lab, cluster: &Cluster, node: &Node) -> Sshd {
    let files = profiles::files(&profiles::seed(cluster, node));
    let cell = Cell::new()
        .empty("/run")
        .empty("/run/haproxy")
        .empty("/usr/local/lib")
        .empty("/usr/local/bin")
        .file("/usr/local/bin/systemctl", SYSTEMCTL, 0o755)
        .file("/usr/local/bin/journalctl", JOURNALCTL, 0o755);
    let scripts = files.iter().filter(|file| file.path.starts_with("/usr/local/lib/"));
    let cell = scripts.fold(cell, |cell, file| cell.file(&file.path, &file.content, file.mode));
    let setup = Setup::new().within(cell).at(&lab.name(node.name.as_str()), node.ip);
    let read = files.iter().filter(|file| k8sha::cloudinit::KEPT.contains(&file.path.as_str()));
    read.fold(setup, |setup, file| setup.file(&file.path, &file.content)).start()
}

/// The wanted files of a balancer of this cluster.
fn wanted(cluster: &Cluster, node: &Node) -> Vec<File> {
    let kept = profiles::seed(cluster, node).kept.into_iter();
    kept.map(|file| File { path: file.path, content: file.content, mode: file.mode }).collect()
}

/// Does some work on the client's machine.
fn from<T: Send + 'static>(lab: &Lab, work: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    lab.on("client", move || runtime().block_on(work())).join().unwrap()
}

fn update(lab: &Lab, sshd: &Sshd, files: &[File]) -> Result<bool, Error> {
    let (remote, files) = (sshd.remote(KEEN), files.to_vec());
    from(lab, async move || balance::update(&remote, &files, Clock::real()).await)
}

fn run(lab: &Lab, sshd: &Sshd, words: &[&str]) -> String {
    let (remote, words): (Remote, Vec<String>) =
        (sshd.remote(KEEN), words.iter().map(|&word| word.to_owned()).collect());
    from(lab, async move || {
        let command = Command::sudo(&words[0]).args(words[1..].to_vec());
        remote.run_ok(&command).await.unwrap().stdout_text()
    })
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn a_running_balancer_reloads_its_configuration_without_breaking_connections() {
    if !needs::asked_for(&[PROGRAMS, &["sshd", "sudo", "setsid"]].concat()) {
        return;
    }
    let Some(mut lab) = Lab::new() else { return };
    let cluster = profiles::cluster("k8s1");
    let (api, node) = (&cluster.api, cluster.with_role(Role::LoadBalancer).next().unwrap());
    let ips: Vec<Ipv4Addr> = cluster.with_role(Role::Master).map(|master| master.ip).collect();
    let mut fewer = cluster.clone();
    fewer.nodes.retain(|node| node.role != Role::Master || node.ip == ips[0]);
    lab.add("masters", &ips);
    lab.add("client", &[cluster.network.gateway]);
    lab.add(node.name.as_str(), &[node.ip]);
    let masters = Masters::start(&lab, "masters", api.port, &api.fqdn);
    let sshd = boot(&lab, &fewer, node);
    run(&lab, &sshd, &["/usr/local/lib/k8sha/vrrp-interface", &node.ip.to_string()]);
    for unit in ["haproxy", "keepalived"] {
        run(&lab, &sshd, &["systemctl", "reload-or-restart", unit]);
    }
    let holds = |lab: &Lab| lab.has(node.name.as_str(), api.vip);
    let logs =
        || run(&lab, &sshd, &["tail", "-n", "60", "/run/haproxy.log", "/run/keepalived.log"]);
    wait::until("the balancer has the VIP", LIMIT, || holds(&lab).then_some(()), logs);
    let asked = Api::new((api.vip, api.port), &api.fqdn, &masters.certificate);
    let answering = |asked: &Api| -> Vec<Ipv4Addr> {
        let asked = asked.clone();
        let rounds = ips.len() * 3;
        let all = lab.on("client", move || (0..rounds).flat_map(|_| asked.ask()).collect());
        let all: Vec<_> = all.join().unwrap();
        ips.iter().copied().filter(|ip| all.contains(ip)).collect()
    };
    let expect = |what, wanted: &[Ipv4Addr]| {
        wait::until(what, LIMIT, || (answering(&asked) == wanted).then_some(()), logs);
    };
    expect("one master answers", &ips[..1]);
    let pids = || run(&lab, &sshd, &["cat", "/run/unit-haproxy.pid", "/run/unit-keepalived.pid"]);
    let before = pids();

    // Unchanged: nothing to do.
    assert!(!update(&lab, &sshd, &wanted(&fewer, node)).unwrap());

    // More masters, and another failover setting: both programs keep running, and so does every stream.
    let mut fast = cluster.clone();
    fast.balancer.failover = Failover::Fast;
    fast.balancer.advert = Failover::Fast.advert();
    let (vip, port) = (api.vip, api.port);
    let stream = lab.on("client", move || TcpStream::connect((vip, port)).unwrap());
    let mut stream = stream.join().unwrap();
    let client = Client::start(&lab, "client", asked.clone());
    client.outage(Instant::now(), Duration::from_secs(1), LIMIT);
    let began = Instant::now();
    assert!(update(&lab, &sshd, &wanted(&fast, node)).unwrap());
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let kept = stream.read(&mut [0; 1]).map_err(|error| error.kind());
    assert!(matches!(kept, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)), "{kept:?}");
    expect("all masters answer", &ips);
    client.outage(began, Duration::from_secs(2), LIMIT);
    assert_eq!((client.failures(began), holds(&lab)), (0, true), "{}", logs());
    assert_eq!(pids(), before);
    assert!(!update(&lab, &sshd, &wanted(&fast, node)).unwrap());

    // A file that either program rejects is never put in place.
    for (path, from, to) in [
        ("/etc/haproxy/haproxy.cfg", "    server ", "    sevrer "),
        ("/etc/keepalived/keepalived.conf", "virtual_router_id", "virtual_rooter_id"),
    ] {
        let mut broken = wanted(&fast, node);
        let file = broken.iter_mut().find(|file| file.path == path).unwrap();
        file.content = file.content.replace(from, to);
        let error = update(&lab, &sshd, &broken).unwrap_err();
        let said = error.to_string();
        assert!(matches!(error, Error::Refused { .. }), "{said}");
        assert!(
            said.to_lowercase().contains("unknown keyword") && said.contains(to.trim()),
            "{said}"
        );
        assert!(!update(&lab, &sshd, &wanted(&fast, node)).unwrap(), "the old file is as it was");
    }
    let left = run(&lab, &sshd, &["ls", "/etc/haproxy", "/etc/keepalived"]);
    assert!(!left.contains("k8sha"), "{left}");
    assert_eq!((pids(), holds(&lab)), (before, true));
    assert_eq!(client.failures(began), 0, "{}", logs());
}
