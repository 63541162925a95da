//! The simulator against a real Proxmox VE 9.2: the recorded exchanges in their order.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that panics is a test that fails")]

mod compare;
mod differences;
mod hands;
mod names;
#[path = "../pve_recordings/mod.rs"]
mod pve_recordings;
mod recorded;
mod setting;
mod shape;
mod wire;

use std::collections::{BTreeMap, BTreeSet};

use k8sha::sim::site::Topology;
use k8sha::sim::world::SimTime;
use k8sha::sim::{Options, Sim};
use serde_json::Value;

use hands::Hands;
use names::Names;
use setting::{SECOND_WORLD, STEPS};
use wire::{Connection, Door};

/// Requests that went over the connection of the one before, and how many others went between.
const SAME_CONNECTION: &[(u64, usize)] = &[(687, 97), (688, 0), (690, 0), (694, 0)];

/// Seconds between the rounds in which `pvestatd` reports, and when the recorded one's came: so
/// many seconds after each tenth second of Unix time, as its reports around lines 276 and 720 show.
const ROUND: (f64, f64) = (10.0, 3.5);

/// The first instant from which on the simulated rounds come when the recorded ones did, with one
/// round before it: what was made beside the recording had been reported.
fn in_phase(now: SimTime, at: f64) -> SimTime {
    let (every, offset) = ROUND;
    let settled = now.after(every);
    settled.after((at - offset - settled.seconds()).rem_euclid(every))
}

/// What the replay found.
#[derive(Default)]
struct Tally {
    replayed: usize,
    equal: usize,
    left_out: usize,
    /// Line → its differences that no entry explains.
    unexplained: BTreeMap<u64, Vec<String>>,
    explained: usize,
    /// Line → what could not be done before it.
    setting: BTreeMap<u64, Vec<String>>,
    /// The places of the table that explained something.
    used: BTreeSet<(usize, usize)>,
}

impl Tally {
    /// What the recorded world was brought to beside the recording, and the simulator was not.
    fn missed(&mut self, line: u64, failed: Vec<String>) {
        if !failed.is_empty() {
            self.setting.insert(line, failed);
        }
    }

    fn count(&mut self, line: u64, found: &[String]) {
        self.replayed += 1;
        if found.is_empty() {
            self.equal += 1;
            return;
        }
        let mut open = Vec::new();
        for difference in found {
            match differences::listed(line, difference) {
                Some(entry) => drop(self.used.insert(entry)),
                None => open.push(difference.clone()),
            }
        }
        if open.is_empty() {
            self.explained += 1;
        } else {
            self.unexplained.insert(line, open);
        }
    }
}

/// Replays the exchanges of one world.
async fn replay(exchanges: &[Value], sim: Sim, tally: &mut Tally) {
    let mut names = Names::default();
    let mut hands = Hands::new(&sim, &mut names).await;
    let endpoints = sim.endpoints();
    let doors: BTreeMap<&str, Door> = endpoints
        .hosts
        .iter()
        .map(|(name, endpoint)| {
            (if name == "pve2" { "10.98.0.12" } else { "10.98.0.11" }, endpoint)
        })
        .map(|(address, endpoint)| (address, Door::new(endpoint)))
        .collect();
    let mut steps = STEPS.iter().peekable();
    let first = exchanges[0]["line"].as_u64().unwrap();
    while steps.next_if(|(line, _)| *line < first).is_some() {}
    let mut connection: Option<Connection> = None;
    let mut begun = None;
    for exchange in exchanges {
        let line = exchange["line"].as_u64().unwrap();
        while let Some((_, due)) = steps.next_if(|(before, _)| *before <= line) {
            for step in *due {
                hands.take(step, &mut names).await;
            }
        }
        tally.missed(line, hands.failed());
        if exchange["method"].is_null() {
            continue;
        }
        if differences::left_out(line).is_some() {
            tally.left_out += 1;
            continue;
        }
        if let Some(grants) = recorded::grants(exchange["note"].as_str().unwrap_or_default()) {
            hands.grant(grants).await;
        }
        if let Some(upid) = recorded::upid(exchange["url"].as_str().unwrap_or_default()) {
            hands.find_task(&upid, &mut names).await;
            if recorded::shows_an_end(exchange["resp_body"].as_str().unwrap_or_default()) {
                hands.wait_for(&names.translate(&upid)).await;
            }
        }
        // Each exchange happens as long after the first as it did.
        let at = exchange["t"].as_f64().unwrap();
        let (from, zero) = *begun.get_or_insert_with(|| (in_phase(hands.now(), at), at));
        hands.skip_to(SimTime(from.after(at - zero).0));
        let sent = recorded::request(exchange, &names);
        let again = SAME_CONNECTION.iter().find(|(same, _)| *same == line);
        let mut open = match (again, connection.take()) {
            (Some((_, between)), Some(mut open)) => {
                for _ in 0..*between {
                    open.ask(&sent).await;
                }
                open
            }
            _ => {
                let host = exchange["req_headers"]["Host"].as_str().unwrap_or_default();
                doors[host.split(':').next().unwrap()].open().await
            }
        };
        let answer = open.ask(&sent).await;
        connection = Some(open);
        let parsed = |text: &[u8]| serde_json::from_slice(text).unwrap_or(Value::Null);
        let body = exchange["resp_body"].as_str().unwrap_or_default();
        names.learn_from(&parsed(body.as_bytes()), &parsed(&answer.body));
        tally.count(line, &compare::differences(exchange, &answer, &names));
    }
    sim.stop().await;
}

async fn start(hosts: &[&str], topology: Topology) -> Sim {
    let options = Options { speed: f64::INFINITY, ..Options::default() };
    Sim::start(setting::site(hosts, topology), options).await.unwrap()
}

#[tokio::test]
async fn the_simulator_answers_as_a_real_host_did() {
    let Some(exchanges) = pve_recordings::exchanges() else { return };
    let second = exchanges.partition_point(|one| one["line"].as_u64() < Some(SECOND_WORLD));
    let (alone, cluster) = exchanges.split_at(second);
    let mut tally = Tally::default();
    replay(alone, start(&["pve1"], Topology::Standalone).await, &mut tally).await;
    replay(cluster, start(&["pve1", "pve2"], Topology::Cluster).await, &mut tally).await;
    for (line, failed) in &tally.setting {
        eprintln!("before line {line} could not be done:\n    {}", failed.join("\n    "));
    }
    for (line, found) in &tally.unexplained {
        let exchange = exchanges.iter().find(|one| one["line"] == *line).unwrap();
        let (note, method) = (&exchange["note"], exchange["method"].as_str().unwrap_or_default());
        let url = exchange["url"].as_str().unwrap_or_default();
        let end = url.char_indices().nth(90).map_or(url.len(), |(at, _)| at);
        eprintln!("line {line} ({note}) {method} {}\n    {}", &url[..end], found.join("\n    "));
    }
    pve_recordings::tell(&format!(
        "replayed {} of {}: equal {}, differing by a listed reason {} ({} entries), left out by \
         rule {}, unexplained {}",
        tally.replayed,
        exchanges.len(),
        tally.equal,
        tally.explained,
        differences::LISTED.len(),
        tally.left_out,
        tally.unexplained.len(),
    ));
    assert!(tally.setting.is_empty(), "the recorded world could not be made");
    let idle: Vec<_> = differences::places().filter(|place| !tally.used.contains(place)).collect();
    assert!(idle.is_empty(), "entries that explain nothing: {idle:?}");
    assert!(tally.unexplained.is_empty(), "{} unexplained", tally.unexplained.len());
}
