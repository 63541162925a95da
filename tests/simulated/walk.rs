//! A random walk over edits of the profile and losses in the world. After each step the program must
//! have done no harm, and must not have reported a match with the profile where there is none.
//!
//! `cargo test` walks a few steps. `K8SHA_WALK_STEPS=200` sets the number of steps, and
//! `K8SHA_WALK_SEED=N` walks only with that seed: with the number that a failure prints it repeats the
//! same walk, as far as killed runs allow.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt::Debug;

use k8sha::cluster::VmId;
use k8sha_simulator::inspect::{self, What};
use k8sha_simulator::pve::state::Pool;

use crate::living::administer;
use crate::world::{Ran, World};

mod dice;
mod loss;
mod model;
mod removal;
mod sight;

use dice::{Dice, edit};
use model::{Asked, Card, Known, Made, POOLS, Seen, blocked, differs, pool};

/// The VMIDs of the profiles' templates.
const TEMPLATES: [u32; 4] = [3091, 3092, 9001, 9002];

/// How often a look that saw too little is repeated.
const LOOKS: usize = 3;
/// The number of steps of a walk in `cargo test`.
const STEPS: usize = 24;

/// The walk so far.
struct Walk {
    seed: u64,
    dice: Dice,
    world: World,
    asked: Asked,
    /// The profile of the last successful run.
    good: Asked,
    /// The machines whose removal was confirmed in the last run, and in killed runs before it.
    confirmed: BTreeSet<String>,
    known: Known,
    /// The configurations of foreign VMs.
    foreign: BTreeMap<u32, String>,
    /// The pin of the cluster's CA and the UID of `kube-system`.
    identity: Option<(String, String)>,
    /// How many acts of the history were checked.
    acts: usize,
    /// Whether something may still be running that no run waited for.
    restless: bool,
    steps: Vec<String>,
}

impl Drop for Walk {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("K8SHA_WALK_SEED={} K8SHA_WALK_STEPS={}", self.seed, self.steps.len());
            println!("{}", self.steps.join("\n"));
        }
    }
}

impl Walk {
    fn start(seed: u64) -> Self {
        let asked = Asked::new(seed % 2 == 1);
        let mut walk = Self {
            seed,
            dice: Dice(seed),
            world: World::of("walk"),
            good: asked.clone(),
            asked,
            confirmed: BTreeSet::new(),
            known: Known::default(),
            foreign: BTreeMap::new(),
            identity: None,
            acts: 0,
            restless: false,
            steps: Vec::new(),
        };
        walk.found();
        walk
    }

    /// A first cluster in a new world; its creation is sometimes interrupted.
    fn found(&mut self) {
        self.world = World::of("walk");
        self.asked = Asked::new(self.asked.external);
        (self.known, self.foreign, self.identity, self.acts) =
            (Known::default(), BTreeMap::new(), None, 0);
        let all = Asked { rows: pool(), ..self.asked.clone() };
        self.world.with_text(&all.text());
        // The site's name servers know the names of the first look.
        self.world.run(&["plan", "--quiet"]).ok();
        self.world.change(|world| {
            for datacenter in &mut world.pve.datacenters {
                datacenter.pools.extend(POOLS.map(|name| (name.to_owned(), Pool::default())));
            }
        });
        self.world.with_text(&self.asked.text());
        self.note("found a cluster");
        while self.dice.roll(3) == 0 {
            self.kill();
        }
        self.converges();
    }

    fn note(&mut self, step: impl Into<String>) {
        self.steps.push(step.into());
        println!("{}", self.steps.last().unwrap());
    }

    fn must(&self, holds: bool, what: &str, more: &dyn Debug) {
        assert!(holds, "{what}: {more:#?}");
    }

    fn look(&self) -> Seen {
        let world = inspect::open(&self.world.path()).unwrap();
        let mut vms = BTreeMap::new();
        let (mut disks, mut pools) = (BTreeMap::new(), BTreeMap::new());
        for datacenter in &world.pve.datacenters {
            for (vmid, vm) in &datacenter.vms {
                // An unfinished template, as a killed run leaves it, does not count.
                let template = vm.is_template() || TEMPLATES.contains(vmid);
                if !template && !self.foreign.contains_key(vmid) {
                    vms.insert(*vmid, vm.clone());
                }
            }
            for (name, pool) in &datacenter.pools {
                pools.extend(pool.vms.iter().map(|vmid| (*vmid, name.clone())));
            }
            for volume in datacenter.volumes.iter().filter(|volume| volume.content == "images") {
                if let Some(vmid) = volume.vmid {
                    let size: &mut u64 = disks.entry(vmid).or_default();
                    *size = (*size).max(volume.size >> 30);
                }
            }
        }
        let files = |path: &str| -> BTreeMap<String, String> {
            let names = vms.values().filter_map(|vm| vm.config.get("name").cloned());
            names
                .filter_map(|name| Some((name.clone(), inspect::file(&world, &name, path)?)))
                .collect()
        };
        let balancers = files("/etc/haproxy/haproxy.cfg");
        let lines = inspect::clusters(&world);
        let uid = self.identity.as_ref().map(|(_, uid)| uid);
        let cluster = lines.into_iter().find(|line| uid.is_none_or(|uid| *uid == line.uid));
        let foreign = self.foreign.keys().copied().collect();
        Seen { vms, disks, foreign, cluster, balancers, pools }
    }

    /// Foreign VMs and their disks, as text.
    fn of_others(&self) -> BTreeMap<u32, String> {
        let world = inspect::open(&self.world.path()).unwrap();
        let datacenters = world.pve.datacenters.iter();
        datacenters
            .flat_map(|datacenter| {
                let vms = datacenter.vms.iter();
                vms.filter(|(vmid, _)| self.foreign.contains_key(vmid)).map(|(vmid, vm)| {
                    let own =
                        |volume: &&k8sha_simulator::pve::state::Volume| volume.vmid == Some(*vmid);
                    let disks: Vec<_> = datacenter.volumes.iter().filter(own).collect();
                    (*vmid, format!("{:?} {:?} {:?}", vm.host, vm.config, disks))
                })
            })
            .collect()
    }

    /// Runs the program, and checks that it did no harm.
    fn run(&mut self, args: &[&str]) -> (Ran, bool) {
        self.world.forget_requests();
        let (digest, acts) = (self.world.digest(), self.acts);
        let ran = self.world.run(args);
        self.unharmed(&ran);
        if !self.restless {
            self.confirmed.clear();
        }
        let writes = self.world.writes();
        // Operations that a killed run has started continue on the machines.
        let same = self.restless || (self.world.digest() == digest && self.acts == acts);
        let wrote = !writes.is_empty() || !same;
        if args[0] != "up" {
            self.must(!wrote, &format!("{args:?} has written"), &(&ran, writes));
        }
        let error = ran.stderr.lines().find(|line| line.starts_with("error")).unwrap_or_default();
        self.note(format!("  {}: {} {error}", args.join(" "), ran.code));
        (ran, wrote)
    }

    /// `up` with a confirmation of every removal.
    fn up_confirmed(&mut self) -> (Ran, bool) {
        let words = self.up_words();
        self.run(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Starts a run and kills it.
    fn kill(&mut self) {
        let words = self.up_words();
        let after = 1 + self.dice.roll(if self.confirmed.is_empty() { 90 } else { 30 });
        self.note(format!("{}, killed after {after} events", words.join(" ")));
        let words: Vec<&str> = words.iter().map(|it| &**it).filter(|it| *it != "--json").collect();
        self.world.kill_after(&words, after);
        self.restless = true;
        self.unharmed(&"a killed run");
    }

    /// Checks that a run has done nothing forbidden.
    fn unharmed(&mut self, ran: &dyn Debug) {
        let world = inspect::open(&self.world.path()).unwrap();
        let history = inspect::history(&world);
        for act in &history[self.acts..] {
            if let What::Joined { node } = &act.what {
                self.known.lost.retain(|name| !node.starts_with(&format!("{name}.")));
            }
            let bad = match &act.what {
                What::Authority { pin } => self.identity.as_ref().is_some_and(|(ca, _)| ca != pin),
                What::Cluster { uid } => self.identity.as_ref().is_some_and(|(_, id)| id != uid),
                What::Overwritten { .. } | What::Reset { node: Some(_), .. } => true,
                What::NodeDeleted { ready, .. } => *ready,
                What::MemberRemoved { up, .. } => *up,
                _ => false,
            };
            self.must(!bad, "HARM", &(act, ran));
        }
        let deleted: Vec<String> = history[self.acts..]
            .iter()
            .filter_map(|act| match &act.what {
                What::NodeDeleted { node, .. } => node.split('.').next().map(str::to_owned),
                _ => None,
            })
            .collect();
        self.acts = history.len();
        let lines = inspect::clusters(&world);
        if self.identity.is_none()
            && let Some(line) = lines.first()
        {
            self.identity = Some((line.ca.clone(), line.uid.clone()));
            self.known.init = self.asked.settings.clone();
        }
        for line in &lines {
            let pins: BTreeSet<&String> = line.servers.values().collect();
            self.must(pins.len() <= 1, "a cluster torn apart", &(line, ran));
            let own = self.identity.as_ref() == Some(&(line.ca.clone(), line.uid.clone()));
            self.must(own, "another cluster", &(line, &self.identity, ran));
        }
        let (was, is) = (&self.foreign, self.of_others());
        self.must(*was == is, "a VM of others was touched", &(was, &is, ran));
        let seen = self.look();
        self.removed(&self.known.clone(), ran);
        for (vmid, vm) in &seen.vms {
            let Some(made) = self.known.made.get(vmid) else { continue };
            let name = &made.row.name;
            // A run was killed between the two: the kubelet is stopped, and its Node is gone.
            if deleted.contains(name) && self.confirmed.contains(name) && vm.running.is_some() {
                self.known.deleted.insert(name.clone());
            }
        }
        for vmid in seen.vms.keys() {
            if self.known.made.contains_key(vmid) {
                continue;
            }
            let row = self.asked.rows.iter().find(|row| row.vmid == *vmid);
            self.must(row.is_some(), "a VM without a row was made", &(vmid, ran));
            let (row, user) = (row.unwrap().clone(), self.asked.user.clone());
            let (domain, vlan) = (self.asked.domain().to_owned(), self.asked.vlan);
            self.known.made.insert(*vmid, Made { row, user, domain, vlan, mac: None });
        }
        self.known.made.retain(|vmid, _| seen.vms.contains_key(vmid));
    }

    /// `plan`; unless something blocks `up`, it must have a plan.
    fn plan(&mut self) -> i32 {
        let (mut ran, _) = self.run(&["plan", "--exit-code"]);
        let seen = self.look();
        // A worker that a killed run has started cannot be drained yet.
        let booting = self.restless && !self.leaving().is_empty();
        let possible = blocked(&self.asked, &self.known, &seen).is_empty() && !booting;
        for _ in 0..LOOKS {
            if ran.code != 1 || !possible {
                break;
            }
            ran = self.run(&["plan", "--exit-code"]).0;
        }
        let differs = differs(&self.asked, &self.known, &seen);
        self.must(ran.code != 0 || differs.is_empty(), "plan says as asked", &(&differs, &ran));
        let blocked = blocked(&self.asked, &self.known, &seen);
        self.must([0, 1, 2, 10].contains(&ran.code), "a strange end", &ran);
        if blocked.is_empty() {
            let fair = [0, 2, 10].contains(&ran.code) || booting;
            self.must(fair, "plan refuses what is possible", &ran);
        } else {
            self.note(format!("    hindered: {}", blocked.join("; ")));
        }
        ran.code
    }

    fn status(&mut self) {
        let (ran, _) = self.run(&["status", "--json"]);
        if ran.code == 0 {
            let differs = differs(&self.asked, &self.known, &self.look());
            self.must(differs.is_empty(), "status says healthy", &(&differs, &ran));
        }
    }

    /// `up`, after the result of `plan`.
    fn up(&mut self) {
        let planned = self.plan();
        let before = blocked(&self.asked, &self.known, &self.look());
        let refused = [1, 2].contains(&planned);
        if !refused {
            self.unconfirmed();
            if !self.leaving().is_empty() && self.dice.roll(3) == 0 {
                self.kill();
                if self.dice.roll(3) == 0 {
                    self.note("undo all edits: the rows are back");
                    self.asked = self.good.clone();
                    self.world.with_text(&self.asked.text());
                    return self.up();
                }
            }
        }
        let leaving = self.leaving();
        let (ran, wrote) = self.up_confirmed();
        if refused {
            self.must(ran.code == planned, "up does what plan refuses", &ran);
            self.must(!wrote, "a refusal has written", &ran);
            return;
        }
        let differs = differs(&self.asked, &self.known, &self.look());
        if ran.code == 0 {
            let report = ran.json();
            let told = report["differences"].as_array().unwrap().len();
            let hidden = told == 0 && !differs.is_empty();
            self.must(!hidden, "up hides what differs", &(&differs, &report));
            self.left(&leaving, &report);
            self.restless = false;
        } else if before.is_empty() {
            self.must(self.restless, "up fails though nothing hinders it", &ran);
            self.restless = false;
        }
        if before.is_empty() {
            self.converges();
        }
    }

    /// At the latest the second run succeeds, and everything that can be applied is applied.
    fn converges(&mut self) {
        let mut ran = self.up_confirmed().0;
        if ran.code != 0 {
            ran = self.up_confirmed().0;
        }
        self.must(ran.code == 0, "two runs do not end well", &ran);
        self.restless = false;
        let seen = self.look();
        for (vmid, made) in &mut self.known.made {
            let card = seen.vms.get(vmid).and_then(|vm| vm.config.get("net0"));
            made.mac = made.mac.take().or(card.map(|card| Card::of(card).mac));
        }
        let differs = differs(&self.asked, &self.known, &seen);
        let left: Vec<_> = differs.iter().filter(|(_, lasting)| !**lasting).collect();
        self.must(left.is_empty(), "not followed", &(&left, &ran));
        // On a busy machine a guest may answer too late for one look.
        let mut code = self.plan();
        for _ in 0..LOOKS {
            if !differs.is_empty() || code == 0 {
                break;
            }
            code = self.plan();
        }
        let wolf = differs.is_empty() && code != 0;
        let again = if wolf { Some(self.world.run(&["plan"])) } else { None };
        self.must(!wolf, "plan finds something to do where all is as asked", &again);
        if differs.is_empty() {
            let mut status = self.run(&["status", "--json"]).0;
            for _ in 0..LOOKS {
                if status.code == 0 {
                    break;
                }
                status = self.run(&["status", "--json"]).0;
            }
            self.must(status.code == 0, "status finds something where all is as asked", &status);
            self.good = self.asked.clone();
        }
    }

    /// A cluster that cannot be saved is reported as such, and another one is created elsewhere.
    fn end(&mut self) -> bool {
        let seen = self.look();
        let why = model::quorum(&self.asked, &self.known, &seen);
        let Some(why) = why.filter(|why| !why.contains("has no row")) else { return false };
        self.note(format!("the end: {why}"));
        let (ran, _) = self.run(&["up", "--json"]);
        self.must(ran.code != 0, "up ends well over a lost cluster", &ran);
        self.found();
        true
    }

    /// A user reverts the edits, moves a foreign VM away, and restarts machines without their Nodes.
    fn heal(&mut self) {
        self.note("undo all edits, and heal");
        self.asked = self.good.clone();
        self.world.with_text(&self.asked.text());
        let seen = self.look();
        if !self.foreign.is_empty() {
            self.stranger(&seen);
        }
        for name in std::mem::take(&mut self.known.deleted) {
            let vm = self.known.made.iter().find(|(_, made)| made.row.name == name);
            let vmid = *vm.unwrap().0;
            self.note(format!("stop {name} (VM {vmid})"));
            administer(&self.world, &seen.vms[&vmid].host, async |client| {
                client.stop_vm(VmId(vmid)).await.unwrap();
            });
        }
    }

    fn step(&mut self) {
        match self.dice.roll(20) {
            0..=7 => {
                let told = edit(&mut self.asked, &mut self.dice);
                self.note(told);
            }
            8..=10 => {
                self.note("undo all edits");
                self.asked = self.good.clone();
            }
            11..=15 => self.lose(),
            16 => self.kill(),
            17 => self.status(),
            18 => self.dismiss(),
            _ => self.up(),
        }
        self.world.with_text(&self.asked.text());
        if !self.end() {
            self.plan();
            // A refused edit is left in place for a while only.
            let stuck = !blocked(&self.asked, &self.known, &self.look()).is_empty();
            if stuck && self.dice.roll(2) == 0 {
                self.heal();
                self.plan();
            }
        }
    }
}

fn walk(seed: u64, steps: usize) {
    let mut walk = Walk::start(seed);
    for number in 0..steps {
        walk.note(format!("-- {number}"));
        walk.step();
    }
}

#[test]
fn no_walk_of_edits_and_losses_harms_a_cluster() {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let steps = number("K8SHA_WALK_STEPS").map_or(STEPS, |steps| steps.try_into().unwrap());
    if let Some(seed) = number("K8SHA_WALK_SEED") {
        return walk(seed, steps);
    }
    // The same seeds each time: new ones are walked on purpose, not where they block other work.
    for seed in [0, 1] {
        println!("seed {seed}");
        walk(seed, steps);
    }
}
