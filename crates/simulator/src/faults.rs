//! Named faults that a person can inject into the simulated site.
//!
//! A fault is written `NAME@TARGET`, or `NAME@TARGET#COUNT` to have it happen COUNT times. The
//! target is a Proxmox VE host (`pve1`), a node (`k8s1master1`), a name server's or etcd member's
//! address, or one of the operator's etcd files (`ca`, `cert`, `key`). Faults belong to one start of the simulator: the next start arms its own.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What can go wrong.
///
/// *One-shot* faults happen as often as their count says (once, unless told otherwise) and are
/// then used up; *lasting* faults hold as long as the simulator runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// One-shot, host: a clone's task ends with a timeout on the VM's lock file.
    CloneLockTimeout,
    /// One-shot, host or VM name: a clone's task fails half-way and takes its VM with it.
    TaskFails,
    /// One-shot, node: another client changes a VM's configuration just before a change that names
    /// its digest.
    ConfigChanged,
    /// One-shot, host: a write that did happen is answered `596` after three seconds.
    #[serde(rename = "proxy-timeout-596")]
    ProxyTimeout596,
    /// Lasting, node: its SSH server comes up a minute late after each boot.
    SshLate,
    /// Lasting, node: its SSH server shows a host key that was never planted.
    WrongHostKey,
    /// Lasting, name server: it answers with an old address.
    DnsStale,
    /// Lasting, name server: it answers for unknown names of the domain too, all with one address.
    DnsWildcard,
    /// One-shot, node: the certificate key has expired by the time the node joins.
    ExpiredKey,
    /// Lasting, node: its boots end nowhere.
    NeverBoots,
    /// Lasting, host: no storage of that host has room for another volume.
    DiskFull,
    /// Lasting, host: its Proxmox VE cluster has no quorum, so nothing can be written.
    NoQuorum,
    /// One-shot, host: a downloaded image has another checksum than the one asked for.
    BadChecksum,
    /// One-shot, host: the connection breaks in the middle of an upload.
    UploadReset,
    /// One-shot, node: a kubeadm preflight check fails.
    PreflightError,
    /// One-shot, node: cloud-init ends in an error.
    CloudInitFails,
    /// Lasting, name server: it does not answer at all.
    DnsSilent,
    /// Lasting, address of an etcd member: it does not answer.
    EtcdMemberDown,
    /// Lasting, host: its clock is a minute ahead.
    ClockAhead,
    /// Lasting, host: it is switched off, and where that is half of a cluster the rest has no quorum.
    HostDown,
    /// Lasting, host: its certificate, as it lists it, has expired.
    CertificateExpired,
    /// Lasting, name or VMID of a VM or template that is there at the start: it is locked, as a clone
    /// that was cut off leaves it.
    VmLocked,
    /// Lasting, `ca`, `cert` or `key`: the operator's copy of that etcd file is cut off half-way.
    EtcdFileBroken,
    /// Lasting, `cert`: the operator's etcd client certificate has expired.
    EtcdCertExpired,
}

impl FaultKind {
    /// All of them, in the order in which they are listed for a person.
    pub const ALL: [FaultKind; 24] = [
        FaultKind::CloneLockTimeout,
        FaultKind::TaskFails,
        FaultKind::ConfigChanged,
        FaultKind::ProxyTimeout596,
        FaultKind::SshLate,
        FaultKind::WrongHostKey,
        FaultKind::DnsStale,
        FaultKind::DnsWildcard,
        FaultKind::ExpiredKey,
        FaultKind::NeverBoots,
        FaultKind::DiskFull,
        FaultKind::NoQuorum,
        FaultKind::BadChecksum,
        FaultKind::UploadReset,
        FaultKind::PreflightError,
        FaultKind::CloudInitFails,
        FaultKind::DnsSilent,
        FaultKind::EtcdMemberDown,
        FaultKind::ClockAhead,
        FaultKind::HostDown,
        FaultKind::CertificateExpired,
        FaultKind::VmLocked,
        FaultKind::EtcdFileBroken,
        FaultKind::EtcdCertExpired,
    ];

    /// The name that a person types.
    pub fn name(self) -> &'static str {
        match self {
            FaultKind::CloneLockTimeout => "clone-lock-timeout",
            FaultKind::TaskFails => "task-fails",
            FaultKind::ConfigChanged => "config-changed",
            FaultKind::ProxyTimeout596 => "proxy-timeout-596",
            FaultKind::SshLate => "ssh-late",
            FaultKind::WrongHostKey => "wrong-host-key",
            FaultKind::DnsStale => "dns-stale",
            FaultKind::DnsWildcard => "dns-wildcard",
            FaultKind::ExpiredKey => "expired-key",
            FaultKind::NeverBoots => "never-boots",
            FaultKind::DiskFull => "disk-full",
            FaultKind::NoQuorum => "no-quorum",
            FaultKind::BadChecksum => "bad-checksum",
            FaultKind::UploadReset => "upload-reset",
            FaultKind::PreflightError => "preflight-error",
            FaultKind::CloudInitFails => "cloud-init-fails",
            FaultKind::DnsSilent => "dns-silent",
            FaultKind::EtcdMemberDown => "etcd-member-down",
            FaultKind::ClockAhead => "clock-ahead",
            FaultKind::HostDown => "host-down",
            FaultKind::CertificateExpired => "certificate-expired",
            FaultKind::VmLocked => "vm-locked",
            FaultKind::EtcdFileBroken => "etcd-file-broken",
            FaultKind::EtcdCertExpired => "etcd-cert-expired",
        }
    }

    /// Whether it holds as long as the simulator runs.
    pub fn lasts(self) -> bool {
        matches!(
            self,
            FaultKind::SshLate
                | FaultKind::WrongHostKey
                | FaultKind::NeverBoots
                | FaultKind::DnsStale
                | FaultKind::DnsWildcard
                | FaultKind::DiskFull
                | FaultKind::NoQuorum
                | FaultKind::DnsSilent
                | FaultKind::EtcdMemberDown
                | FaultKind::ClockAhead
                | FaultKind::HostDown
                | FaultKind::CertificateExpired
                | FaultKind::VmLocked
                | FaultKind::EtcdFileBroken
                | FaultKind::EtcdCertExpired
        )
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One fault to inject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// Where: a host, a node, or an address.
    pub target: String,
    /// How many times a one-shot fault happens.
    pub count: u32,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.kind, self.target)?;
        if self.count == 1 { Ok(()) } else { write!(f, "#{}", self.count) }
    }
}

/// Why a fault's text means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFault {
    /// There is no `@`, or nothing behind it.
    #[error("`{0}` names no target: write NAME@TARGET, such as `clone-lock-timeout@pve1`")]
    NoTarget(String),
    /// The name is not one of ours.
    #[error("no fault is called `{name}`; the known ones are {known}")]
    UnknownName {
        /// What was typed.
        name: String,
        /// The names that exist, for the person to choose from.
        known: String,
    },
    /// What follows `#` is not a number above zero.
    #[error("`{0}` is not how often a fault can happen: write a number above zero after `#`")]
    BadCount(String),
}

impl FromStr for Fault {
    type Err = BadFault;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, rest) = text.split_once('@').unwrap_or((text, ""));
        let Some(kind) = FaultKind::ALL.into_iter().find(|kind| kind.name() == name) else {
            let known: Vec<_> = FaultKind::ALL.iter().map(|kind| format!("`{kind}`")).collect();
            return Err(BadFault::UnknownName { name: name.to_owned(), known: known.join(", ") });
        };
        let (target, count) = match rest.split_once('#') {
            None => (rest, 1),
            Some((target, count)) => match count.parse() {
                Ok(number) if number > 0 => (target, number),
                _ => return Err(BadFault::BadCount(count.to_owned())),
            },
        };
        if target.is_empty() {
            return Err(BadFault::NoTarget(text.to_owned()));
        }
        Ok(Fault { kind, target: target.to_owned(), count })
    }
}

/// The faults that are armed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Arms these.
    pub fn new(faults: Vec<Fault>) -> Self {
        Self(faults)
    }

    /// Lets a one-shot fault happen: true when it was armed for this target, and one fewer is left.
    pub fn take(&mut self, kind: FaultKind, target: &str) -> bool {
        let found = self
            .0
            .iter_mut()
            .find(|fault| fault.kind == kind && fault.target == target && fault.count > 0);
        match found {
            Some(fault) => {
                fault.count -= 1;
                true
            }
            None => false,
        }
    }

    /// The targets for which a fault is armed.
    pub fn targets(&self, kind: FaultKind) -> Vec<&str> {
        let armed = self.0.iter().filter(|fault| fault.kind == kind && fault.count > 0);
        armed.map(|fault| fault.target.as_str()).collect()
    }

    /// Whether a fault is armed for this target; asking does not use it up.
    pub fn active(&self, kind: FaultKind, target: &str) -> bool {
        self.0.iter().any(|fault| fault.kind == kind && fault.target == target && fault.count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back_and_serialised_as_it_is_typed() {
        for kind in FaultKind::ALL {
            let fault: Fault = format!("{kind}@pve1#3").parse().unwrap();
            assert_eq!(fault, Fault { kind, target: "pve1".into(), count: 3 });
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
            assert_eq!(fault.to_string(), format!("{kind}@pve1#3"));
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = "clone-lock@pve1".parse::<Fault>().unwrap_err().to_string();
        assert!(
            error.contains("`clone-lock`") && error.contains("`clone-lock-timeout`"),
            "{error}"
        );
    }

    #[test]
    fn a_fault_needs_a_target_and_a_count_above_zero() {
        assert!(matches!("task-fails".parse::<Fault>(), Err(BadFault::NoTarget(_))));
        assert!(matches!("task-fails@".parse::<Fault>(), Err(BadFault::NoTarget(_))));
        assert!(matches!("task-fails@pve1#0".parse::<Fault>(), Err(BadFault::BadCount(_))));
    }

    #[test]
    fn a_one_shot_fault_happens_as_often_as_it_says_and_only_where_it_says() {
        let mut faults = Faults::new(vec!["task-fails@pve1#2".parse().unwrap()]);
        assert!(!faults.take(FaultKind::TaskFails, "pve2"));
        assert!(faults.take(FaultKind::TaskFails, "pve1"));
        assert!(faults.active(FaultKind::TaskFails, "pve1"));
        assert!(faults.take(FaultKind::TaskFails, "pve1"));
        assert!(!faults.take(FaultKind::TaskFails, "pve1"));
        assert!(!faults.active(FaultKind::TaskFails, "pve1"));
    }
}
