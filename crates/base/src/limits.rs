//! Limits on what is accepted from another machine: bytes, lines, values and time.
//!
//! A Proxmox host or a guest may be broken, compromised, or not the machine that it should be. Every
//! limit is far above what a healthy peer sends and far below what harms this machine: whatever one
//! peer sends, a command stays under 200 MB of memory. Exceeding a limit is an error that names the
//! peer, the request, and the limit. Limits of size are the same everywhere; those of time are
//! shortened only by [`Clock::limit`](crate::clock::Clock::limit).

use std::time::Duration;

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

const fn hours(count: u64) -> Duration {
    Duration::from_secs(count * 3600)
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The API of Proxmox VE.
pub mod http {
    use super::*;

    /// To connect, including TLS: a host on the same site answers in milliseconds.
    pub const CONNECT: Duration = seconds(5);
    /// From the first byte of a request to the last of its answer, so that a slow trickle ends too.
    /// Longer than the thirty seconds after which Proxmox VE's own proxy gives up (pve-http-server
    /// src/PVE/APIServer/AnyEvent.pm).
    pub const ANSWER: Duration = seconds(60);
    /// The same for a request with a file: a seed of 1 MB over a slow line.
    pub const UPLOAD: Duration = minutes(15);
    /// Header lines of an answer; Proxmox VE sends about eight. Their bytes are limited by hyper to
    /// 408 KiB.
    pub const HEADERS: usize = 64;
    /// An answer about one object: the largest is a VM's configuration, with notes of 8 KiB and keys.
    pub const ANSWER_BYTES: usize = MIB;
    /// A list: 10,000 VMs of a Proxmox cluster at 600 bytes each.
    pub const LIST_BYTES: usize = 8 * MIB;
    /// A failed task's log, of which only the end is shown: a download writes 20,000 lines per
    /// gigabyte.
    pub const LOG_BYTES: usize = 8 * MIB;
    /// The body of a refusal; a longer one is not read, because the reason is in the first line.
    pub const REFUSAL_BYTES: usize = 64 * KIB;
    /// Values in an answer, counted by `,` and `:`. A body of empty objects would take a hundred times
    /// its size once parsed; this limit keeps it below 50 MB.
    pub const VALUES: usize = 200_000;
    /// One text of an answer; the longest that Proxmox VE stores are 8 KiB of notes.
    pub const TEXT_BYTES: usize = 64 * KIB;
    /// The words of a refusal that are kept; Proxmox VE's own have a few hundred characters.
    pub const WORDS: usize = 2000;
    /// Errors for individual parameters that are kept.
    pub const COMPLAINTS: usize = 20;
}

/// Tasks of Proxmox VE.
pub mod task {
    use super::*;

    /// A task's id: a node of 63 bytes, a type, an object, a user of 64 bytes with realm and token.
    pub const UPID_BYTES: usize = 512;
    /// Log lines requested at once, to see a task's progress.
    pub const LINES: u32 = 500;
    /// The last lines of a failed task's log that are shown.
    pub const TAIL: usize = 15;
    /// Characters of one such line.
    pub const LINE: usize = 500;
    /// How long a host may not answer about a task before k8sha gives up: longer than a restart of its
    /// daemons.
    pub const SILENCE: Duration = minutes(2);
    /// A task that just started may not be known yet: its log file does not exist yet.
    pub const BIRTH: Duration = seconds(2);
    /// How long a VM may keep a lock that no task of k8sha's holds.
    pub const LOCKED: Duration = minutes(30);
    /// How long an operation seen in progress may remain so after a lost answer.
    pub const UNDERWAY: Duration = hours(2);

    /// The time limit of a task of this type.
    ///
    /// Tasks that copy or download a disk may take as long as that takes: 100 GiB at 15 MB/s, which is
    /// a slow disk that several clones share. The others are done in seconds; Proxmox VE itself gives
    /// up on a start or a stop after minutes (qemu-server src/PVE/QemuServer.pm), and `saferemove`
    /// overwrites what it removes.
    pub fn time(kind: &str) -> Duration {
        match kind {
            "qmclone" | "qmcreate" | "qmmove" | "qmtemplate" | "download" => hours(2),
            "qmdestroy" | "imgdel" => hours(2),
            "imgcopy" | "qmconfig" | "resize" => minutes(30),
            "qmstart" | "qmstop" | "qmshutdown" | "qmreboot" => minutes(15),
            _ => hours(1),
        }
    }
}

/// SSH: nodes, jump hosts, Proxmox hosts.
pub mod ssh {
    use super::*;

    /// To open a TCP connection.
    pub const CONNECT: Duration = seconds(10);
    /// From there to the end of the login: identification, key exchange, banners, keys. OpenSSH itself
    /// gives a client 120 s (`LoginGraceTime`), most of it for a user who types.
    pub const LOGIN: Duration = seconds(20);
    /// Bytes that a server may send until then; a login takes about 5 KiB.
    pub const LOGIN_BYTES: u64 = MIB as u64;
    /// Bytes of banners before the login; legal notices have a page.
    pub const BANNER_BYTES: usize = 64 * KIB;
    /// A command, unless it requests a longer limit.
    pub const COMMAND: Duration = seconds(60);
    /// Standard output of a command, unless it requests more: one of k8sha's files, a unit's state, the
    /// end of a log.
    pub const STDOUT: usize = MIB;
    /// Standard output of a command that lists: a host's routes, Kubernetes objects.
    pub const LIST: usize = 4 * MIB;
    /// Standard error of a command.
    pub const STDERR: usize = 256 * KIB;
    /// Characters of an error that quote the peer.
    pub const QUOTED: usize = 2000;
}

/// Name servers. One answer is limited by the protocol: 64 KiB (RFC 1035 §4.2.2).
pub mod dns {
    use super::*;

    /// One transport of a query, which is sent by UDP and then, if unanswered, by TCP.
    pub const TRANSPORT: Duration = seconds(1);
    /// A query in total; a little more than both transports.
    pub const QUESTION: Duration = Duration::from_millis(2200);
    /// Records of an answer that are kept. The correct answer has one.
    pub const RECORDS: usize = 16;
    /// Characters of an unparsable answer that are kept.
    pub const WORDS: usize = 300;
}

/// The inventory of hosts and machines, before anything is planned.
pub mod look {
    use super::*;

    /// A host or a machine that has not answered by then is reported: on one site, all of them answer
    /// in a tenth of that time.
    pub const SLOW: Duration = seconds(1);
    /// All of it. k8sha gives up on a machine that accepts a login and then does not answer after
    /// seconds, on a host after its retries; several such waits may follow one another.
    pub const WHOLE: Duration = minutes(5);
    /// The extra time for waiting for a clone in progress.
    pub const CLONE: Duration = minutes(15);
}

/// Steps of a plan, whatever they wait for. Each limit is longer than all the limits within such a
/// step: it ends what they miss, such as a peer that takes nearly the maximum time for every single
/// call.
pub mod step {
    use super::*;

    /// A step that copies or downloads a disk.
    pub const COPY: Duration = hours(6);
    /// Any other: a first boot may take forty minutes, and so may kubeadm on a slow line.
    pub const OTHER: Duration = hours(3);
    /// A simulated world's limits are shorter by its speed, but never shorter than this: the machine
    /// that simulates it is not faster than any other.
    pub const LEAST: Duration = minutes(10);
}

/// The least time for a simulated world's tasks and locks, for the same reason.
pub const LEAST: Duration = seconds(30);

/// A longer wait reports what it waits for.
pub const UNTOLD: Duration = seconds(5);
/// The interval of further reports.
pub const TOLD_AGAIN: Duration = seconds(30);

/// At most this many characters of a foreign text, with control characters escaped and the number of
/// omitted characters at its end.
pub fn excerpt(text: &str, most: usize) -> String {
    let mut shown = String::new();
    let mut letters = text.chars();
    for letter in letters.by_ref().take(most) {
        if letter == '\n' || letter == '\'' || letter == '"' || letter == '\\' {
            shown.push(letter);
        } else {
            shown.extend(letter.escape_debug());
        }
    }
    match letters.count() {
        0 => shown,
        rest => format!("{shown}… ({rest} more characters)"),
    }
}

/// A number of bytes in words: `64 KiB`.
pub fn size(bytes: usize) -> String {
    match bytes {
        _ if bytes >= MIB && bytes.is_multiple_of(MIB) => format!("{} MiB", bytes / MIB),
        _ if bytes >= KIB && bytes.is_multiple_of(KIB) => format!("{} KiB", bytes / KIB),
        _ => format!("{bytes} bytes"),
    }
}

/// A duration in words: `2 h`, `90 s`.
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        _ if seconds >= 7200 || seconds == 3600 => format!("{} h", seconds / 3600),
        _ if seconds >= 120 => format!("{} min", seconds / 60),
        _ => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_truncated_with_a_note() {
        assert_eq!(excerpt("short", 10), "short");
        assert_eq!(excerpt(&"x".repeat(5_000_000), 3), "xxx… (4999997 more characters)");
        assert_eq!(excerpt("größer", 3), "grö… (3 more characters)");
    }

    #[test]
    fn an_excerpt_has_no_control_characters_except_newlines() {
        let text = "a\u{1b}]52;c;x\u{7}\u{9b}m\u{202e}b\r\nc\0 it's \"d\"\\";
        let shown = excerpt(text, 100);
        assert!(!shown.chars().any(|letter| letter.is_control() && letter != '\n'), "{shown:?}");
        assert!(!shown.contains('\u{202e}'), "{shown:?}");
        assert!(
            shown.starts_with("a\\u{1b}]52;c;x") && shown.ends_with(" it's \"d\"\\"),
            "{shown}"
        );
    }

    #[test]
    fn sizes_and_times_are_in_words() {
        assert_eq!([size(MIB), size(64 * KIB), size(1)], ["1 MiB", "64 KiB", "1 bytes"]);
        let spans = [seconds(20), seconds(90), minutes(15), hours(1), hours(6)].map(span);
        assert_eq!(spans, ["20 s", "90 s", "15 min", "1 h", "6 h"]);
        assert_eq!(span(Duration::from_millis(333)), "333 ms");
    }

    #[test]
    fn every_kind_of_task_has_a_limit_that_a_step_outlives() {
        for kind in ["qmclone", "qmstart", "qmshutdown", "imgcopy", "imgdel", "something new"] {
            let time = task::time(kind);
            assert!(time >= minutes(15) && time < step::OTHER, "{kind}: {time:?}");
        }
    }
}
