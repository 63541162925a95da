//! What helps against the errors that Proxmox VE is known for.

use super::error::Denial;
use super::rights;

/// Word in the error's text, what to try. The first that fits is taken.
///
/// Sources of the texts: qemu-server src/PVE/API2/Qemu.pm and src/PVE/AbstractConfig.pm, pve-storage
/// src/PVE/API2/Storage/Status.pm and src/PVE/Storage.pm, pve-cluster src/PVE/Cluster.pm.
const HINTS: &[(&str, &str)] = &[
    (
        "no quorum",
        "the Proxmox cluster has lost its quorum: `pvecm status` on the host; nothing can be written until it is back",
    ),
    (
        "VM is locked",
        "another task holds the VM: see its running tasks; after a crash `qm unlock VMID` frees it",
    ),
    (
        "still in use by linked clone",
        "linked clones still need this template: destroy them first, or keep the template",
    ),
    (
        "Linked clone feature is not supported",
        "this storage cannot make linked clones: use `clone: full` in the profile",
    ),
    (
        "uses local storage",
        "the template lies on another host's own storage: each host needs its own template",
    ),
    (
        "refusing to override existing file",
        "a file of that name with other contents is there: remove it from the storage, then run again",
    ),
    (
        "checksum mismatch: got",
        "the image is not the one that the profile's sha256 names: the publisher renewed it, or the download was spoiled; compare with SHA256SUMS beside the image",
    ),
    (
        "download failed",
        "the host itself downloads the image: check its way to the internet and the address in the profile",
    ),
    (
        "wrong file extension",
        "a file of content `import` must end in .qcow2, .raw or .vmdk, an ISO image in .iso",
    ),
    (
        "does not support",
        "enable that content type: `pvesm set STORAGE --content iso,import,images` (with the ones that it has)",
    ),
    ("pool '", "create the pool (`pveum pool add NAME`) or leave it out of the profile"),
    ("not available with API token", "Proxmox VE wants a password there; a token cannot do it"),
    ("is running - destroy failed", "stop the VM first"),
    ("protection mode enabled", "somebody protected this VM: `qm set VMID --protection 0`"),
    ("insufficient free space", "the storage is full: `pvesm status` on the host"),
    ("out of space", "the storage is full: `pvesm status` on the host"),
    ("No space left on device", "a disk of the host is full: `df -h` there, /var/tmp too"),
    ("bridge '", "the bridge of the profile is not on this host: `ip link show type bridge`"),
    (
        "got timeout",
        "somebody held the lock too long: see the running tasks on the host, then run again",
    ),
    (
        "hostname lookup",
        "the Proxmox host does not know a node of that name; `pvesh get /nodes` lists them",
    ),
    ("storage '", "`pvesm status` on the host lists its storages"),
];

/// What to try against an error with these words.
pub(super) fn refused(words: &str) -> Option<String> {
    HINTS.iter().find(|(word, _)| words.contains(word)).map(|(_, hint)| (*hint).to_owned())
}

impl Denial {
    /// The path and the privilege that are missing.
    ///
    /// Proxmox VE names neither where any of several objects would do: the call tells them then.
    pub fn missing(&self) -> (String, String) {
        let privilege = self.privileges.first().cloned();
        match (self.path.as_str(), privilege) {
            // Destroying a VM removes the entries on its own path: a grant there lasts for one VM
            // only.
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
             `k8sha doctor` names all that is missing at once",
            self.who
        )
    }
}
