//! The values that are compared only by their format, and those formats.

use std::sync::LazyLock;

use regex::Regex;

/// Numbers that differ between hosts and from second to second.
const NUMBERS: &[&str] = &[
    "avail",
    "available",
    "cpu",
    "ctime",
    "disk",
    "diskread",
    "diskwrite",
    "endtime",
    "free",
    "idle",
    "maxdisk",
    "maxmem",
    "mem",
    "memhost",
    "netin",
    "netout",
    "notafter",
    "notbefore",
    "pid",
    "priority",
    "pstart",
    "size",
    "snaptime",
    "starttime",
    "t",
    "time",
    "total",
    "uid",
    "uptime",
    "used",
    "used_fraction",
    "wait",
    "expire",
    "cores",
    "cpus",
    "maxcpu",
    "sockets",
    "user_hz",
    "public-key-bits",
    "msgs",
];

/// Numbers that are configured in a VM's configuration or list.
const CHOSEN: &[&str] = &["cores", "cpus", "maxcpu", "sockets"];

/// Texts that are only compared by presence.
const TEXTS: &[&str] = &[
    "CSRFPreventionToken",
    "digest",
    "fingerprint",
    "flags",
    "issuer",
    "kversion",
    "machine",
    "mhz",
    "model",
    "pem",
    "pveversion",
    "release",
    "repoid",
    "smbios1",
    "ssl_fingerprint",
    "subject",
    "sysname",
    "ticket",
    "version",
    "vmgenid",
    "loadavg",
    "ip",
    "address",
    "cidr",
    "gateway",
    "name-of-cluster",
    "ring0_addr",
    "mode",
    "vendor",
    "family",
    "hvm",
    "config_digest",
    "pve_addr",
    "pve_fp",
    "cluster_name",
];

/// Texts that are unordered lists.
const SETS: &[&str] = &["content", "privs"];

static FORMS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        (r"UPID:([A-Za-z0-9]+):[0-9A-F]{8}:[0-9A-F]{8,9}:[0-9A-F]{8}:", "UPID:$1:#:#:#:"),
        (r"(?:[0-9A-F]{2}:){5}[0-9A-F]{2}", "<mac>"),
        (r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}", "<small mac>"),
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}[0-9a-f]*", "<uuid>"),
        (r"[0-9a-f]{32,}", "<hex>"),
        (r"size=\d+(?:\.\d+)?[KMGT]?", "size=#"),
        (r"creation-qemu=[0-9.]+,ctime=\d+", "creation-qemu=#,ctime=#"),
        (r"\.conf\.tmp\.\d+", ".conf.tmp.#"),
        (r"\$5\$\S+", "<password>"),
        (r"\d+\.\d+ (?:B|KiB|MiB|GiB)", "# bytes"),
        (r"\(\d+\.\d\d%\)", "(#%)"),
    ]
    .into_iter()
    .map(|(pattern, form)| (Regex::new(pattern).unwrap(), form))
    .collect()
});

/// A text with its volatile parts replaced by their kind.
pub fn form(text: &str) -> String {
    FORMS
        .iter()
        .fold(text.to_owned(), |text, (regex, form)| regex.replace_all(&text, *form).into_owned())
}

/// A text in the form in which texts under this key are compared.
pub fn text(key: &str, text: &str) -> String {
    if TEXTS.contains(&key) {
        return "<text>".to_owned();
    }
    if SETS.contains(&key) {
        let mut words: Vec<&str> = text.split(',').collect();
        words.sort_unstable();
        return words.join(",");
    }
    form(text)
}

/// Whether only the type of a number under this key is compared. `in_vm` distinguishes a VM's from a
/// node's.
pub fn is_volatile(key: &str, in_vm: bool) -> bool {
    NUMBERS.contains(&key) && !(in_vm && CHOSEN.contains(&key))
}
