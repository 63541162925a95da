//! The differences between the simulator and a real Proxmox VE, each with its reason; and the exchanges
//! that are not replayed. The table is complete: a difference that is not here fails the test.

use std::ops::RangeInclusive;

use crate::second;

/// Exchanges that are not replayed.
pub const LEFT_OUT: &[(&[RangeInclusive<u64>], &str)] = &[
    (&[738..=743, 760..=765], "clones that race each other: the winner is chance"),
    (&[889..=896, 927..=970], "parallel load: the duration of a worker depends on the real host"),
    (&[900..=900], "the end of a race between stop and `qm cleanup`"),
    (
        &[853..=875],
        "daemons of a host stopped one at a time: a simulated host is up or down as a whole",
    ),
    (&[692..=692], "continues a connection whose first request is not in the recordings"),
];

const ELLIPTIC: &str = "the simulator's keys are elliptic: generating RSA keys takes seconds";

/// Lines, prefixes of the texts of their differences, and the reason.
pub type Entry = (&'static [RangeInclusive<u64>], &'static [&'static str], &'static str);

/// Differences: their lines, prefixes of their texts, and the reason.
///
/// The entries here cannot be removed: the recorded host ran another QEMU or lacked programs, it was
/// chance (the order of a hash, how long a worker took, the middle of a round), or it needs what a
/// simulated host does not have: RSA keys, which the available crypto library does not generate, pages
/// for browsers, and a guest that boots from any ISO image.
pub const LISTED: &[Entry] = &[
    (
        &[33..=33],
        &["status: 200, here 404", "said here: no such file '/api2/"],
        "the API's HTML pages, and their style sheets, are not simulated",
    ),
    (
        &[421..=432],
        &[
            "status: 200, here 500",
            "status: 596, here 500",
            "said here: QEMU guest agent is not running",
            "reason: Agent error: ",
            "body.message: `Agent error: ",
        ],
        "the recorded guest, a custom ISO image with an agent, is not simulated",
    ),
    (
        &[210..=211, 444..=445],
        &["body.data.exitstatus: `clone failed: ", "body.data[last]: `TASK ERROR: clone failed: "],
        "the recorded host's QEMU could not copy the disk of a running VM; Proxmox's own can",
    ),
    (
        &[276..=277],
        &["body.data[qemu/150]."],
        "requested in the middle of a round of the recorded `pvestatd`, which had reported VM 150, a \
         third of a second old, and not yet of VM 103, which had stopped before: a simulated \
         round is one instant, and comes before or after",
    ),
    (
        &[282..=282],
        &["body.data[].", "body.total"],
        "the recorded clone was still running; it took longer than similar ones",
    ),
    (
        &[635..=636],
        &[
            "reason: Permission check failed (/vms/302, VM.Config.",
            "body.message: `Permission check failed (/vms/302, VM.Config.",
        ],
        "Perl checks a VM's options in the order of a hash, which is chance",
    ),
    (
        &[769..=770],
        &[
            "body.data[pve-root-ca.pem].public-key-type: `rsaEncryption`",
            "body.data[pve-ssl.pem].public-key-type: `rsaEncryption`",
        ],
        ELLIPTIC,
    ),
];

fn covers(lines: &[RangeInclusive<u64>], line: u64) -> bool {
    lines.iter().any(|range| range.contains(&line))
}

/// Why a line is not replayed.
pub fn left_out(line: u64) -> Option<&'static str> {
    let mut all = LEFT_OUT.iter().chain(second::LEFT_OUT);
    all.find(|(lines, _)| covers(lines, line)).map(|(_, reason)| *reason)
}

/// The entries of both recordings.
fn all() -> impl Iterator<Item = (usize, &'static Entry)> {
    LISTED.iter().chain(second::LISTED).enumerate()
}

/// The position of a difference in the tables: of the entry, and of the prefix in it.
pub fn listed(line: u64, difference: &str) -> Option<(usize, usize)> {
    let of = |(place, (lines, starts, _)): (usize, &Entry)| {
        let start = starts.iter().position(|start| difference.starts_with(start));
        start.filter(|_| covers(lines, line)).map(|start| (place, start))
    };
    all().find_map(of)
}

/// The entries of a recording with these lines.
fn within(lines: &RangeInclusive<u64>) -> impl Iterator<Item = (usize, &'static Entry)> {
    all()
        .filter(move |(_, (covered, ..))| covered.iter().all(|range| lines.contains(range.start())))
}

/// How many entries a recording has.
pub fn entries(lines: &RangeInclusive<u64>) -> usize {
    within(lines).count()
}

/// All positions of a recording in the tables.
pub fn places(lines: &RangeInclusive<u64>) -> impl Iterator<Item = (usize, usize)> {
    within(lines).flat_map(|(place, entry)| (0..entry.1.len()).map(move |start| (place, start)))
}
