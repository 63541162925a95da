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

const ELLIPTIC: &str = "the simulator's keys are elliptic: making RSA keys takes seconds";

/// Differences: in which lines, how their text begins (empty: all of it), and why.
pub const LISTED: &[(&[RangeInclusive<u64>], &str, &str)] = &[
    (
        &[42..=42, 44..=44, 333..=333],
        "",
        "the recorded host had no working DNS; a look-up that works says another sentence",
    ),
    (&[33..=35], "", "of the formats of `/api2/` JSON and ExtJS alone are simulated"),
    (
        &[190..=193, 195..=195, 421..=432, 591..=591],
        "",
        "of the guest agent `ping` and `network-get-interfaces` alone are simulated, and the \
         recorded guest, an ISO image with an agent in it, is not",
    ),
    (
        &[210..=211, 444..=445],
        "",
        "the recorded host's QEMU could not copy the disk of a running VM; Proxmox's own can",
    ),
    (
        &[358..=358, 596..=597, 618..=619, 771..=772, 925..=925],
        "",
        "methods that are not simulated: URL metadata, snapshots, syslog, cluster configuration",
    ),
    (&[635..=636], "", "Perl checks a VM's options in the order of a hash, which is chance"),
    (&[766..=766, 836..=836], "body.data[cluster].name", "the cluster has its own name"),
    (&[769..=770], "body.data[pve-root-ca.pem].public-key-type", ELLIPTIC),
    (&[769..=770], "body.data[pve-ssl.pem].public-key-type", ELLIPTIC),
    (&[899..=899], "", "a log as a compressed file is not simulated"),
    (&[913..=913], "", "the snippet was put into the host's file system by hand"),
];

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
