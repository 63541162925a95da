//! User names that the image or a package already uses, so the login user cannot have them.

/// Users and groups of the images and of the packages that k8sha installs, in alphabetical order.
///
/// cloud-init creates the user with `useradd`, which creates a group of the same name and fails if
/// that exists (`useradd: group admin exists`, exit status 9, useradd(8)). If the user exists,
/// cloud-init leaves it unchanged, without a login. Either way the machine is unreachable.
///
/// Sources: base-passwd's `passwd.master` and `group.master` of Ubuntu 22.04, 24.04 and Debian 12, 13;
/// `/etc/group` of Ubuntu's and Debian's cloud images; the maintainer scripts and `sysusers.d` of
/// chrony, containerd.io, haproxy, keepalived and etcd.
const TAKEN: &[&str] = &[
    "_apt",
    "_chrony",
    "_rpc",
    "_ssh",
    "adm",
    "admin",
    "audio",
    "backup",
    "bin",
    "bind",
    "cdrom",
    "ceph",
    "clock",
    "containerd",
    "crontab",
    "daemon",
    "dhcpcd",
    "dialout",
    "dip",
    "disk",
    "dnsmasq",
    "docker",
    "etcd",
    "fax",
    "floppy",
    "fwupd-refresh",
    "games",
    "gnats",
    "haproxy",
    "input",
    "irc",
    "keepalived_script",
    "kmem",
    "kvm",
    "landscape",
    "libuuid",
    "list",
    "lp",
    "lpadmin",
    "lxd",
    "mail",
    "man",
    "messagebus",
    "mlocate",
    "netdev",
    "news",
    "nogroup",
    "nobody",
    "ntp",
    "ntpsec",
    "operator",
    "plocate",
    "plugdev",
    "polkitd",
    "pollinate",
    "postfix",
    "proxy",
    "rdma",
    "render",
    "root",
    "sambashare",
    "sasl",
    "scanner",
    "sgx",
    "shadow",
    "src",
    "ssh",
    "ssl-cert",
    "sshd",
    "staff",
    "statd",
    "sudo",
    "sync",
    "sys",
    "syslog",
    "tape",
    "tcpdump",
    "tss",
    "tty",
    "usbmux",
    "users",
    "utmp",
    "uucp",
    "uuidd",
    "video",
    "voice",
    "wheel",
    "www-data",
];

/// Whether a name belongs to a user or a group that exists on the machine before the login user is
/// created.
pub(super) fn is_taken(name: &str) -> bool {
    TAKEN.contains(&name) || name.starts_with("systemd-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_people_are_free_and_those_of_the_system_are_not() {
        for name in ["ubuntu", "debian", "ops", "alice", "k8s", "administrator", "sysadmin"] {
            assert!(!is_taken(name), "{name}");
        }
        for name in
            ["admin", "syslog", "docker", "sudo", "adm", "games", "nobody", "systemd-resolve"]
        {
            assert!(is_taken(name), "{name}");
        }
    }
}
