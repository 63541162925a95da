//! Hints for well-known errors of Proxmox VE.

use super::answer::{PERMISSION, missing};
use super::error::{Denial, Error, Identity, Refusal, TaskFailure};
use super::rights;

/// A word in the error text, the hint, and its command with `{vm}` for the VMID and `{name}` for the
/// name that the error quotes. The first match is used.
///
/// Sources of the texts: qemu-server src/PVE/API2/Qemu.pm and src/PVE/AbstractConfig.pm, pve-storage
/// src/PVE/API2/Storage/Status.pm and src/PVE/Storage.pm, pve-cluster src/PVE/Cluster.pm.
const HINTS: &[(&str, &str, &str)] = &[
    (
        "no quorum",
        "the Proxmox VE cluster has lost its quorum: it is read-only until the quorum is back",
        "pvecm status",
    ),
    (
        "VM is locked",
        "another task has locked the VM: check the running tasks on the host (`pvenode task list --source \
         active`); if none is at work on it, free it",
        "qm unlock {vm}",
    ),
    (
        "still in use by linked clone",
        "linked clones still use this template: destroy them first, or keep the template",
        "",
    ),
    (
        "Linked clone feature is not supported",
        "this storage does not support linked clones: set `clone: full` in the profile",
        "",
    ),
    (
        "uses local storage",
        "the template is on another host's local storage: each host needs its own template",
        "",
    ),
    (
        "refusing to override existing file",
        "a different file with that name exists: remove it from the storage, then run again",
        "",
    ),
    (
        "checksum mismatch: got",
        "the image is not the one that the profile's sha256 names: the publisher updated it, or the download was corrupted; compare with SHA256SUMS beside the image",
        "",
    ),
    (
        "download failed",
        "the host itself downloads the image: check its internet access and the URL in the profile",
        "",
    ),
    (
        "wrong file extension",
        "a file of content `import` must end in .qcow2, .raw or .vmdk, an ISO image in .iso",
        "",
    ),
    (
        "does not support",
        "enable that content type on the storage in addition to the existing ones (`pvesm set` with `--content`)",
        "cat /etc/pve/storage.cfg",
    ),
    ("pool '", "create the pool, or remove it from the profile", "pveum pool add {name}"),
    (
        "not available with API token",
        "Proxmox VE requires a password for this call; an API token is not enough",
        "",
    ),
    ("is running - destroy failed", "stop the VM first", "qm stop {vm}"),
    ("protection mode enabled", "this VM is protected", "qm set {vm} --protection 0"),
    ("insufficient free space", "the storage is full", "pvesm status"),
    ("out of space", "the storage is full", "pvesm status"),
    (
        "No space left on device",
        "a file system of the host is full, perhaps the one with /var/tmp",
        "df -h",
    ),
    ("bridge '", "the profile's bridge does not exist on this host", "ip link show type bridge"),
    (
        "got timeout",
        "timed out waiting for a lock: check the running tasks on the host, then run again",
        "pvenode task list --source active",
    ),
    ("hostname lookup", "the Proxmox host does not know a node of that name", "pvesh get /nodes"),
    (
        "storage '",
        "the storage does not exist on the host, or the user may not see it",
        "pvesm status",
    ),
];

/// The hint for an error with these words; `vm` is its VM.
fn refused(words: &str, vm: Option<&str>) -> Option<String> {
    let (_, text, command) = HINTS.iter().find(|(word, ..)| words.contains(word))?;
    let name = words.split('\'').nth(1).filter(|name| !name.is_empty());
    let filled = |command: &str, place: &str, value: Option<&str>| match value {
        _ if !command.contains(place) => Some(command.to_owned()),
        Some(value) => Some(command.replace(place, &quote(value))),
        None => None,
    };
    let command = filled(command, "{vm}", vm).and_then(|text| filled(&text, "{name}", name));
    Some(match command.filter(|command| !command.is_empty()) {
        Some(command) => format!("{text}: `{command}` on the host"),
        None => (*text).to_owned(),
    })
}

/// Quotes a word for bash, in which `!` is special too.
fn quote(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(&byte);
    match !word.is_empty() && word.bytes().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

impl Refusal {
    /// The VM that the call was about.
    fn vm(&self) -> Option<&str> {
        number(self.call.split("/qemu/").nth(1)?.split('/').next()?)
    }
}

impl TaskFailure {
    /// The VM of the task; for a clone the source.
    fn vm(&self) -> Option<&str> {
        self.upid.kind.starts_with("qm").then(|| number(&self.upid.id)).flatten()
    }

    /// The privilege whose absence failed a task: Proxmox VE checks some privileges only there.
    fn denial(&self) -> Option<Denial> {
        let at = self.exit.find(PERMISSION)?;
        let reason = self.exit[at..].lines().next().unwrap_or_default().trim().to_owned();
        let (path, privileges) = missing(&reason);
        let user = self.upid.user.clone();
        let who = if user.contains('!') { Identity::Token(user) } else { Identity::User(user) };
        let call = format!("task {}", self.upid.kind);
        Some(Denial { host: self.host.clone(), call, path, privileges, reason, who })
    }
}

fn number(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

impl Error {
    /// The next thing to try, if there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Refused(refusal) => refused(&refusal.words(), refusal.vm()),
            Error::Task(failure) => {
                let denied = failure.denial().map(|denial| denial.hint());
                denied.or_else(|| refused(&failure.exit, failure.vm())).or_else(|| {
                    let log = format!("pvenode task log {}", quote(&failure.upid.to_string()));
                    Some(format!("for the full log, run on the host: `{log}`"))
                })
            }
            Error::Unauthorized { who: Identity::Token(id), .. } => {
                let user = id.split('!').next().unwrap_or(id);
                Some(format!(
                    "pass the complete token, `USER@REALM!NAME=SECRET`; `pveum user token list {user}` shows token names and expiry dates. If the secret is lost, create a new token. Proxmox VE reports a disabled or expired user (`pveum user list`) the same way"
                ))
            }
            Error::Unauthorized { who: Identity::User(id), .. } => {
                Some(format!("check the password and the realm of `{id}`"))
            }
            Error::Forbidden(denial) => Some(denial.hint()),
            Error::Unreachable { endpoint, .. } => Some(format!(
                "check the address, and `systemctl status pveproxy` on the host; `curl -k {endpoint}/` should answer"
            )),
            Error::Certificate(stranger) => Some(format!(
                "compare {} with what `pvenode cert info` prints on the host itself; if they match, put it into the profile",
                stranger.seen
            )),
            Error::Untrusted { host, .. } => Some(format!(
                "run `pvenode cert info` on the host, compare, and put the SHA-256 fingerprint into the profile under `{host}`; or name a copy of its /etc/pve/pve-root-ca.pem there"
            )),
            Error::NoAnswer { .. } | Error::UnknownOutcome { .. } => Some(
                "the host may be off or overloaded, or its daemons may be down: `systemctl status pvedaemon pveproxy`; it is safe to run again: k8sha checks first and repeats nothing"
                    .to_owned(),
            ),
            Error::Odd(odd) => Some(odd.hint()),
            Error::EndlessTask(endless) => Some(endless.hint()),
            Error::NotOurs { .. } => {
                Some("choose another VMID in the profile, or remove that VM yourself".to_owned())
            }
            Error::CutOff(cut) => Some(format!(
                "qm unlock {vmid} && qm destroy {vmid}     (on {host}; then run the same command again)",
                vmid = cut.vmid,
                host = cut.host
            )),
            Error::StillLocked { vmid, .. } => Some(format!(
                "check `qm config {vmid}` and the running tasks on the host; after a crash, unlock it with `qm unlock {vmid}`"
            )),
            Error::WrongHost { .. } => {
                Some("use the host name that `pvesh get /nodes` shows, or fix the endpoint".to_owned())
            }
            Error::Decode { .. } => {
                Some("is this the address of a Proxmox VE 8 or 9 host, port 8006?".to_owned())
            }
            Error::Setup { .. } | Error::NoSuchHost { .. } => None,
        }
    }
}

impl Denial {
    /// The path and the privilege that are missing.
    ///
    /// Proxmox VE names neither if any of several objects would do: then the call determines them.
    pub fn missing(&self) -> (String, String) {
        let privilege = self.privileges.first().cloned();
        match (self.path.as_str(), privilege) {
            // Destroying a VM removes the entries on its own path: a grant there lasts for one VM only.
            (path, Some(privilege)) if path.starts_with("/vms/") => ("/vms".to_owned(), privilege),
            (path, Some(privilege)) if !path.is_empty() => (path.to_owned(), privilege),
            _ if self.call.ends_with("/download-url") => {
                (format!("/nodes/{}", self.host), "Sys.AccessNetwork".to_owned())
            }
            (_, privilege) => {
                ("/vms".to_owned(), privilege.unwrap_or_else(|| "VM.Allocate".to_owned()))
            }
        }
    }

    /// What is missing, and the commands that grant it.
    pub(super) fn hint(&self) -> String {
        let (path, privilege) = self.missing();
        let commands = rights::grant(&self.who, &path, &[&privilege]).join("\n");
        format!(
            "{} needs {privilege} on {path}; on the host:\n{commands}\n\
             `k8sha doctor` lists all missing privileges at once",
            self.who
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HostName;

    fn failure(kind: &str, id: &str, exit: &str) -> Error {
        let upid = format!("UPID:pve1:000000E0:000395D6:6B02EB73:{kind}:{id}:k8sha@pve!ci:");
        Error::Task(Box::new(TaskFailure {
            host: HostName("pve1".to_owned()),
            upid: upid.parse().unwrap(),
            exit: exit.to_owned(),
            log_tail: Vec::new(),
        }))
    }

    #[test]
    fn a_privilege_missing_in_a_task_is_named_with_its_commands() {
        let exit = "403 Permission check failed (/vms/3041, VM.Config.CDROM)\n";
        let hint = failure("qmconfig", "3041", exit).hint().unwrap();
        assert!(
            hint.starts_with(
                "the token `k8sha@pve!ci` needs VM.Config.CDROM on /vms; on the host:"
            ),
            "{hint}"
        );
        assert!(hint.contains("--append 1 --privs \"VM.Config.CDROM\""), "{hint}");
        let none = failure("qmstart", "3041", "start failed: QEMU exited with code 1");
        let want = "for the full log, run on the host: `pvenode task log \
                    'UPID:pve1:000000E0:000395D6:6B02EB73:qmstart:3041:k8sha@pve!ci:'`";
        assert_eq!(none.hint().as_deref(), Some(want));
    }

    #[test]
    fn a_command_in_a_hint_names_its_vm() {
        let locked = "VM is locked (backup)";
        let hint = failure("qmstop", "3041", locked).hint().unwrap();
        assert!(hint.ends_with("`qm unlock 3041` on the host"), "{hint}");
        let refusal = |call: &str, reason: &str| {
            let refusal = Refusal {
                host: HostName("pve1".to_owned()),
                call: call.to_owned(),
                status: 500,
                reason: reason.to_owned(),
                message: String::new(),
                errors: Default::default(),
            };
            Error::Refused(Box::new(refusal)).hint().unwrap()
        };
        let config = refusal("POST /nodes/pve1/qemu/3041/config", locked);
        assert!(config.ends_with("`qm unlock 3041` on the host"), "{config}");
        let pool = refusal("POST /nodes/pve1/qemu", "pool 'my pool' does not exist");
        assert!(pool.ends_with("`pveum pool add 'my pool'` on the host"), "{pool}");
        let unknown = refusal("POST /nodes/pve1/qemu", locked);
        assert!(!unknown.contains("qm unlock"), "{unknown}");
    }

    #[test]
    fn no_hint_has_a_placeholder_for_the_user_to_fill_in() {
        for (word, text, command) in HINTS {
            let words = format!("{word} 'x'");
            let shown = refused(&words, Some("101")).unwrap();
            let known = ["SHA256SUMS"];
            let loud = |text: &str| text.len() > 3 && text.bytes().all(|b| b.is_ascii_uppercase());
            let loud = shown.split([' ', '`', '\'']).find(|one| loud(one) && !known.contains(one));
            assert_eq!((loud, shown.contains('{')), (None, false), "{text} {command}");
        }
    }
}
