//! The simulator against a real Proxmox VE 9.2: the recorded exchanges in order.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that panics is a test that fails")]

mod compare;
mod differences;
mod hands;
mod names;
#[path = "../pve_recordings/mod.rs"]
mod pve_recordings;
mod recorded;
mod second;
mod setting;
mod shape;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use k8sha_simulator::faults::FaultKind;
use k8sha_simulator::world::SimTime;
use k8sha_simulator::{Options, Sim};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use hands::Hands;
use names::Names;
use setting::{Place, SECOND_WORLD, STEPS, Step};
use wire::{Connection, Door};

/// Requests on the same connection as the previous one, and how many others were in between.
const SAME_CONNECTION: &[(u64, usize)] = &[(687, 97), (688, 0), (690, 0), (694, 0)];

/// Seconds between the reports of `pvestatd`.
const ROUND: f64 = 10.0;
/// The times of the reports in the first recording, in seconds after each tenth of Unix time, derived
/// from lines 276 and 720.
const FIRST_ROUNDS: f64 = 3.5;
/// The times of those in the second. There was none between lines 3303 and 3312, between 3704 and 3748
/// and between 4194 and 4272; those before 3071 and 3312 came 14 and 54 seconds after the start of VM
/// 720.
const SECOND_ROUNDS: f64 = 7.0;

/// Whether the recording has a report between two times.
fn was_round(before: f64, at: f64, line: u64) -> bool {
    let offset = if line < second::FIRST { FIRST_ROUNDS } else { SECOND_ROUNDS };
    let rounds = |at: f64| ((at - offset) / ROUND).floor();
    rounds(at) > rounds(before)
}

/// The start of a replay, postponed if the simulator is late: its tasks may take longer than the
/// recorded ones.
fn on_time(from: SimTime, passed: f64, now: SimTime) -> SimTime {
    let late = now.seconds() - from.after(passed).seconds();
    if late > 0.05 { from.after((late / ROUND).ceil() * ROUND) } else { from }
}

/// The result of the replay.
#[derive(Default)]
struct Tally {
    replayed: usize,
    equal: usize,
    left_out: usize,
    /// Line → its differences without an entry.
    unexplained: BTreeMap<u64, Vec<String>>,
    explained: usize,
    /// Line → the actions before it that failed.
    setting: BTreeMap<u64, Vec<String>>,
    /// The positions in the table that explained something.
    used: BTreeSet<(usize, usize)>,
}

impl Tally {
    /// Changes to the recorded world outside the recording that were not repeated in the simulator.
    fn missed(&mut self, line: u64, failed: Vec<String>) {
        if !failed.is_empty() {
            self.setting.insert(line, failed);
        }
    }

    /// Reports the result of a recording, and fails if something is not explained.
    fn judge(&self, exchanges: &[Value], lines: RangeInclusive<u64>) {
        for (line, failed) in &self.setting {
            eprintln!("before line {line} could not be done:\n    {}", failed.join("\n    "));
        }
        for (line, found) in &self.unexplained {
            let exchange = exchanges.iter().find(|one| one["line"] == *line).unwrap();
            let (note, method) =
                (&exchange["note"], exchange["method"].as_str().unwrap_or_default());
            let url = exchange["url"].as_str().unwrap_or_default();
            let end = url.char_indices().nth(90).map_or(url.len(), |(at, _)| at);
            eprintln!(
                "line {line} ({note}) {method} {}\n    {}",
                &url[..end],
                found.join("\n    ")
            );
        }
        pve_recordings::tell(&format!(
            "replayed {} of {}: equal {}, differing by a listed reason {} ({} entries), left out \
             by rule {}, unexplained {}",
            self.replayed,
            exchanges.len(),
            self.equal,
            self.explained,
            differences::entries(&lines),
            self.left_out,
            self.unexplained.len(),
        ));
        assert!(self.setting.is_empty(), "the recorded world could not be made");
        let idle: Vec<_> =
            differences::places(&lines).filter(|place| !self.used.contains(place)).collect();
        assert!(idle.is_empty(), "entries that explain nothing: {idle:?}");
        assert!(self.unexplained.is_empty(), "{} unexplained", self.unexplained.len());
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
async fn replay(
    exchanges: &[Value],
    sim: Arc<Sim>,
    (mut hands, mut names): (Hands, Names),
    all: &[(u64, &[Step])],
    tally: &mut Tally,
) {
    let endpoints = sim.endpoints();
    // The last digit of a recorded host's address is its number.
    let doors: BTreeMap<char, Door> = endpoints
        .hosts
        .iter()
        .filter_map(|(name, endpoint)| Some((name.chars().last()?, Door::new(endpoint))))
        .collect();
    let mut steps = all.iter().peekable();
    let first = exchanges[0]["line"].as_u64().unwrap();
    while steps.next_if(|(line, _)| *line < first).is_some() {}
    let mut connection: Option<Connection> = None;
    let (mut begun, mut last) = (None, None);
    for exchange in exchanges {
        let line = exchange["line"].as_u64().unwrap();
        // If parts were recorded concurrently the lines are not in order.
        let due: Vec<_> = if line < second::FIRST {
            std::iter::from_fn(|| steps.next_if(|(before, _)| *before <= line)).collect()
        } else {
            all.iter().filter(|(before, _)| *before == line).collect()
        };
        for step in due.into_iter().flat_map(|(_, steps)| steps.iter()) {
            hands.take(step, &mut names).await;
        }
        tally.missed(line, hands.failed());
        if exchange["method"].is_null() {
            continue;
        }
        if differences::left_out(line).is_some() || second::is_left_out(exchange) {
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
        // Each exchange happens as long after the first as it did in the recording.
        let at = exchange["t"].as_f64().unwrap();
        let (from, zero) = *begun.get_or_insert_with(|| (hands.now().after(ROUND), at));
        let from = if line < second::FIRST { from } else { on_time(from, at - zero, hands.now()) };
        begun = Some((from, zero));
        hands.skip_to(SimTime(from.after(at - zero).0));
        // Everything created before the first exchange had been reported.
        if last.is_none_or(|last| was_round(last, at, line)) {
            hands.report();
        }
        last = Some(at);
        names.learn_expiry(exchange);
        let sent = recorded::request(exchange, &names);
        let again = SAME_CONNECTION.iter().find(|(same, _)| *same == line);
        if let Some(plain) = second::plain(exchange) {
            let answer = doors[&'1'].ask_plainly(&sent, plain).await;
            tally.count(line, &compare::differences(exchange, &answer, &names));
            continue;
        }
        let mut open = match (again, connection.take()) {
            (Some((_, between)), Some(mut open)) => {
                for _ in 0..*between {
                    open.ask(&sent).await;
                }
                open
            }
            _ => {
                let host = exchange["req_headers"]["Host"].as_str().unwrap_or_default();
                doors[&host.split(':').next().unwrap().chars().last().unwrap()].open().await
            }
        };
        let answer = open.ask(&sent).await;
        connection = Some(open);
        let parsed = |text: &[u8]| serde_json::from_slice(text).unwrap_or(Value::Null);
        let body = exchange["resp_body"].as_str().unwrap_or_default();
        names.learn_from(&parsed(body.as_bytes()), &parsed(&answer.body));
        tally.count(line, &compare::differences(exchange, &answer, &names));
    }
    drop(hands);
    if let Some(sim) = Arc::into_inner(sim) {
        sim.stop().await;
    }
}

async fn start(place: &Place, hosts: &[&str], cluster: Option<&str>) -> Arc<Sim> {
    let silent = format!("{}@{}", FaultKind::DnsSilent, place.server);
    let faults = vec![silent.parse().unwrap()];
    let options = Options { speed: f64::INFINITY, faults, ..Options::default() };
    Arc::new(Sim::start(setting::site(place, hosts, cluster), options).await.unwrap())
}

#[tokio::test]
async fn the_simulator_answers_as_a_real_host_did() {
    let Some(exchanges) = pve_recordings::exchanges() else { return };
    let second = exchanges.partition_point(|one| one["line"].as_u64() < Some(SECOND_WORLD));
    let (alone, cluster) = exchanges.split_at(second);
    let mut tally = Tally::default();
    for (exchanges, hosts, name) in
        [(alone, &["pve1"][..], None), (cluster, &["pve1", "pve2"], Some("testcl"))]
    {
        let sim = start(&setting::FIRST, hosts, name).await;
        let mut names = Names::default();
        let hands = Hands::with_provisioner(sim.clone(), &mut names).await;
        replay(exchanges, sim, (hands, names), STEPS, &mut tally).await;
    }
    tally.judge(&exchanges, 0..=999);
}

#[tokio::test]
async fn the_simulator_answers_as_a_real_cluster_did() {
    let Some(mut exchanges) = pve_recordings::more_exchanges() else { return };
    // Parts of it were recorded concurrently; remarks have no time.
    exchanges.retain(|one| !one["method"].is_null());
    let at = |one: &Value| one["t"].as_f64().unwrap();
    exchanges.sort_by(|one, other| at(one).total_cmp(&at(other)));
    let mut tally = Tally::default();
    let sim = start(&setting::SECOND, &["pve1", "pve2"], Some("lab")).await;
    let mut names = Names::default();
    let hands = Hands::new(sim.clone(), &mut names).await;
    let iso = Sha256::digest(vec![0; k8sha_simulator::pve::internet::ISO_BYTES]);
    let iso: String = iso.iter().map(|byte| format!("{byte:02x}")).collect();
    names.learn(second::DOWNLOADED, &iso);
    names.learn(second::ROOT_PASSWORD, &format!("password={}", hands.password()));
    replay(&exchanges, sim, (hands, names), second::STEPS, &mut tally).await;
    for (group, lines) in second::GROUPS {
        let within = |line: &&u64| lines.contains(line);
        let open = tally.unexplained.keys().filter(within).count();
        eprintln!("{group}: {open} unexplained");
    }
    tally.judge(&exchanges, 1000..=9999);
}
