//! Checks the structure of the code: which part may import which, and how long a file may be.

#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Part → the parts that it may import. An unlisted part may not exist.
const ARROWS: &[(&str, &[&str])] = &[
    // Separate crates: base, file by file, and the client.
    ("cause", &[]),
    ("clock", &["limits"]),
    ("event", &["secrets", "text"]),
    ("hash", &[]),
    ("limits", &[]),
    ("retry", &["event", "clock"]),
    ("secrets", &[]),
    ("table", &[]),
    ("text", &[]),
    ("proxmox", &["cause", "clock", "event", "limits", "retry", "secrets"]),
    // The product. Of the client, the command line and the planner only use its terms.
    ("cluster", &["proxmox"]),
    ("mark", &["cluster", "proxmox"]),
    ("error", &["text"]),
    ("files", &[]),
    ("net", &[]),
    ("pki", &[]),
    ("report", &["error", "event", "limits", "secrets", "table", "text"]),
    ("profile", &["cluster", "files", "text"]),
    ("cloudinit", &["cluster", "files", "hash"]),
    ("ssh", &["cause", "limits", "net", "report", "secrets", "clock"]),
    ("dns", &["cause", "cluster", "limits", "net", "table", "text"]),
    (
        "kubeadm",
        &["cause", "cluster", "limits", "ssh", "report", "secrets", "clock", "files", "pki"],
    ),
    // From the Proxmox side only the mark's text form, which is pure.
    ("plan", &["cluster", "hash", "mark", "proxmox", "table", "text"]),
    ("exits", &["cloudinit", "dns", "error", "kubeadm", "proxmox", "ssh"]),
    // Runs checks before a run; a run does not need it.
    ("doctor", &["cluster", "dns", "error", "files", "net", "pki", "plan", "proxmox", "text"]),
    ("routes", &["cluster", "error", "files", "limits", "net", "secrets", "ssh", "clock"]),
    ("state", &["cluster", "error", "files", "pki", "secrets", "ssh"]),
    ("settings", &["cluster", "error", "files", "proxmox", "secrets", "text"]),
    (
        "run",
        &[
            "cloudinit",
            "cluster",
            "dns",
            "error",
            "exits",
            "files",
            "kubeadm",
            "limits",
            "mark",
            "net",
            "plan",
            "proxmox",
            "report",
            "settings",
            "ssh",
            "state",
            "clock",
        ],
    ),
    (
        "cli",
        &[
            "cloudinit",
            "cluster",
            "dns",
            "doctor",
            "error",
            "exits",
            "files",
            "kubeadm",
            "limits",
            "net",
            "plan",
            "profile",
            "proxmox",
            "report",
            "routes",
            "run",
            "secrets",
            "settings",
            "ssh",
            "state",
            "clock",
            "table",
            "text",
        ],
    ),
    // Another binary: the same command line with real machines.
    ("lab", &["cli"]),
];

/// Crates that only one part may use.
const FENCES: &[(&str, &[&str])] = &[
    ("backoff", &["crates/base/src/retry.rs"]),
    ("russh", &["src/ssh/", "crates/simulator/", "src/profile/"]),
    ("hadris_iso", &["src/cloudinit/", "crates/simulator/"]),
    ("reqwest", &["crates/proxmox/"]),
    ("hyper", &["crates/simulator/", "crates/proxmox/"]),
    ("hickory_resolver", &["src/dns/"]),
    ("hickory_server", &["crates/simulator/", "src/dns/"]),
    ("indicatif", &["src/report/"]),
    ("clap", &["src/cli/", "crates/lab/"]),
    ("comfy_table", &["crates/base/src/table.rs"]),
    ("regex", &["crates/simulator/"]),
    ("socket2", &["src/net.rs"]),
];

const LONGEST_FILE: usize = 500;

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push((path.clone(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    walk(&root.join("src"), &mut found);
    walk(&root.join("crates"), &mut found);
    assert!(found.len() > 50, "the sources were not found");
    let relative = |path: PathBuf| path.strip_prefix(root).unwrap().to_owned();
    let all = found.into_iter().map(|(path, text)| (relative(path), text));
    all.filter(|(path, _)| !is_test(path)).collect()
}

/// Whether a file is compiled for tests only.
fn is_test(path: &Path) -> bool {
    let names = ["tests", "tests.rs", "testing.rs", "fake.rs", "scripted.rs", "fixture.rs"];
    path.components().any(|part| names.iter().any(|name| part.as_os_str() == *name))
}

/// A file's code without its unit tests and comments.
fn code(text: &str) -> String {
    let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    product
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The part of a file; `None`: it belongs to the simulator, which imports none of these.
fn part(path: &Path) -> Option<String> {
    let names: Vec<_> = path.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    let part = match names.as_slice() {
        ["src", part, ..] | ["crates", "base", "src", part, ..] => part,
        ["crates", "proxmox", ..] => "proxmox",
        ["crates", "lab", ..] => "lab",
        _ => return None,
    };
    Some(part.trim_end_matches(".rs").to_owned())
}

/// The parts that a file uses, by the paths in its code.
fn imports(from: &str, text: &str) -> BTreeSet<String> {
    let name = |rest: &str| -> String {
        rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
    };
    let after = |word: &str| -> BTreeSet<String> {
        let named = text.match_indices(word).map(|(at, word)| name(&text[at + word.len()..]));
        named.filter(|name| !name.is_empty()).collect()
    };
    if from == "lab" {
        return after("k8sha::");
    }
    let mut found = after("k8sha_base::");
    if from == "proxmox" {
        // There `crate` is the client's.
        return found;
    }
    found.extend(after("crate::"));
    if text.contains("k8sha_proxmox") {
        found.insert("proxmox".to_owned());
    }
    found
}

#[test]
fn imports_point_one_way() {
    let arrows: BTreeMap<_, BTreeSet<_>> =
        ARROWS.iter().map(|(from, to)| (*from, to.iter().copied().collect())).collect();
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let Some(from) = part(&path) else { continue };
        if ["main", "lib"].contains(&from.as_str()) {
            continue;
        }
        let Some(allowed) = arrows.get(from.as_str()) else {
            wrong.push(format!("{} belongs to no part of the map", path.display()));
            continue;
        };
        for to in imports(&from, &code(&text)) {
            if to != from && arrows.contains_key(to.as_str()) && !allowed.contains(to.as_str()) {
                wrong.push(format!("{}: {from} may not import {to}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Part → the parts that its files import, as measured.
fn measured() -> BTreeMap<String, BTreeSet<String>> {
    let known: BTreeSet<&str> = ARROWS.iter().map(|(from, _)| *from).collect();
    let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, text) in sources() {
        let Some(from) = part(&path).filter(|from| known.contains(from.as_str())) else { continue };
        let to = imports(&from, &code(&text)).into_iter();
        let to = to.filter(|to| *to != from && known.contains(to.as_str()));
        arrows.entry(from.clone()).or_default().extend(to);
    }
    arrows
}

#[test]
fn no_parts_import_each_other_in_a_circle() {
    let mut left = measured();
    loop {
        let bottom: Vec<String> =
            left.iter().filter(|(_, to)| to.is_empty()).map(|(from, _)| from.clone()).collect();
        if bottom.is_empty() {
            break;
        }
        left.retain(|from, _| !bottom.contains(from));
        left.values_mut().for_each(|to| to.retain(|to| !bottom.contains(to)));
    }
    assert!(left.is_empty(), "an import cycle is among these: {left:#?}");
}

#[test]
fn the_drawing_of_the_imports_is_correct() {
    const FENCE: &str = "```imports\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md");
    let text = fs::read_to_string(&path).unwrap();
    let (head, rest) = text.split_once(FENCE).unwrap();
    let (drawn, tail) = rest.split_once("```").unwrap();
    let line = |(from, to): (&String, &BTreeSet<String>)| {
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        format!("{from:<10} → {}", to.join(", ")).trim_end_matches(" → ").trim_end().to_owned()
            + "\n"
    };
    let wanted: String = measured().iter().map(line).collect();
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        fs::write(&path, format!("{head}{FENCE}{wanted}```{tail}")).unwrap();
    } else {
        assert!(drawn == wanted, "ARCHITECTURE.md should draw:\n{wanted}");
    }
}

/// All calls of the simulator's Proxmox side to the guests.
const ASKED_OF_GUESTS: &[&str] = &[
    "power_on",
    "power_off",
    "media",
    "destroy",
    "reacts",
    "agent",
    "hostname",
    "addresses",
    "take_stopped",
];

#[test]
fn the_simulators_sides_meet_at_a_few_calls_and_know_no_real_machine() {
    let mut wrong = Vec::new();
    let mut asked = BTreeSet::new();
    for (path, text) in sources() {
        let Ok(inside) = path.strip_prefix("crates/simulator/src") else { continue };
        let code = code(&text);
        if ["k8sha_lab", "nspawn", "netns"].iter().any(|word| code.contains(word)) {
            wrong.push(format!("{} knows of real machines", path.display()));
        }
        if inside.starts_with("guests") && code.contains("pve::") {
            wrong.push(format!("{}: guests import Proxmox", path.display()));
        }
        if !inside.starts_with("pve") {
            continue;
        }
        if code.contains("guests::") {
            wrong.push(format!("{}: Proxmox imports the guests' parts", path.display()));
        }
        for (at, word) in code.match_indices("world.guests.") {
            let call = code[at + word.len()..].split('(').next().unwrap().to_owned();
            if !ASKED_OF_GUESTS.contains(&call.as_str()) {
                wrong.push(format!("{} asks the guests for {call}", path.display()));
            }
            asked.insert(call);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(asked.len(), ASKED_OF_GUESTS.len(), "one of the calls is not used: {asked:?}");
}

#[test]
fn crates_stay_behind_their_fences() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let code = code(&text);
        for (name, places) in FENCES {
            let used =
                code.contains(&format!("{name}::")) || code.contains(&format!("use {name};"));
            let inside = places.iter().any(|place| path.to_string_lossy().starts_with(place));
            if used && !inside {
                wrong.push(format!("{} uses {name}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Operations that must be in one place only: the words that perform them, and the places.
const DOORS: &[(&[&str], &[&str], &str)] = &[
    (
        &["print!(", "println!(", "dbg!(", "stderr()", "stdout()", "with_writer(io::"],
        &["src/report/screen.rs"],
        "prints past `report::screen`, which masks and escapes",
    ),
    (
        &["Styled::ours("],
        &["crates/base/src/text.rs", "src/profile/complaint.rs", "src/profile/load.rs"],
        "makes text that reaches a terminal as it is",
    ),
    (
        &["MultiProgress", "ProgressBar"],
        &["src/report/term.rs"],
        "draws on the terminal past `report::term`, whose events come harmless",
    ),
    (
        &["fs::read(", "read_to_string(", "File::open(", "pem_file", "from_pem_file"],
        &["src/files/input.rs", "crates/simulator/", "crates/lab/"],
        "reads a file past `files`, which bounds it",
    ),
    (
        &["env::var(", "env::vars("],
        &["src/settings.rs", "crates/simulator/", "crates/lab/"],
        "reads the environment past `settings`",
    ),
];

#[test]
fn operations_with_one_entry_point_use_it() {
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for (path, text) in sources() {
        let code = code(&text);
        for (words, places, why) in DOORS {
            let inside = places.iter().any(|place| path.to_string_lossy().starts_with(place));
            let word = words.iter().find(|word| code.contains(**word));
            match word {
                Some(word) if !inside => wrong.push(format!("{}: `{word}` {why}", path.display())),
                Some(_) => drop(used.insert(why)),
                None => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(used.len(), DOORS.len(), "an unused entry point is not where it is expected");
}

#[test]
fn the_planner_performs_nothing() {
    let impure = [
        "async ",
        "async{",
        ".await",
        "Context",
        "perform(",
        "tokio::",
        "std::fs",
        "std::net::Tcp",
    ];
    let mut seen = 0;
    for (path, text) in sources().into_iter().filter(|(path, _)| path.starts_with("src/plan")) {
        let code = code(&text);
        for word in impure {
            assert!(!code.contains(word), "{} says `{word}`", path.display());
        }
        seen += 1;
    }
    assert!(seen > 20, "the plan was not found");
}

#[test]
fn each_family_of_actions_is_performed_in_the_file_of_its_name() {
    let names = |folder: &str| -> BTreeSet<String> {
        let within =
            sources().into_iter().filter(|(path, _)| path.parent() == Some(Path::new(folder)));
        within.map(|(path, _)| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    };
    let (planned, performed) = (names("src/plan/action"), names("src/run/step"));
    assert!(planned.len() > 5, "the actions were not found");
    let lost: Vec<_> = planned.difference(&performed).collect();
    assert!(lost.is_empty(), "no file under src/run/step: {lost:?}");
    for (path, text) in sources().into_iter().filter(|(path, _)| path.starts_with("src/run/step")) {
        let chooses = code(&text).contains(".specs") || code(&text).contains("spec::changes");
        assert!(!chooses, "{} chooses what its action carries", path.display());
    }
}

#[test]
fn a_cluster_is_edited_only_while_a_command_resolves_it() {
    let places =
        ["src/cli/access.rs", "src/cli/world.rs", "src/cli/simulated/", "src/cli/unsimulated.rs"];
    let mut seen = 0;
    for (path, text) in sources() {
        if code(&text).contains("&mut Cluster") {
            let inside = places.iter().any(|place| path.to_string_lossy().starts_with(place));
            assert!(inside, "{} edits a cluster", path.display());
            seen += 1;
        }
    }
    assert!(seen > 1, "the places where it is edited were not found");
}

#[test]
fn texts_name_who_or_what_is_meant() {
    let vague = [
        "nobody",
        "somebody",
        "everybody",
        "whoever",
        "anew",
        "mended",
        "mends",
        // Phrases that read as translated.
        "silent when all is well",
        "what other programs read about",
        "all that carries our mark",
        "a reader that has gone away",
        "what it was is kept beside",
        "unless said otherwise;",
        "its last words",
        "takes no other one",
        "step on each other",
        "services stay dead",
        "carried out all the same",
        "trusts nothing unverified",
    ];
    let mut wrong = Vec::new();
    let ours = |path: &Path| path.starts_with("src") || path.starts_with("crates");
    for (path, text) in sources().into_iter().filter(|(path, _)| ours(path)) {
        for (number, line) in text.lines().enumerate() {
            // The name of a user of every Linux system.
            let line = line.to_lowercase().replace("\"nobody\"", "");
            if vague.iter().any(|word| line.contains(word)) {
                wrong.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_is_too_long() {
    let long: Vec<String> = sources()
        .into_iter()
        .filter(|(_, text)| text.lines().count() > LONGEST_FILE)
        .map(|(path, text)| format!("{}: {} lines", path.display(), text.lines().count()))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}
