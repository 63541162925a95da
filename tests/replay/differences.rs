//! Where the simulator and a real Proxmox VE differ, each with its reason; and what is not
//! replayed at all. This table is the whole of it: a difference that is not here fails the test.

use std::ops::RangeInclusive;

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

/// Differences: in which lines, how their text begins (empty: all of it), and why.
pub const LISTED: &[(&[RangeInclusive<u64>], &str, &str)] = &[];

fn covers(lines: &[RangeInclusive<u64>], line: u64) -> bool {
    lines.iter().any(|range| range.contains(&line))
}

/// Why a line is not replayed.
pub fn left_out(line: u64) -> Option<&'static str> {
    LEFT_OUT.iter().find(|(lines, _)| covers(lines, line)).map(|(_, reason)| *reason)
}

/// The place in the table of a difference.
pub fn listed(line: u64, difference: &str) -> Option<usize> {
    LISTED.iter().position(|(lines, start, _)| covers(lines, line) && difference.starts_with(start))
}
