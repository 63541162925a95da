//! Named faults that a user can inject into the simulated site.
//!
//! A fault is written `NAME@TARGET`, or `NAME@TARGET#COUNT` to make it happen COUNT times. The target
//! is a Proxmox VE host (`pve1`), a node (`k8s1master1`), the address of a name server or etcd member,
//! or one of the operator's etcd files (`ca`, `cert`, `key`). Faults apply to one start of the
//! simulator only.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The kind of a fault.
///
/// *One-shot* faults happen as often as their count says (default: once) and are then used up;
/// *lasting* faults hold as long as the simulator runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// One-shot, host: a clone task fails with a timeout on the VM's lock file.
    CloneLockTimeout,
    /// One-shot, host or VM name: a clone task fails half-way and removes its VM.
    TaskFails,
    /// One-shot, node: the task that starts its VM fails, since QEMU gets no memory for it.
    StartFails,
    /// One-shot, node: another client changes a VM's configuration just before a change that sends its
    /// digest.
    ConfigChanged,
    /// One-shot, host: a write is carried out, but answered with `596` after three seconds.
    #[serde(rename = "proxy-timeout-596")]
    ProxyTimeout596,
    /// Lasting, node: its SSH server starts a minute late after each boot.
    SshLate,
    /// Lasting, node: its SSH server presents a host key that is not the one in its seed.
    WrongHostKey,
    /// Lasting, name server: it answers with an outdated address.
    DnsStale,
    /// Lasting, name server: it also resolves unknown names of the domain, all to one address.
    DnsWildcard,
    /// One-shot, node: the certificate key has expired when the node joins.
    ExpiredKey,
    /// Lasting, node: it never finishes booting.
    NeverBoots,
    /// Lasting, host: none of its storages has space for another volume.
    DiskFull,
    /// Lasting, host: its Proxmox VE cluster has no quorum, so all writes fail.
    NoQuorum,
    /// One-shot, host: a downloaded image does not match the requested checksum.
    BadChecksum,
    /// One-shot, host: the connection breaks in the middle of an upload.
    UploadReset,
    /// One-shot, node: a kubeadm preflight check fails.
    PreflightError,
    /// One-shot, node: cloud-init fails.
    CloudInitFails,
    /// Lasting, name server: it does not answer at all.
    DnsSilent,
    /// Lasting, address of an etcd member: it does not answer.
    EtcdMemberDown,
    /// Lasting, host: its clock is a minute ahead.
    ClockAhead,
    /// Lasting, host: it is switched off; if it is half of a cluster, the rest has no quorum.
    HostDown,
    /// Lasting, host: the certificate that it lists has expired.
    CertificateExpired,
    /// Lasting, name or VMID of a VM or template that exists at the start: it is locked, as after an
    /// interrupted clone.
    VmLocked,
    /// Lasting, `ca`, `cert` or `key`: the operator's copy of that etcd file is truncated.
    EtcdFileBroken,
    /// Lasting, `cert`: the operator's etcd client certificate has expired.
    EtcdCertExpired,
}

impl FaultKind {
    /// All kinds, in the order in which they are listed to users.
    pub const ALL: [FaultKind; 25] = [
        FaultKind::CloneLockTimeout,
        FaultKind::TaskFails,
        FaultKind::StartFails,
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

    /// The name that a user types.
    pub fn name(self) -> &'static str {
        match self {
            FaultKind::CloneLockTimeout => "clone-lock-timeout",
            FaultKind::TaskFails => "task-fails",
            FaultKind::StartFails => "start-fails",
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

/// Why a fault cannot be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFault {
    /// There is no `@`, or nothing after it.
    #[error("`{0}` has no target: write NAME@TARGET, such as `clone-lock-timeout@pve1`")]
    NoTarget(String),
    /// The name is not a known fault.
    #[error("there is no fault `{name}`; known faults: {known}")]
    UnknownName {
        /// The name that was typed.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// What follows `#` is not a number above zero.
    #[error("`{0}` is not a valid count: write a number above zero after `#`")]
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
    /// Arms the given faults.
    pub fn new(faults: Vec<Fault>) -> Self {
        Self(faults)
    }

    /// Triggers a one-shot fault: true if it was armed for this target; its count drops by one.
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

    /// Whether a fault is armed for this target; does not use it up.
    pub fn active(&self, kind: FaultKind, target: &str) -> bool {
        self.0.iter().any(|fault| fault.kind == kind && fault.target == target && fault.count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_name_parses_and_serialises_as_typed() {
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
    fn a_one_shot_fault_happens_as_often_as_its_count_and_only_for_its_target() {
        let mut faults = Faults::new(vec!["task-fails@pve1#2".parse().unwrap()]);
        assert!(!faults.take(FaultKind::TaskFails, "pve2"));
        assert!(faults.take(FaultKind::TaskFails, "pve1"));
        assert!(faults.active(FaultKind::TaskFails, "pve1"));
        assert!(faults.take(FaultKind::TaskFails, "pve1"));
        assert!(!faults.take(FaultKind::TaskFails, "pve1"));
        assert!(!faults.active(FaultKind::TaskFails, "pve1"));
    }
}
