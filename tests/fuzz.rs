//! Profiles damaged in every way that a user, an editor or an attacker damages a file.
//!
//! Whatever the text is, parsing it does not panic and is fast, its error messages are safe to print,
//! and an accepted profile renders. Ten thousand texts a run, with a new seed each time; a failure
//! prints the seed, and `K8SHA_FUZZ_SEED=SEED cargo test --test fuzz` repeats it. `K8SHA_FUZZ_CASES`
//! sets a larger number.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that panics is a test that fails")]

#[path = "kit/golden.rs"]
#[allow(dead_code, reason = "other tests compare with golden files")]
mod golden;

use std::cell::RefCell;
use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use k8sha::cloudinit::{NodeSecrets, Templates, render};
use k8sha::cluster::{Cluster, Role};
use k8sha::profile::{self, Colour, EMBEDDED, Source};
use k8sha::text;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};

/// The total number of texts.
const CASES: u32 = 10_000;
/// The number of parts, each of which is a separate test.
const PARTS: u32 = 4;
/// The maximum CPU time for one text. A usual one takes milliseconds.
const TIME: Duration = Duration::from_secs(2);

/// Words that break out of a context, or mean something other than they appear to.
const HOSTILE: &[&str] = &[
    "\u{1b}]52;c;aGk=\u{7}",
    "\u{9b}2J\u{202e}",
    "\"\\n- evil\"",
    "'it''s'",
    "\"a\\nargs: -x\"",
    "{{ 7 * 7 }}",
    "{% include \"x\" %}",
    "${K8SHA_X}",
    "$(id)",
    "`id`; reboot",
    "../../etc/passwd",
    "&a [*a, *a]",
    "!!binary aGk=",
    "!<tag:x> y",
    "<<: *x",
    "|\n  text\n  more",
    ">-\n  text",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "? x\n: y\n",
    "\t",
    "\u{feff}",
    "\u{2028}",
    "\0",
    "~",
    "null",
    "yes",
    "0x7fffffff",
    "1e309",
    ".inf",
    "-1",
    "99999999999999999999",
    "0000000000000001",
    "1.30",
    "2001-01-01",
    "10.101.1.300",
    "::1",
    "10.0.0.0/0",
    "localhost",
    "xn--nxasmq6b",
    "ssh-ed25519 AAAA\nssh-rsa BBBB",
    "-----BEGIN PRIVATE KEY-----",
    "[]",
    "{}",
    "[[[[]]]]",
    "{a: {a: {a: {}}}}",
    "# no value",
    "'",
    "\"",
    "日本語",
    "e\u{301}",
];

/// One piece of damage; numbers are taken modulo the available positions.
#[derive(Clone, Debug)]
enum Damage {
    Flip(usize, u8),
    Byte(usize, u8),
    Insert(usize, usize),
    Remove(usize, usize),
    Value(usize, usize),
    Key(usize, usize),
    Swap(usize, usize),
    Double(usize, usize),
    Drop(usize),
    Indent(usize, usize),
    Nest(usize, usize, bool),
    Repeat(usize, usize),
    End(usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = || any::<prop::sample::Index>().prop_map(|index| index.index(1 << 20));
    let word = 0..HOSTILE.len();
    prop_oneof![
        (at(), 0u8..8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        (at(), word.clone()).prop_map(|(at, word)| Damage::Insert(at, word)),
        (at(), 1usize..200).prop_map(|(at, length)| Damage::Remove(at, length)),
        (at(), word.clone()).prop_map(|(line, word)| Damage::Value(line, word)),
        (at(), word).prop_map(|(line, word)| Damage::Key(line, word)),
        (at(), at()).prop_map(|(one, other)| Damage::Swap(one, other)),
        (at(), at()).prop_map(|(from, to)| Damage::Double(from, to)),
        at().prop_map(Damage::Drop),
        (at(), 0usize..9).prop_map(|(line, spaces)| Damage::Indent(line, spaces)),
        (at(), 1usize..2_000, any::<bool>())
            .prop_map(|(at, deep, map)| Damage::Nest(at, deep, map)),
        (at(), 1usize..2_000).prop_map(|(line, times)| Damage::Repeat(line, times)),
        at().prop_map(Damage::End),
    ]
}

impl Damage {
    fn to(&self, text: &str) -> String {
        let place = |at: &usize| text.floor_char_boundary(at % (text.len() + 1));
        let bytes = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = text.as_bytes().to_vec();
            change(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let lines = |change: &dyn Fn(&mut Vec<String>)| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            if !lines.is_empty() {
                change(&mut lines);
            }
            lines.join("\n")
        };
        match self {
            Self::Flip(at, bit) => bytes(&|all| {
                let at = at % all.len().max(1);
                all.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << bit);
            }),
            Self::Byte(at, byte) => bytes(&|all| all.insert(at % (all.len() + 1), *byte)),
            Self::Insert(at, word) => {
                let (before, after) = text.split_at(place(at));
                format!("{before}{}{after}", HOSTILE[*word])
            }
            Self::Remove(at, length) => {
                let start = place(at);
                let end = text.ceil_char_boundary((start + length).min(text.len()));
                format!("{}{}", &text[..start], &text[end..])
            }
            Self::Value(line, word) => lines(&|all| {
                let line = line % all.len();
                let end = all[line].find(':').map_or(all[line].len(), |at| at + 1);
                all[line] = format!("{} {}", &all[line][..end], HOSTILE[*word]);
            }),
            Self::Key(line, word) => lines(&|all| {
                let line = line % all.len();
                let start = all[line].find(|c: char| c != ' ').unwrap_or_default();
                let end = all[line].find(':').unwrap_or(start).max(start);
                all[line] =
                    format!("{}{}{}", &all[line][..start], HOSTILE[*word], &all[line][end..]);
            }),
            Self::Swap(one, other) => lines(&|all| {
                let count = all.len();
                all.swap(one % count, other % count);
            }),
            Self::Double(from, to) => lines(&|all| {
                let (from, to) = (from % all.len(), to % all.len());
                all.insert(to, all[from].clone());
            }),
            Self::Drop(line) => lines(&|all| drop(all.remove(line % all.len()))),
            Self::Indent(line, spaces) => lines(&|all| {
                let line = line % all.len();
                all[line] = format!("{}{}", " ".repeat(*spaces), all[line].trim_start());
            }),
            Self::Nest(at, deep, map) => {
                let (before, after) = text.split_at(place(at));
                let open = if *map { "{a: " } else { "[" };
                format!("{before}{}{after}", open.repeat(*deep))
            }
            Self::Repeat(line, times) => lines(&|all| {
                let line = line % all.len();
                let copies = vec![all[line].clone(); *times];
                all.splice(line..line, copies);
            }),
            Self::End(at) => text[..place(at)].to_owned(),
        }
    }
}

/// The shipped profiles and the bad ones of other tests, without comments: they would take most of the
/// damage without effect.
fn corpus() -> Vec<String> {
    let bare = |text: &str| -> String {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        lines.map(|line| format!("{}\n", line.split(" #").next().unwrap().trim_end())).collect()
    };
    let mut all: Vec<String> = EMBEDDED.iter().map(|(_, text)| bare(text)).collect();
    let mut inputs: Vec<PathBuf> = fs::read_dir(golden::tests_dir().join("input"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    inputs.sort();
    all.extend(inputs.iter().map(|path| bare(&fs::read_to_string(path).unwrap())));
    all
}

fn now() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The shared state of all texts.
struct Bench {
    templates: Templates,
    secrets: NodeSecrets,
    /// Clusters that have been rendered: most damage that leaves a profile valid does not change the
    /// cluster.
    rendered: RefCell<HashSet<String>>,
}

impl Bench {
    fn new() -> Self {
        let secrets = NodeSecrets {
            host_key_private: "private".to_owned().into(),
            host_key_public: "ssh-ed25519 host".to_owned(),
            operator_public: "ssh-ed25519 operator".to_owned(),
        };
        let templates = Templates::builtin().unwrap();
        Self { templates, secrets, rendered: RefCell::default() }
    }

    /// The properties that must hold for every text.
    fn holds(&self, text: &str) -> Result<(), TestCaseError> {
        let began = now();
        let source = Source { name: "x.yaml".into(), text: text.to_owned(), base: PathBuf::new() };
        let read = profile::read(source);
        let shown = match &read {
            Ok(loaded) => loaded.render_warnings(Colour::Off),
            Err(rejected) => rejected.render(Colour::Off),
        };
        let took = now() - began;
        prop_assert!(took < TIME, "it takes {took:?}");
        prop_assert_eq!(text::printable(&shown), &*shown, "a terminal would obey");
        prop_assert!(shown.len() < 200_000, "{} bytes are said", shown.len());
        match read {
            Ok(loaded) => self.renders(&loaded.cluster),
            Err(rejected) => {
                prop_assert!(!rejected.complaints.is_empty());
                Ok(())
            }
        }
    }

    /// Whether every node's documents can be rendered; each is parsed again after rendering.
    fn renders(&self, cluster: &Cluster) -> Result<(), TestCaseError> {
        if !self.rendered.borrow_mut().insert(serde_json::to_string(cluster).unwrap()) {
            return Ok(());
        }
        for node in &cluster.nodes {
            let seed = render(&self.templates, cluster, node, &self.secrets, "instance");
            if let Err(error) = seed {
                return Err(TestCaseError::fail(format!("{}: {error}", node.name)));
            }
        }
        Ok(())
    }
}

/// A number from the environment.
fn given<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

fn fuzz(part: u32) {
    let seed: u64 = given("K8SHA_FUZZ_SEED").unwrap_or_else(rand::random);
    let cases = given("K8SHA_FUZZ_CASES").unwrap_or(CASES) / PARTS;
    let (corpus, bench) = (corpus(), Bench::new());
    let config = Config {
        cases,
        rng_seed: RngSeed::Fixed(seed.wrapping_add(u64::from(part))),
        failure_persistence: None,
        max_shrink_iters: 1_000,
        ..Config::default()
    };
    let damages = (0..corpus.len(), prop::collection::vec(damage(), 1..5));
    let text = |nth: usize, damages: &[Damage]| {
        damages.iter().fold(corpus[nth].clone(), |text, damage| damage.to(&text))
    };
    let result =
        TestRunner::new(config).run(&damages, |(nth, damages)| bench.holds(&text(nth, &damages)));
    match result {
        Ok(()) => {
            let rendered = bench.rendered.borrow().len();
            assert!(rendered > 1 || cases < 1_000, "no damaged profile was valid: {rendered}");
        }
        Err(TestError::Fail(why, (nth, damages))) => panic!(
            "K8SHA_FUZZ_SEED={seed} (part {part}): {why}\n{damages:?}\n{:?}",
            text(nth, &damages)
        ),
        Err(error) => panic!("K8SHA_FUZZ_SEED={seed} (part {part}): {error}"),
    }
}

#[test]
fn damaged_profiles_part_one() {
    fuzz(0);
}

#[test]
fn damaged_profiles_part_two() {
    fuzz(1);
}

#[test]
fn damaged_profiles_part_three() {
    fuzz(2);
}

#[test]
fn damaged_profiles_part_four() {
    fuzz(3);
}

/// If another profile of the same structure is valid, its documents contain the hostile word unchanged.
#[test]
fn every_word_in_every_place_is_refused_or_rendered() {
    let bench = Bench::new();
    let base = EMBEDDED.iter().find(|(name, _)| *name == "homelab").unwrap().1;
    let lines = base.lines().count();
    for (nth, word) in HOSTILE.iter().enumerate() {
        for line in (nth % 7..lines).step_by(7) {
            let text = Damage::Value(line, nth).to(base);
            bench.holds(&text).unwrap_or_else(|why| panic!("{word:?} in line {line}: {why}"));
        }
    }
    let cluster = profile::load("homelab").unwrap().cluster;
    assert!(cluster.nodes.iter().any(|node| node.role == Role::LoadBalancer));
    bench.renders(&cluster).unwrap();
}

/// Extreme texts: large, deep, wide, empty.
#[test]
fn the_largest_and_strangest_texts_are_refused_in_time() {
    let bench = Bench::new();
    let many = |line: &str, count: usize| line.repeat(count);
    let keys: String = (0..9_900).map(|nth| format!("key{nth}: 1\n")).collect();
    let rows = format!("nodes:\n{}", many("  - { nam: a, rol: b, ip: c }\n", 990));
    let typed = format!("nodes:\n{}", many("  - { name: a, role: 1, ip: x, vmid: y }\n", 990));
    for text in [
        String::new(),
        "\u{feff}".to_owned(),
        many("\n", 1 << 20),
        many("- ", 1 << 19),
        many("[", 1 << 20),
        many("{a: ", 1 << 18),
        many("a: &x [*x]\n", 9_000),
        many("? ", 1 << 19),
        format!("a: {}", many("x", 1 << 20)),
        format!("a: |\n{}", many("  x\n", 9_000)),
        format!("a: \"{}\"", many("\\x1b", 4_000)),
        keys,
        rows,
        typed,
    ] {
        let name: String = text.chars().take(20).collect();
        bench.holds(&text).unwrap_or_else(|why| panic!("{name:?}: {why}"));
        let source = Source { name: "x".into(), text, base: PathBuf::new() };
        assert!(profile::read(source).is_err(), "{name:?} is no profile");
    }
}
