//! HAProxy and keepalived running with k8sha's configuration.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use k8sha::cluster::{Cluster, Node, Role};

use crate::cell::{Cell, Running};
use crate::client::{Api, Client};
use crate::lab::Lab;
use crate::masters::Masters;
use crate::profiles::{self, Planted};
use crate::{needs, wait};

/// The programs that a load balancer needs here.
pub const PROGRAMS: &[&str] = &["haproxy", "keepalived", "ip", "unshare", "setpriv", "python3"];
/// Everything here takes much less time; the actual time is printed.
const LIMIT: Duration = Duration::from_secs(30);

/// A cell with a load balancer's files from the seed in their places.
pub fn cell(files: &[Planted]) -> Cell {
    let folders = ["/run", "/etc/haproxy", "/etc/keepalived", "/usr/local/lib", "/var/lib"];
    let cell = folders.into_iter().fold(Cell::new(), Cell::empty).empty("/run/haproxy");
    let ours = files
        .iter()
        .filter(|file| folders.iter().any(|folder| file.path.starts_with(&format!("{folder}/"))));
    ours.fold(cell, |cell, file| cell.file(&file.path, &file.content, file.mode))
}

/// The command that systemd runs before keepalived.
pub fn before_keepalived(files: &[Planted]) -> Vec<String> {
    let unit = files.iter().find(|file| file.path.ends_with("keepalived.service.d/k8sha.conf"));
    let lines = unit.unwrap().content.lines();
    lines.filter_map(|line| line.strip_prefix("ExecStartPre=")).map(str::to_owned).collect()
}

/// A load balancer of the lab.
pub struct Balancer {
    haproxy_cell: Cell,
    keepalived_cell: Cell,
    haproxy: Running,
    keepalived: Running,
}

impl Balancer {
    /// Starts both programs on a new machine of the lab, which has used its router id before.
    pub fn start(lab: &mut Lab, cluster: &Cluster, node: &Node) -> Self {
        lab.add(node.name.as_str(), &[node.ip]);
        let files = profiles::files(&profiles::seed(cluster, node));
        let cell = || cell(&files).in_network(&lab.name(node.name.as_str()));
        let past = format!("/var/lib/k8sha/vrid-{}", cluster.balancer.vrid);
        let haproxy_cell = cell();
        let before = before_keepalived(&files);
        let keepalived_cell =
            before.iter().fold(cell().file(&past, "", 0o644), |cell, line| cell.after(line));
        let (haproxy, keepalived) = (haproxy(&haproxy_cell), keepalived(&keepalived_cell));
        Self { haproxy_cell, keepalived_cell, haproxy, keepalived }
    }

    /// HAProxy, to be killed.
    pub fn haproxy(&mut self) -> &mut Running {
        &mut self.haproxy
    }

    /// keepalived, to be stopped.
    pub fn keepalived(&mut self) -> &mut Running {
        &mut self.keepalived
    }

    /// Starts HAProxy again.
    pub fn start_haproxy(&mut self) {
        self.haproxy = haproxy(&self.haproxy_cell);
    }

    /// Starts keepalived again.
    pub fn start_keepalived(&mut self) {
        self.keepalived = keepalived(&self.keepalived_cell);
    }

    /// What HAProxy has printed.
    pub fn haproxy_log(&self) -> String {
        self.haproxy.log()
    }

    /// Whether the last state of keepalived is this, such as `BACKUP`.
    fn is_in(&self, state: &str) -> bool {
        let log = self.keepalived.log();
        let last = log.lines().rfind(|line| line.contains("Entering "));
        last.is_some_and(|line| line.ends_with(&format!("Entering {state} STATE")))
    }
}

fn haproxy(cell: &Cell) -> Running {
    cell.start(&["haproxy", "-db", "-f", "/etc/haproxy/haproxy.cfg"])
}

fn keepalived(cell: &Cell) -> Running {
    cell.start(&["keepalived", "--dont-fork", "--log-console", "--log-detail"])
}

/// Two load balancers, the masters behind them, a client before them.
pub struct Scene {
    balancers: BTreeMap<String, Balancer>,
    /// Sends requests to the API all the time.
    pub client: Client,
    vip: Ipv4Addr,
    advert: Duration,
    /// The network. Last: the machines must outlive their programs.
    pub lab: Lab,
}

impl Scene {
    /// `None`, with a prominent line, if the kernel does not allow network namespaces.
    pub fn start(cluster: &Cluster) -> Option<Self> {
        let mut lab = Lab::new()?;
        let api = &cluster.api;
        let masters: Vec<_> = cluster.with_role(Role::Master).map(|master| master.ip).collect();
        lab.add("masters", &masters);
        lab.add("client", &[cluster.network.gateway]);
        let served = Masters::start(&lab, "masters", api.port, &api.fqdn);
        let balancers: BTreeMap<_, _> = cluster
            .with_role(Role::LoadBalancer)
            .map(|node| (node.name.to_string(), Balancer::start(&mut lab, cluster, node)))
            .collect();
        assert_eq!(balancers.len(), 2);
        let asked = Api::new((api.vip, api.port), &api.fqdn, &served.certificate);
        let client = Client::start(&lab, "client", asked);
        let advert = cluster.balancer.advert;
        let scene = Self { balancers, client, vip: api.vip, advert, lab };
        scene.holder(|holders| holders.len() == 1);
        scene.settle(Instant::now());
        Some(scene)
    }

    /// The holder of the VIP.
    pub fn holders(&self) -> Vec<String> {
        let holds = |name: &&String| self.lab.has(name, self.vip);
        self.balancers.keys().filter(holds).cloned().collect()
    }

    /// Waits until the VIP is where it should be; returns the first of its holders.
    pub fn holder(&self, right: impl Fn(&[String]) -> bool) -> String {
        wait::until(
            "the VIP is where it should be",
            LIMIT,
            || Some(self.holders()).filter(|holders| right(holders)),
            || format!("it is at {:?}\n{}", self.holders(), self.logs()),
        )
        .remove(0)
    }

    /// The other balancer.
    pub fn other(&self, name: &str) -> String {
        self.balancers.keys().find(|other| *other != name).unwrap().clone()
    }

    /// One of them.
    pub fn balancer(&mut self, name: &str) -> &mut Balancer {
        self.balancers.get_mut(name).unwrap()
    }

    /// Waits until the client is served through three whole advertisement intervals; returns its
    /// longest outage since then.
    pub fn settle(&self, since: Instant) -> Duration {
        self.client.outage(since, self.advert * 3, LIMIT)
    }

    /// Waits until a returned load balancer takes part again, as a backup.
    pub fn wait_for_backup(&self, name: &str) {
        let back = || self.balancers[name].is_in("BACKUP").then_some(());
        wait::until("the returned one is a backup", LIMIT, back, || self.logs());
    }

    /// Removes the VIP from a machine, as a restart does.
    pub fn forget_vip(&self, name: &str) {
        self.lab.forget(name, self.vip);
    }

    /// The output of all of them.
    pub fn logs(&self) -> String {
        let log = |(name, balancer): (&String, &Balancer)| {
            format!("{name}:\n{}{}", balancer.haproxy.log(), balancer.keepalived.log())
        };
        self.balancers.iter().map(log).collect()
    }
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn an_api_server_that_is_not_ready_gets_no_connection() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let cluster = profiles::cluster("k8s1");
    let Some(mut lab) = Lab::new() else { return };
    let api = &cluster.api;
    let ips: Vec<_> = cluster.with_role(Role::Master).map(|master| master.ip).collect();
    lab.add("masters", &ips);
    lab.add("client", &[cluster.network.gateway]);
    let masters = Masters::start(&lab, "masters", api.port, &api.fqdn);
    let node = cluster.with_role(Role::LoadBalancer).next().unwrap();
    let balancer = Balancer::start(&mut lab, &cluster, node);
    let asked = Api::new((node.ip, api.port), &api.fqdn, &masters.certificate);
    // One request to each of them, and which answered.
    let rounds = ips.len() * 3;
    let answering = || -> Vec<Ipv4Addr> {
        let asked = asked.clone();
        let all = lab.on("client", move || (0..rounds).flat_map(|_| asked.ask()).collect());
        let all: Vec<_> = all.join().unwrap();
        ips.iter().copied().filter(|ip| all.contains(ip)).collect()
    };
    let expect = |what, wanted: &[Ipv4Addr]| {
        let right = || (answering() == wanted).then_some(());
        wait::until(what, LIMIT, right, || balancer.haproxy_log());
    };
    expect("all masters answer", &ips);
    masters.set_ready(ips[0], false);
    expect("all but the first answer", &ips[1..]);
    masters.set_ready(ips[0], true);
    expect("all masters answer again", &ips);
}
