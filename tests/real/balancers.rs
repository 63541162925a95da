//! HAProxy and keepalived as we configure them, running.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use k8sha::cluster::{Cluster, Node, Role};

use crate::cell::{Cell, Running};
use crate::client::{Api, Client};
use crate::lab::{Cut, Lab};
use crate::masters::Masters;
use crate::profiles::{self, Planted};
use crate::{needs, wait};

const PROGRAMS: &[&str] = &["haproxy", "keepalived", "ip", "unshare", "setpriv"];
/// Everything here is over much sooner; how soon is printed.
const LIMIT: Duration = Duration::from_secs(30);
/// No outage of the API may be longer. The real figures are a third of it; a loaded machine is no
/// fault of ours.
const LONGEST_OUTAGE: Duration = Duration::from_secs(10);
/// An outage at which no client notices more than a slow answer.
const NONE: Duration = Duration::from_millis(900);

/// A cell with a load balancer's files, as the seed has them, in their places.
pub fn cell(files: &[Planted]) -> Cell {
    let folders = ["/run", "/etc/haproxy", "/etc/keepalived", "/usr/local/lib"];
    let cell = folders.into_iter().fold(Cell::new(), Cell::empty).empty("/run/haproxy");
    let ours = files
        .iter()
        .filter(|file| folders.iter().any(|folder| file.path.starts_with(&format!("{folder}/"))));
    ours.fold(cell, |cell, file| cell.file(&file.path, &file.content, file.mode))
}

/// A load balancer of the lab.
struct Balancer {
    haproxy_cell: Cell,
    keepalived_cell: Cell,
    haproxy: Running,
    keepalived: Running,
}

impl Balancer {
    fn start(lab: &mut Lab, cluster: &Cluster, node: &Node) -> Self {
        lab.add(node.name.as_str(), &[node.ip]);
        let files = profiles::files(&profiles::seed(cluster, node));
        let cell = || cell(&files).in_network(&lab.name(node.name.as_str()));
        let haproxy_cell = cell();
        let keepalived_cell =
            cell().after(&format!("/usr/local/lib/k8sha/vrrp-interface {}", node.ip));
        let (haproxy, keepalived) = (haproxy(&haproxy_cell), keepalived(&keepalived_cell));
        Self { haproxy_cell, keepalived_cell, haproxy, keepalived }
    }

    /// Whether the state that keepalived entered last is this, such as `BACKUP`.
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
struct Scene {
    balancers: BTreeMap<String, Balancer>,
    client: Client,
    vip: Ipv4Addr,
    advert: Duration,
    // Last: the machines outlive what runs on them.
    lab: Lab,
}

impl Scene {
    /// `None`, told loudly, where the kernel has no network namespaces for us.
    fn start(cluster: &Cluster) -> Option<Self> {
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

    fn holders(&self) -> Vec<String> {
        let holds = |name: &&String| self.lab.has(name, self.vip);
        self.balancers.keys().filter(holds).cloned().collect()
    }

    /// Waits until the VIP is where it should be; gives the first of its holders.
    fn holder(&self, right: impl Fn(&[String]) -> bool) -> String {
        wait::until(
            "the VIP is where it should be",
            LIMIT,
            || Some(self.holders()).filter(|holders| right(holders)),
            || format!("it is at {:?}\n{}", self.holders(), self.logs()),
        )
        .remove(0)
    }

    fn other(&self, name: &str) -> String {
        self.balancers.keys().find(|other| *other != name).unwrap().clone()
    }

    fn balancer(&mut self, name: &str) -> &mut Balancer {
        self.balancers.get_mut(name).unwrap()
    }

    /// Waits until the client is served through three whole advertisement intervals; gives its
    /// longest outage since then.
    fn settle(&self, since: Instant) -> Duration {
        self.client.outage(since, self.advert * 3, LIMIT)
    }

    /// Waits until a load balancer that was away takes part again, as a backup.
    fn wait_for_backup(&self, name: &str) {
        let back = || self.balancers[name].is_in("BACKUP").then_some(());
        wait::until("the returned one is a backup", LIMIT, back, || self.logs());
    }

    fn logs(&self) -> String {
        let log = |(name, balancer): (&String, &Balancer)| {
            format!("{name}:\n{}{}", balancer.haproxy.log(), balancer.keepalived.log())
        };
        self.balancers.iter().map(log).collect()
    }
}

fn assert_short(what: &str, advert: Duration, outage: Duration) {
    needs::say(&format!("measured: {what}, advertised every {advert:?}: {outage:.2?} of outage"));
    assert!(outage < LONGEST_OUTAGE, "{what}: {outage:?}");
}

/// A fault at the holder moves the VIP; its end moves nothing.
fn moves_once(
    scene: &mut Scene,
    what: &str,
    fault: impl FnOnce(&mut Scene, &str),
    mend: impl FnOnce(&mut Scene, &str),
) {
    let advert = scene.advert;
    let first = scene.holder(|holders| holders.len() == 1);
    let second = scene.other(&first);
    let began = Instant::now();
    fault(scene, &first);
    scene.holder(|holders| holders.contains(&second));
    assert_short(what, advert, scene.settle(began));
    let began = Instant::now();
    mend(scene, &first);
    scene.wait_for_backup(&first);
    let outage = scene.settle(began);
    assert_eq!(scene.holders(), [second], "{what}: {}", scene.logs());
    assert!(outage < NONE, "{what}, when it returned: {outage:?}\n{}", scene.logs());
}

/// A network that is cut behind the holder leaves it with the VIP, and the other takes it too. When
/// they hear each other again, the higher priority keeps it, whatever `nopreempt` says: no state of
/// theirs tells who was away.
fn splits_and_heals(scene: &mut Scene) {
    let advert = scene.advert;
    let first = scene.holder(|holders| holders.len() == 1);
    let began = Instant::now();
    scene.lab.cut(&first, Cut::Network);
    scene.holder(|holders| holders.len() == 2);
    assert_short(&format!("network cut behind {first}"), advert, scene.settle(began));
    let began = Instant::now();
    scene.lab.mend(&first);
    let kept = scene.holder(|holders| holders.len() == 1);
    let outage = scene.settle(began);
    assert_short(&format!("network back behind {first}, VIP at {kept}"), advert, outage);
    assert_eq!(scene.holders(), [kept], "{}", scene.logs());
}

fn every_single_fault(advert: Duration) {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let mut cluster = profiles::cluster("k8s1");
    cluster.balancer.advert = advert;
    let Some(mut scene) = Scene::start(&cluster) else { return };
    moves_once(
        &mut scene,
        "HAProxy killed",
        |scene, name| scene.balancer(name).haproxy.kill(),
        |scene, name| {
            let balancer = scene.balancer(name);
            balancer.haproxy = haproxy(&balancer.haproxy_cell);
        },
    );
    moves_once(
        &mut scene,
        "link cut",
        |scene, name| scene.lab.cut(name, Cut::Cable),
        |scene, name| scene.lab.mend(name),
    );
    moves_once(
        &mut scene,
        "keepalived stopped",
        |scene, name| scene.balancer(name).keepalived.stop(),
        |scene, name| {
            let balancer = scene.balancer(name);
            balancer.keepalived = keepalived(&balancer.keepalived_cell);
        },
    );
    splits_and_heals(&mut scene);
    splits_and_heals(&mut scene);
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn one_fault_moves_the_vip_once_with_the_shipped_settings() {
    let shipped = profiles::cluster("k8s1").balancer.advert;
    every_single_fault(shipped);
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn one_fault_moves_the_vip_once_with_fast_settings() {
    every_single_fault(Duration::from_millis(200));
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
    // One round over all of them, and who answered.
    let rounds = ips.len() * 3;
    let answering = || -> Vec<Ipv4Addr> {
        let asked = asked.clone();
        let all = lab.on("client", move || (0..rounds).flat_map(|_| asked.ask()).collect());
        let all: Vec<_> = all.join().unwrap();
        ips.iter().copied().filter(|ip| all.contains(ip)).collect()
    };
    let expect = |what, wanted: &[Ipv4Addr]| {
        let right = || (answering() == wanted).then_some(());
        wait::until(what, LIMIT, right, || balancer.haproxy.log());
    };
    expect("all masters answer", &ips);
    masters.set_ready(ips[0], false);
    expect("all but the first answer", &ips[1..]);
    masters.set_ready(ips[0], true);
    expect("all masters answer again", &ips);
}
