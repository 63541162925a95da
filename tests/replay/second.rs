//! The second recording: its world, and the simulator's differences from it.

use std::ops::RangeInclusive;

use serde_json::Value;

use crate::differences::Entry;
use crate::setting::Step::{self, Call, Destroy, Start, Stop, Try};

/// The first line.
pub const FIRST: u64 = 2001;
/// The SHA-256 of the file that the recorded host downloaded.
pub const DOWNLOADED: &str = "e7e2dcff542de95352682dc186432e98f0188084896773f1973276b0577d5305";
/// How the recorded login of `root@pam` names the password.
pub const ROOT_PASSWORD: &str = "password=secret";

/// The parts of the recording.
pub const GROUPS: &[(&str, RangeInclusive<u64>)] = &[
    ("accounts and discovery", 2001..=2247),
    ("migration and two nodes", 2401..=2620),
    ("life of a running VM", 3001..=3228),
    ("locks, protection, snapshots, creation", 3301..=3692),
    ("calls of foreign clients", 3701..=3998),
    ("more migrations, bodies, ends of tasks", 4101..=4645),
];

/// The role of the recorded operator.
const ROLE: &str = "Datastore.Allocate,Datastore.AllocateSpace,Datastore.AllocateTemplate,\
    SDN.Use,Sys.AccessNetwork,VM.Allocate,VM.Audit,VM.Clone,VM.Config.CDROM,\
    VM.Config.CPU,VM.Config.Disk,VM.Config.HWType,VM.Config.Memory,\
    VM.Config.Network,VM.Config.Options,VM.PowerMgmt";

/// The world at the start: an operator with a custom role, a user of a realm that is not configured,
/// and a pool. Later on, clean-ups, and refused calls that are not in the recording but had an effect.
pub const STEPS: &[(u64, &[Step])] = &[
    (
        2002,
        &[
            Call(
                "PUT",
                "/storage/local",
                &[("content", "iso,snippets,import,images,vztmpl"), ("delete", "prune-backups")],
            ),
            Call("POST", "/access/roles", &[("roleid", "k8sha"), ("privs", ROLE)]),
            Call(
                "POST",
                "/access/roles",
                &[("roleid", "k8sha-eyes"), ("privs", "Sys.Audit,VM.GuestAgent.Audit")],
            ),
            Call("POST", "/access/users/root@pam/token/mine", &[("privsep", "0")]),
            Call(
                "PUT",
                "/access/acl",
                &[
                    ("path", "/"),
                    ("roles", "Administrator"),
                    ("users", "k8sha@pve"),
                    ("delete", "1"),
                ],
            ),
            Call(
                "PUT",
                "/access/acl",
                &[("path", "/"), ("roles", "k8sha"), ("users", "k8sha@pve")],
            ),
            Call("PUT", "/access/users/k8sha@pve", &[("comment", "")]),
            Call("POST", "/access/users", &[("userid", "x@nosuch")]),
            Call("POST", "/pools", &[("poolid", "kpool")]),
        ],
    ),
    // VM 720 of an earlier run, which another client used at that time.
    (
        2406,
        &[
            Call(
                "POST",
                "/nodes/pve1/qemu",
                &[
                    ("vmid", "720"),
                    ("name", "life2"),
                    ("tags", "a;b"),
                    ("memory", "128"),
                    ("scsi0", "local:1,format=qcow2"),
                ],
            ),
            Start(720),
        ],
    ),
    (
        2581,
        &[Call(
            "PUT",
            "/nodes/pve1/qemu/720/config",
            &[("name", "life"), ("tags", "foreign-tag;mine")],
        )],
    ),
    // The real host's QEMU could not move the disk of a running VM.
    (
        2553,
        &[Call(
            "POST",
            "/nodes/pve2/qemu/702/migrate",
            &[("target", "pve1"), ("online", "1"), ("with-local-disks", "1")],
        )],
    ),
    (
        3002,
        &[
            Stop(720),
            Destroy(720),
            Destroy(701),
            Destroy(700),
            Call("DELETE", "/nodes/pve1/storage/local/content/local:iso/mig.iso", &[]),
            Call("DELETE", "/access/users/few@pve", &[]),
        ],
    ),
    (3124, &[Try("PUT", "/nodes/pve1/qemu/720/config", &[("delete", "scsi1")])]),
    (3148, &[Try("PUT", "/nodes/pve1/qemu/720/config", &[("net1", "virtio,bridge=nobr")])]),
    (
        3211,
        &[Call("PUT", "/nodes/pve1/qemu/720/config", &[("delete", "efidisk0"), ("force", "1")])],
    ),
    (3538, &[Destroy(745)]),
    // The VM whose snapshot failed is not replayed after that.
    (3802, &[Stop(742), Destroy(742)]),
];

/// Exchanges that are not replayed.
pub const LEFT_OUT: &[(&[RangeInclusive<u64>], &str)] = &[
    (
        &[3854..=3854, 3967..=3967, 4279..=4284, 4289..=4308, 4329..=4348],
        "the recorded host closed where a body came in a later TLS record than its head: its \
         library mix, not Proxmox",
    ),
    (
        &[3491..=3505, 3662..=3692],
        "the recorded host's QEMU could not snapshot a running VM, which remained locked",
    ),
];

const NO_FILES: &str = "the recorded host lacked programs and files that a released one has";
const NO_GUEST: &str = "the devices that a machine without an operating system releases, and when, depend on its firmware";

/// Differences: their lines, prefixes of their texts, and the reason. None can be removed: see the
/// first recording's.
pub const LISTED: &[Entry] = &[
    (
        &[2014..=2015, 2148..=2148],
        &[
            "body.data[pve-root-ca.pem].public-key-type: `rsaEncryption`",
            "body.data[pve-ssl.pem].public-key-type: `rsaEncryption`",
        ],
        "the simulator's keys are elliptic: generating RSA keys takes seconds",
    ),
    (
        &[2040..=2042, 2070..=2070, 2160..=2160, 3210..=3210, 3736..=3737, 3798..=3799],
        &["status: 500, here 200"],
        NO_FILES,
    ),
    (
        &[3214..=3215, 3536..=3537, 4511..=4512, 4614..=4615],
        &["body.data.exitstatus: ", "body.data[last]: `TASK ERROR: "],
        NO_FILES,
    ),
    (
        &[2033..=2033, 2163..=2163],
        &["connection: close"],
        "a process of the recorded server had served its last request",
    ),
    (
        &[2551..=2552],
        &["body.data.exitstatus: `migration problems`", "body.data[last]: `TASK ERROR: migration"],
        "the recorded host's QEMU could not move the disk of a running VM",
    ),
    (
        &[3128..=3151],
        &[
            "status: 200, here 400",
            "said here: Parameter verification failed.",
            "body.data[scsi2]: missing",
            "body.data[net1]: missing",
        ],
        NO_GUEST,
    ),
    (&[3754..=3754], &["body.data[0000:00:0"], "a host has the devices of its own board"),
    (
        &[3908..=3908],
        &["body.data[].", "body.total: "],
        "nothing was done here before the recording started",
    ),
];

/// Whether an exchange only shows that a task was still running: the duration of a worker depends on
/// the host.
pub fn is_left_out(exchange: &Value) -> bool {
    let url = exchange["url"].as_str().unwrap_or_default();
    let body = exchange["resp_body"].as_str().unwrap_or_default();
    let running =
        || serde_json::from_str::<Value>(body).is_ok_and(|b| b["data"]["status"] == "running");
    exchange["line"].as_u64() > Some(2000)
        && url.ends_with("/status")
        && url.contains("/tasks/")
        && running()
}

/// The path of a request over plain HTTP.
pub fn plain(exchange: &Value) -> Option<&str> {
    let rest = exchange["url"].as_str()?.strip_prefix("http://")?;
    rest.find('/').map(|at| &rest[at..])
}
