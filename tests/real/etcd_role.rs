//! k8sha's own etcd with real etcd, sshd and sudo: its certificates, settings and steps, on machines in
//! network namespaces. Only `systemctl` is a stand-in: systemd does not run here.

use std::net::Ipv4Addr;
use std::time::Instant;

use k8sha::clock::Clock;
use k8sha::cluster::{Cluster, Etcd, Node, Role};
use k8sha::kubeadm::etcd::member::Machine;
use k8sha::kubeadm::etcd::{self, Client, Owner, form};
use k8sha::ssh::{Command, Remote};
use k8sha::state::{EtcdKeys, State};

use crate::cell::Cell;
use crate::lab::Lab;
use crate::sshd::{KEEN, Setup, Sshd};
use crate::{needs, profiles};

const PROGRAMS: &[&str] = &["etcd", "curl", "sshd", "sudo", "ip", "unshare", "setpriv", "setsid"];

/// One unit, and the commands for it.
const SYSTEMCTL: &str = r#"#!/bin/sh
runs() {
    pid=$(cat /run/etcd.pid 2> /dev/null) && grep -q '^State:.[^Z]' "/proc/$pid/status" 2> /dev/null
}
case "$*" in
"is-active etcd")
    if runs; then echo active; else echo inactive; exit 3; fi
    ;;
"reset-failed etcd") ;;
"start --no-block etcd")
    runs && exit 0
    [ -e /etc/etcd/initial.env ] || exit 0
    set -a
    . /etc/etcd/etcd.env
    . /etc/etcd/initial.env
    set +a
    setsid setpriv --reuid=etcd --regid=etcd --clear-groups \
        etcd > /run/etcd.log 2>&1 < /dev/null &
    echo $! > /run/etcd.pid
    ;;
*)
    echo "systemctl: $*" >&2
    exit 1
    ;;
esac
"#;

const JOURNALCTL: &str = "#!/bin/sh\ntail -n 40 /run/etcd.log\n";

/// `k8s1-etcd` with only its first three members.
fn cluster() -> Cluster {
    let mut cluster = profiles::cluster("k8s1-etcd");
    let last = |node: &Node| node.ip.octets()[3];
    cluster.nodes.retain(|node| node.role != Role::Etcd || last(node) < 200);
    let members = cluster.with_role(Role::Etcd).map(|node| format!("https://{}:2379", node.ip));
    let members: Vec<String> = members.collect();
    let Etcd::Machines { endpoints, .. } = &mut cluster.etcd else { panic!("not ours") };
    *endpoints = members;
    cluster
}

/// A machine with an sshd and k8sha's files, without anything of the former one.
fn boot(lab: &Lab, machine: &str, address: Ipv4Addr, settings: Option<&str>) -> Sshd {
    let cell = Cell::new()
        .empty("/run")
        .after(
            "cp -a /etc /run/etc; mount --bind /run/etc /etc; mkdir -p /etc/kubernetes /etc/etcd",
        )
        .empty("/usr/local/bin")
        .file("/usr/local/bin/systemctl", SYSTEMCTL, 0o755)
        .file("/usr/local/bin/journalctl", JOURNALCTL, 0o755)
        .empty("/var/lib/etcd")
        .after("chown etcd:etcd /var/lib/etcd; chmod 0700 /var/lib/etcd");
    let mut setup = Setup::new().within(cell).at(&lab.name(machine), address);
    if let Some(settings) = settings {
        setup = setup.file("/etc/etcd/etcd.env", settings);
    }
    setup.start()
}

fn settings(cluster: &Cluster, node: &Node) -> String {
    let files = profiles::files(&profiles::seed(cluster, node));
    files.into_iter().find(|file| file.path == "/etc/etcd/etcd.env").unwrap().content
}

fn machine(node: &Node, keys: &EtcdKeys, sshd: &Sshd) -> Machine {
    let own = &keys.members[&node.name];
    Machine {
        remote: sshd.remote(KEEN),
        name: node.name.clone(),
        ip: node.ip,
        ca: keys.ca.clone(),
        server: own.server.clone(),
        peer: own.peer.clone(),
    }
}

/// Does some work in that network.
fn from<T: Send + 'static>(lab: &Lab, work: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    lab.on("operator", move || runtime().block_on(work())).join().unwrap()
}

async fn status(master: &Remote, words: &[&str]) -> (u32, String) {
    let command = Command::sudo("curl").args(["-sS", "--max-time", "5"]).args(words.to_vec());
    let output = master.run(&command).await.unwrap();
    (output.code, output.stdout_text())
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn three_machines_form_an_etcd_and_a_lost_one_is_replaced() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let Some(mut lab) = Lab::new() else { return };
    let cluster = cluster();
    let rows: Vec<Node> = cluster.with_role(Role::Etcd).cloned().collect();
    assert_eq!(rows.len(), 3);
    lab.add("operator", &[Ipv4Addr::new(10, 103, 1, 10)]);
    let first = Ipv4Addr::new(10, 103, 1, 50);
    lab.add("m1", &[first]);
    for (index, row) in rows.iter().enumerate() {
        lab.add(&format!("e{index}"), &[row.ip]);
    }
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path().to_owned()).unwrap();
    let keys = state.etcd_keys(&cluster).unwrap();
    let text: Vec<String> = rows.iter().map(|row| settings(&cluster, row)).collect();
    let mut sshds: Vec<Sshd> = (0..3)
        .map(|index| boot(&lab, &format!("e{index}"), rows[index].ip, Some(&text[index])))
        .collect();
    let master = boot(&lab, "m1", first, None);
    let all = |keys: &EtcdKeys, sshds: &[Sshd]| -> Vec<Machine> {
        rows.iter().zip(sshds).map(|(row, sshd)| machine(row, keys, sshd)).collect()
    };
    let client = Client::Made { ca: keys.ca.clone(), pair: keys.client.clone() };
    let owner = Owner { cluster: cluster.name.clone(), creation: "a".into() };

    // Formed, verified with the API server's certificate, and marked.
    let (machines, to, began) = (all(&keys, &sshds), master.remote(KEEN), Instant::now());
    let (like, mark, with) = (cluster.clone(), owner.clone(), client.clone());
    from(&lab, async move || {
        for machine in &machines {
            assert!(machine.plant().await.unwrap());
        }
        assert!(form::run(&machines, "k8s1-a", false, Clock::real()).await.unwrap());
        assert!(etcd::prepare(&to, &like, &with, &mark, etcd::Keys::Refused).await.unwrap());
        assert!(!form::run(&machines, "k8s1-a", true, Clock::real()).await.unwrap());
        assert!(!etcd::prepare(&to, &like, &with, &mark, etcd::Keys::Refused).await.unwrap());
        for machine in &machines {
            assert!(!machine.plant().await.unwrap());
            let seen = machine.look().await.unwrap();
            assert!(seen.planted && seen.data && seen.healthy, "{}: {seen:?}", machine.name);
            let stat = Command::sudo("stat").args(["-c", "%a %U", "/etc/etcd/pki/server.key"]);
            let stat = machine.remote.run_ok(&stat).await.unwrap();
            assert_eq!(stat.stdout_text(), "600 etcd\n");
        }
        // A client without a certificate, or one that trusts another CA, is rejected.
        let url = format!("{}/health", machines[0].endpoint());
        let ca = "/etc/kubernetes/pki/etcd/etcd-ca.crt";
        let (code, body) = status(&to, &["--cacert", ca, &url]).await;
        assert!(code != 0 && body.is_empty(), "{code}: {body}");
        let (code, _) = status(&to, &[&url]).await;
        assert_eq!(code, 60);
    });
    needs::say(&format!("formed and proved in {:.1} s", began.elapsed().as_secs_f64()));

    // One machine is gone, and another one is in its place.
    sshds[1].kill();
    sshds[1] = boot(&lab, "e1", rows[1].ip, Some(&text[1]));
    let (machines, to, began) = (all(&keys, &sshds), master.remote(KEEN), Instant::now());
    let (like, with) = (cluster.clone(), client.clone());
    from(&lab, async move || {
        assert!(machines[1].plant().await.unwrap());
        assert!(form::run(&machines, "k8s1-a", true, Clock::real()).await.unwrap());
        assert!(!form::run(&machines, "k8s1-a", true, Clock::real()).await.unwrap());
        // The data written before still exists.
        assert!(!etcd::prepare(&to, &like, &with, &owner, etcd::Keys::Resumed).await.unwrap());
    });
    needs::say(&format!("a lost member is back in {:.1} s", began.elapsed().as_secs_f64()));

    // A renewed certificate is presented at the next handshake, by a process that was not restarted.
    state.keep().unwrap();
    std::fs::remove_file(state.etcd_folder().join(format!("server-{}.for", rows[0].name))).unwrap();
    let renewed = state.etcd_keys(&cluster).unwrap();
    let (machines, to) = (all(&renewed, &sshds), master.remote(KEEN));
    let certificate = renewed.members[&rows[0].name].server.cert.clone();
    from(&lab, async move || {
        let pid = Command::new("cat").arg("/run/etcd.pid");
        let before = machines[0].remote.run_ok(&pid).await.unwrap().stdout_text();
        assert!(machines[0].plant().await.unwrap());
        assert!(!form::run(&machines, "k8s1-a", true, Clock::real()).await.unwrap());
        assert_eq!(machines[0].remote.run_ok(&pid).await.unwrap().stdout_text(), before);
        let file = |name: &str| format!("/etc/kubernetes/pki/etcd/{name}");
        let (ca, cert) = (file("etcd-ca.crt"), file("apiserver-etcd-client.crt"));
        let (key, url) = (file("apiserver-etcd-client.key"), machines[0].endpoint() + "/health");
        let words: [&str; 9] =
            ["--cacert", &ca, "--cert", &cert, "--key", &key, "-w", "%{certs}", &url];
        let (code, shown) = status(&to, &words).await;
        let body = |pem: &str| pem.lines().nth(1).unwrap().to_owned();
        assert!(code == 0 && shown.contains(&body(&certificate)), "{code}: {shown}");
    });
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn an_interrupted_formation_resumes_with_real_members() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let Some(mut lab) = Lab::new() else { return };
    let cluster = cluster();
    let rows: Vec<Node> = cluster.with_role(Role::Etcd).cloned().collect();
    lab.add("operator", &[Ipv4Addr::new(10, 103, 1, 10)]);
    for (index, row) in rows.iter().enumerate() {
        lab.add(&format!("e{index}"), &[row.ip]);
    }
    let folder = tempfile::tempdir().unwrap();
    let keys = State::open(folder.path().to_owned()).unwrap().etcd_keys(&cluster).unwrap();
    let sshds: Vec<Sshd> = rows
        .iter()
        .enumerate()
        .map(|(index, row)| {
            boot(&lab, &format!("e{index}"), row.ip, Some(&settings(&cluster, row)))
        })
        .collect();
    let machines: Vec<Machine> =
        rows.iter().zip(&sshds).map(|(row, sshd)| machine(row, &keys, sshd)).collect();
    from(&lab, async move || {
        for machine in &machines {
            machine.plant().await.unwrap();
        }
        // Two of three start, and have a quorum, before the first one is gone.
        let initial: Vec<String> = machines
            .iter()
            .map(|machine| format!("{}={}", machine.name, machine.peer_url()))
            .collect();
        let initial = format!(
            "ETCD_INITIAL_CLUSTER={}\nETCD_INITIAL_CLUSTER_STATE=new\n\
             ETCD_INITIAL_CLUSTER_TOKEN=k8s1-a\n",
            initial.join(",")
        );
        for machine in &machines[..2] {
            let path = "/etc/etcd/initial.env";
            let install = ["-m", "0600", "-o", "etcd", "-g", "etcd", "/dev/stdin", path];
            let write = Command::sudo("install").args(install).stdin(initial.as_bytes());
            machine.remote.run_ok(&write).await.unwrap();
            let start = Command::sudo("systemctl").args(["start", "--no-block", "etcd"]);
            machine.remote.run_ok(&start).await.unwrap();
        }
        assert!(form::run(&machines, "k8s1-a", false, Clock::real()).await.unwrap());
        for machine in &machines {
            assert!(machine.look().await.unwrap().healthy, "{}", machine.name);
        }
    });
}
