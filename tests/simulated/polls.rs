//! The number of requests of a run: no more than a bare client that does the same work, and at most two
//! a second per node for its tasks.

use std::collections::BTreeMap;
use std::time::Duration;

use k8sha::proxmox::Trust;
use k8sha::proxmox::tls::{self, Fingerprint};
use k8sha_simulator::{Options, Sim, inspect};
use serde_json::Value;

use crate::world::{World, held, program, requests, run};

/// Slow enough that a request's own time does not count in simulated time.
const SPEED: f64 = 8.0;
/// How long the bare client waits before its first query of a task: most are short.
const FIRST: f64 = 0.5;
/// How long it waits between queries.
const AGAIN: f64 = 1.0;

fn is_poll(request: &Value) -> bool {
    request["path"].as_str().unwrap().contains("/tasks")
}

fn text<'a>(request: &'a Value, key: &str) -> &'a str {
    request[key].as_str().unwrap_or_default()
}

/// The VM of a write: by its path, as the new one, or by its seed's name.
fn vm(write: &Value, names: &BTreeMap<u32, String>) -> Option<u32> {
    let path = text(write, "path");
    let newid = text(&write["form"], "newid").parse().ok();
    let after = |mark: &str| path.split(mark).nth(1).and_then(|rest| rest.split('/').next());
    let named = |(_, name): &(&u32, &String)| {
        let file = format!("-{name}-");
        path.contains(&file) || text(&write["form"], "filename").contains(&file)
    };
    let seed = || names.iter().find(named).map(|(vmid, _)| *vmid);
    newid
        .or_else(seed)
        .or_else(|| after("/qemu/")?.parse().ok())
        .filter(|id| names.contains_key(id))
}

/// A client without any checks: it sends the write, and queries its task once a second.
struct Bare {
    /// The endpoint of each host, and the token.
    hosts: BTreeMap<String, (reqwest::Client, String, String)>,
}

impl Bare {
    fn of(sim: &Sim) -> Self {
        let host = |(name, host): (String, k8sha_simulator::HostEndpoint)| {
            let pin: Fingerprint = host.fingerprint.parse().unwrap();
            let tls = tls::client_config(&Trust::Fingerprint(pin.0)).unwrap();
            let http = reqwest::Client::builder().tls_backend_preconfigured(tls).http1_only();
            (name, (http.build().unwrap(), host.url, host.token))
        };
        Self { hosts: sim.endpoints().hosts.into_iter().map(host).collect() }
    }

    async fn call(&self, host: &str, method: &str, path: &str, form: &Value) -> Value {
        let (http, url, token) = &self.hosts[host];
        let request = http.request(method.parse().unwrap(), format!("{url}{path}"));
        let mut request = request.header("authorization", format!("PVEAPIToken={token}"));
        if path.ends_with("/upload") {
            let mut body = String::new();
            for (head, value) in [
                ("form-data; name=\"content\"".to_owned(), "iso"),
                (
                    format!(
                        "form-data; name=\"filename\"; filename=\"{}\"",
                        text(form, "filename")
                    ),
                    "x",
                ),
            ] {
                body.push_str(&format!("--b\r\nContent-Disposition: {head}\r\n\r\n{value}\r\n"));
            }
            body.push_str("--b--\r\n");
            request = request.header("content-type", "multipart/form-data; boundary=b").body(body);
        } else if method == "POST" || method == "PUT" {
            let form = form.as_object().cloned().unwrap_or_default();
            let form: BTreeMap<String, String> = form
                .into_iter()
                // It was another VM's.
                .filter(|(key, _)| key != "digest")
                .map(|(key, value)| (key, value.as_str().unwrap().to_owned()))
                .collect();
            request = request.form(&form);
        }
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{method} {path}: {status} {text}");
        serde_json::from_str::<Value>(&text).unwrap()["data"].take()
    }

    /// The facts about a host that any client needs: its cluster, its storages and their contents, its
    /// networks, its VMs.
    async fn open(&self, host: &str) {
        let storage = "storage/local/content?content";
        let node =
            ["storage", "network", "qemu", &format!("{storage}=import"), &format!("{storage}=iso")]
                .map(|path| format!("nodes/{host}/{path}"));
        for path in node.iter().map(String::as_str).chain(["cluster/status"]) {
            self.call(host, "GET", &format!("/api2/json/{path}"), &Value::Null).await;
        }
    }

    /// A write, with its task followed.
    async fn write(&self, write: &Value) {
        let (host, path) = (text(write, "host"), text(write, "path"));
        let begun = self.call(host, text(write, "method"), path, &write["form"]).await;
        let Some(upid) = begun.as_str().filter(|text| text.starts_with("UPID:")) else { return };
        let mut wait = FIRST;
        loop {
            tokio::time::sleep(Duration::from_secs_f64(wait / SPEED)).await;
            wait = AGAIN;
            let path = format!("/api2/json/nodes/{host}/tasks/{upid}/status");
            let task = self.call(host, "GET", &path, &Value::Null).await;
            if task["status"] == "stopped" {
                assert_eq!(task["exitstatus"], "OK", "{path}");
                return;
            }
        }
    }

    /// The writes of one VM, or of one host. A VM's configuration is read once, before it is written:
    /// it has the card's MAC address.
    async fn all(&self, writes: &[&Value]) {
        let mut is_read = false;
        for write in writes {
            let path = text(write, "path");
            if path.ends_with("/config") && !std::mem::replace(&mut is_read, true) {
                self.call(text(write, "host"), "GET", path, &Value::Null).await;
            }
            self.write(write).await;
        }
    }
}

/// The requests that a bare client needs for the writes of a run: the facts about the hosts, then the
/// hosts' own writes in order, then the VMs' concurrently.
fn bare(world: &World, log: &[Value]) -> Vec<Value> {
    let names: BTreeMap<u32, String> =
        world.vms().into_iter().filter(|vm| !vm.template).map(|vm| (vm.vmid, vm.name)).collect();
    let writes: Vec<&Value> = log.iter().filter(|request| request["method"] != "GET").collect();
    let folder = tempfile::tempdir().unwrap();
    let site = inspect::open(&world.path()).unwrap().site;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let options =
            Options { folder: Some(folder.path().to_owned()), speed: SPEED, ..Options::default() };
        let sim = Sim::start(site, options).await.unwrap();
        let bare = Bare::of(&sim);
        let of = |host: Option<&str>, id: Option<u32>| -> Vec<&Value> {
            let its = |write: &&Value| {
                vm(write, &names) == id && host.is_none_or(|host| text(write, "host") == host)
            };
            writes.iter().copied().filter(its).collect()
        };
        let hosts: Vec<_> = bare.hosts.keys().map(|host| of(Some(host), None)).collect();
        let vms: Vec<_> = names.keys().map(|id| of(None, Some(*id))).collect();
        assert_eq!(hosts.iter().chain(&vms).map(Vec::len).sum::<usize>(), writes.len());
        futures_join(bare.hosts.keys().map(|host| bare.open(host))).await;
        futures_join(hosts.iter().map(|writes| bare.all(writes))).await;
        futures_join(vms.iter().map(|writes| bare.all(writes))).await;
        sim.stop().await;
    });
    requests(folder.path())
}

/// The number of requests of each kind.
fn tally(log: &[Value]) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    for request in log {
        let path = text(request, "path").split('?').next().unwrap();
        let kind = |part: &str| match part {
            _ if part.starts_with("UPID") || part.contains("%3Aiso%2F") => "ID".to_owned(),
            _ if part.bytes().all(|byte| byte.is_ascii_digit()) => "N".to_owned(),
            _ => part.to_owned(),
        };
        let path: Vec<String> = path.split('/').skip(4).map(kind).collect();
        *tally.entry(format!("{} {}", text(request, "method"), path.join("/"))).or_default() += 1;
    }
    tally
}

/// Runs futures concurrently.
async fn futures_join<F: Future<Output = ()>>(futures: impl Iterator<Item = F>) {
    let mut open: Vec<_> = futures.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        open.retain_mut(|one| one.as_mut().poll(context).is_pending());
        if open.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

/// The requests of a run on a new world, and those of a bare client that does the same. Properties that
/// hold for each run, however busy the machine is, are asserted here.
fn asked() -> (Vec<Value>, Vec<Value>) {
    let world = World::new();
    let home = tempfile::tempdir().unwrap();
    let mut command = program(home.path());
    command.args(["provision", "--quiet", "--profile", "k8s1", "--speed", &SPEED.to_string()]);
    command.arg("--simulate").arg(world.path());
    held(&mut command);
    run(command).ok();
    let log = world.requests();

    let mut polls: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for request in log.iter().filter(|request| is_poll(request)) {
        polls.entry(text(request, "host")).or_default().push(request["at"].as_u64().unwrap());
    }
    for (host, at) in &polls {
        let within = |from: &u64| at.iter().filter(|at| (*from..from + 5000).contains(*at)).count();
        let most = at.iter().map(within).max().unwrap();
        assert!(most <= 10, "{host} was asked {most} times within five seconds: {at:?}");
    }
    let lost: Vec<&Value> =
        log.iter().filter(|request| request["status"].as_u64().unwrap() >= 400).collect();
    assert!(lost.is_empty(), "each refusal loses a connection: {lost:#?}");
    let bare = bare(&world, &log);
    (log, bare)
}

#[test]
fn a_run_sends_no_more_requests_than_a_bare_client_and_polls_tasks_at_most_twice_a_second_per_node()
{
    // A stall of this machine separates requests that would have shared an answer, and lengthens tasks
    // that are polled: of three runs the best counts.
    let mut told = Vec::new();
    for _ in 0..3 {
        let (ours, bare) = asked();
        let polled = ours.iter().filter(|request| is_poll(request)).count();
        let (sent, needed) = (ours.len(), bare.len());
        println!("{sent} requests, {polled} of them for tasks; a bare client: {needed}");
        if sent as f64 <= 1.05 * needed as f64 {
            return;
        }
        told.push((sent, polled, tally(&ours), needed, tally(&bare)));
    }
    panic!("requests, polls of them, and what a bare client needs: {told:#?}");
}

#[test]
fn doctor_queries_its_privileges_once_per_host() {
    let world = World::new();
    world.run(&["doctor", "--quiet"]).ok();
    let log = world.requests();
    let rights = log.iter().filter(|request| text(request, "path").contains("/access/permissions"));
    assert_eq!(rights.count(), 2, "{log:#?}");
}
