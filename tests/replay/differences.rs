//! Where the simulator and a real Proxmox VE differ, each with its reason; and what is not
//! replayed at all. This table is the whole of it: a difference that is not here fails the test.

use std::ops::RangeInclusive;

use crate::second;

/// Exchanges that are not replayed.
pub const LEFT_OUT: &[(&[RangeInclusive<u64>], &str)] = &[
    (&[738..=743, 760..=765], "clones that race each other: who wins is chance"),
    (&[889..=896, 927..=970], "parallel load: how long a worker takes is the real host's own"),
    (&[900..=900], "the end of a race between stop and `qm cleanup`"),
    (
        &[853..=875],
        "daemons of a host stopped one at a time: a simulated host is there as a whole or not",
    ),
    (&[692..=692], "goes on a connection whose first request is not in the recordings"),
];

const ELLIPTIC: &str = "the simulator's keys are elliptic: making RSA keys takes seconds";

/// Lines, how the texts of their differences may begin, and why.
pub type Entry = (&'static [RangeInclusive<u64>], &'static [&'static str], &'static str);

/// Differences: in which lines, how their texts may begin, and why.
///
/// What stays here cannot be closed: the recorded host ran another QEMU or lacked programs, it was chance
/// (the order of a hash, how long a worker took, the middle of a round), or it needs what a simulated host
/// has not: RSA keys, which the crypto library at hand does not make, pages for people, and a guest that
/// boots from any ISO image.
pub const LISTED: &[Entry] = &[
    (
        &[33..=33],
        &["status: 200, here 404", "said here: no such file '/api2/"],
        "the API's pages for people, and the design that they need, are not simulated",
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
        "the recorded guest, a system with an agent on an ISO image of its own, is not simulated",
    ),
    (
        &[210..=211, 444..=445],
        &["body.data.exitstatus: `clone failed: ", "body.data[last]: `TASK ERROR: clone failed: "],
        "the recorded host's QEMU could not copy the disk of a running VM; Proxmox's own can",
    ),
    (
        &[276..=277],
        &["body.data[qemu/150]."],
        "asked in the middle of a round of the recorded `pvestatd`, which had told of VM 150, a \
         third of a second old, and not yet of VM 103, which had stopped before: a simulated \
         round is one instant, and comes before or after",
    ),
    (
        &[282..=282],
        &["body.data[].", "body.total"],
        "the recorded clone still ran, which took longer than the others of its kind",
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

/// The place in the tables of a difference: of the entry, and of the beginning in it.
pub fn listed(line: u64, difference: &str) -> Option<(usize, usize)> {
    let of = |(place, (lines, starts, _)): (usize, &Entry)| {
        let start = starts.iter().position(|start| difference.starts_with(start));
        start.filter(|_| covers(lines, line)).map(|start| (place, start))
    };
    all().find_map(of)
}

/// The entries of a recording, whose lines these are.
fn within(lines: &RangeInclusive<u64>) -> impl Iterator<Item = (usize, &'static Entry)> {
    all()
        .filter(move |(_, (covered, ..))| covered.iter().all(|range| lines.contains(range.start())))
}

/// How many entries a recording has.
pub fn entries(lines: &RangeInclusive<u64>) -> usize {
    within(lines).count()
}

/// All the places of a recording in the tables.
pub fn places(lines: &RangeInclusive<u64>) -> impl Iterator<Item = (usize, usize)> {
    within(lines).flat_map(|(place, entry)| (0..entry.1.len()).map(move |start| (place, start)))
}
