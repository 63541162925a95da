//! The privileges that k8sha needs, and the commands that grant them.
//!
//! Found by growing a role from nothing until every call passed. Source: the `permissions` of each call
//! in pve-manager's API description; qemu-server src/PVE/API2/Qemu.pm; pve-storage
//! src/PVE/API2/Storage/Status.pm.

use super::error::Identity;

/// The name of the role in the README.
pub const ROLE: &str = "k8sha";

/// All privileges for a cluster's whole life, from the template to its removal. Proxmox VE 8 and 9 use
/// the same names.
pub const PRIVILEGES: [&str; 16] = [
    "Datastore.Allocate",
    "Datastore.AllocateSpace",
    "Datastore.AllocateTemplate",
    "SDN.Use",
    "Sys.AccessNetwork",
    "VM.Allocate",
    "VM.Audit",
    "VM.Clone",
    "VM.Config.CDROM",
    "VM.Config.CPU",
    "VM.Config.Disk",
    "VM.Config.HWType",
    "VM.Config.Memory",
    "VM.Config.Network",
    "VM.Config.Options",
    "VM.PowerMgmt",
];

/// The commands for the host's root that grant privileges on a path, if the existing grants there are
/// unknown.
///
/// Most often the role is granted above the path and lacks something. A new entry on the path itself
/// would *replace* the inherited ones, whatever roles they name, so that is for accounts without any.
/// User and token are both named, because a token with privilege separation has only what both have.
/// Source: pve-access-control src/PVE/AccessControl.pm, `roles`.
pub fn grant(who: &Identity, path: &str, privileges: &[&str]) -> Vec<String> {
    vec![
        append(privileges),
        format!(
            "{}     (only where it has no role on {path} or above: an entry replaces what is \
             inherited)",
            entry(who, path)
        ),
    ]
}

/// The command that adds privileges to k8sha's role, wherever that is granted.
pub fn append(privileges: &[&str]) -> String {
    format!("pveum role modify {ROLE} --append 1 --privs \"{}\"", privileges.join(" "))
}

/// The command that grants k8sha's role on a path. Roles on one path add up; inherited ones are
/// replaced.
pub fn entry(who: &Identity, path: &str) -> String {
    format!("pveum acl modify {path} {} --roles {ROLE}", who.acl_options())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_names_the_user_and_its_token() {
        let who = Identity::Token("k8sha@pve!ci".to_owned());
        assert_eq!(
            grant(&who, "/vms", &["VM.Clone"]),
            [
                "pveum role modify k8sha --append 1 --privs \"VM.Clone\"",
                "pveum acl modify /vms --users 'k8sha@pve' --tokens 'k8sha@pve!ci' --roles k8sha     \
                 (only where it has no role on /vms or above: an entry replaces what is inherited)",
            ]
        );
    }
}
