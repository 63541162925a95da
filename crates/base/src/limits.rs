//! Limits on what is accepted from another machine: bytes, lines, values and time.
//!
//! A Proxmox host or a guest may be broken, taken over, or not what stands at that address at all.
//! Every limit is far above what a healthy peer sends and far below what hurts this machine:
//! whatever one peer sends, a command stays under 200 MB of memory. Passing a limit is an error that
//! names the peer, what was asked, and the limit. Limits of size are the same everywhere; those of
//! time are shortened only by [`Clock::limit`](crate::clock::Clock::limit).

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

    /// To connect, TLS included: a host on the same site answers in milliseconds.
    pub const CONNECT: Duration = seconds(5);
    /// From the first byte of a request to the last of its answer, so that one that trickles ends
    /// too. Longer than the thirty seconds after which Proxmox VE's own proxy gives up (pve-http-server
    /// src/PVE/APIServer/AnyEvent.pm).
    pub const ANSWER: Duration = seconds(60);
    /// The same for a request that carries a file: a seed of 1 MB over a slow line.
    pub const UPLOAD: Duration = minutes(15);
    /// Header lines of an answer; Proxmox VE sends about eight. Their bytes are limited by hyper to
    /// 408 KiB.
    pub const HEADERS: usize = 64;
    /// An answer about one thing: the largest is a VM's configuration, with notes of 8 KiB and keys.
    pub const ANSWER_BYTES: usize = MIB;
    /// A list: 10,000 VMs of a Proxmox cluster at 600 bytes each.
    pub const LIST_BYTES: usize = 8 * MIB;
    /// A failed task's log, of which only the end is shown: a download writes 20,000 lines for a
    /// gigabyte.
    pub const LOG_BYTES: usize = 8 * MIB;
    /// The body of a refusal; a longer one is not read, since the reason stands in the first line.
    pub const REFUSAL_BYTES: usize = 64 * KIB;
    /// Values in an answer, counted by `,` and `:`. A body of empty objects would take a hundred
    /// times its size once it is read; this holds that below 50 MB.
    pub const VALUES: usize = 200_000;
    /// One text of an answer; the longest that Proxmox VE keeps are 8 KiB of notes.
    pub const TEXT_BYTES: usize = 64 * KIB;
    /// The words of a refusal that are kept; Proxmox VE's own have a few hundred characters.
    pub const WORDS: usize = 2000;
    /// Complaints about single parameters that are kept.
    pub const COMPLAINTS: usize = 20;
}

/// Tasks of Proxmox VE.
pub mod task {
    use super::*;

    /// A task's id: a node of 63 bytes, a kind, a name, a user of 64 bytes with realm and token.
    pub const UPID_BYTES: usize = 512;
    /// Lines of a log that are asked for at once, to see how far a task has come.
    pub const LINES: u32 = 500;
    /// The last lines of a failed task's log that are shown.
    pub const TAIL: usize = 15;
    /// Characters of one such line.
    pub const LINE: usize = 500;
    /// How long a host may say nothing about a task before it is given up: longer than a restart of
    /// its daemons.
    pub const SILENCE: Duration = minutes(2);
    /// A task that was just begun may not be known yet: its log file is still to be made.
    pub const BIRTH: Duration = seconds(2);
    /// How long a VM may keep a lock that no task of ours holds.
    pub const LOCKED: Duration = minutes(30);
    /// How long what was seen under way may stay so after a lost answer.
    pub const UNDERWAY: Duration = hours(2);

    /// How long a task of this kind may take.
    ///
    /// What copies a disk or fetches one takes as long as that takes: 100 GiB at 15 MB/s, which is a
    /// slow disk that several clones share. The rest is done in seconds; Proxmox VE itself gives up
    /// on a start or a stop after minutes (qemu-server src/PVE/QemuServer.pm), and `saferemove`
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
    /// From there to the end of the login: identification, key exchange, banners, keys. OpenSSH
    /// itself gives a client 120 s (`LoginGraceTime`), most of it for a person who types.
    pub const LOGIN: Duration = seconds(20);
    /// Bytes that a server may send until then; a login takes about 5 KiB.
    pub const LOGIN_BYTES: u64 = MIB as u64;
    /// Bytes of banners before the login; legal notices have a page.
    pub const BANNER_BYTES: usize = 64 * KIB;
    /// A command, unless it asks for longer.
    pub const COMMAND: Duration = seconds(60);
    /// Standard output of a command, unless it asks for more: a file of ours, a unit's state, the end
    /// of a log.
    pub const STDOUT: usize = MIB;
    /// Standard output of a command that lists: a host's routes, objects of Kubernetes.
    pub const LIST: usize = 4 * MIB;
    /// Standard error of a command.
    pub const STDERR: usize = 256 * KIB;
    /// Characters of an error that quote what the other side said.
    pub const QUOTED: usize = 2000;
}

/// Name servers. One answer is limited by the protocol: 64 KiB (RFC 1035 §4.2.2).
pub mod dns {
    use super::*;

    /// One transport of a question, which goes out by UDP and then, unanswered, by TCP.
    pub const TRANSPORT: Duration = seconds(1);
    /// A question altogether; a little more than both transports.
    pub const QUESTION: Duration = Duration::from_millis(2200);
    /// Records that are kept of an answer. The right answer has one.
    pub const RECORDS: usize = 16;
    /// Characters that are kept of what cannot be understood.
    pub const WORDS: usize = 300;
}

/// Taking stock of hosts and machines, before anything is planned.
pub mod look {
    use super::*;

    /// A host or a machine that has not answered by then is named: on one site, all of them answer in
    /// a tenth of it.
    pub const SLOW: Duration = seconds(1);
    /// All of it. A machine that lets us in and then says nothing is given up after seconds, a host
    /// after its retries; several such waits follow one another.
    pub const WHOLE: Duration = minutes(5);
    /// How much longer it may take where a clone that is under way is waited for.
    pub const CLONE: Duration = minutes(15);
}

/// Steps of a plan, whatever they wait for. Each is longer than all the limits within such a step: it
/// ends what they missed, such as a peer that lets every single call take nearly as long as it may.
pub mod step {
    use super::*;

    /// A step that copies or fetches a disk.
    pub const COPY: Duration = hours(6);
    /// Any other: a first boot may take forty minutes, kubeadm on a slow line as long.
    pub const OTHER: Duration = hours(3);
    /// A simulated world's limits are as much shorter as it is faster, but never shorter than this:
    /// the machine that simulates it is no faster than any other.
    pub const LEAST: Duration = minutes(10);
}

/// The least time that a simulated world's tasks and locks get, for the same reason.
pub const LEAST: Duration = seconds(30);

/// A wait that takes longer says what it waits for.
pub const UNTOLD: Duration = seconds(5);
/// How often it says so again.
pub const TOLD_AGAIN: Duration = seconds(30);

/// At most so many characters of a text from elsewhere, with control characters written out and the
/// number of those left out at its end.
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
    fn a_long_text_is_cut_and_says_so() {
        assert_eq!(excerpt("short", 10), "short");
        assert_eq!(excerpt(&"x".repeat(5_000_000), 3), "xxx… (4999997 more characters)");
        assert_eq!(excerpt("größer", 3), "grö… (3 more characters)");
    }

    #[test]
    fn no_control_character_but_a_line_end_is_left_in_an_excerpt() {
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
