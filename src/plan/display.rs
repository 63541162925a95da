//! A plan as a person reads it.

use std::fmt::{self, Write as _};

use super::{Action, Fate, Plan, Step};

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Dns => write!(f, "ask every name server for every name"),
            Action::Image { storage, file, .. } => write!(f, "download {file} to {storage}"),
            Action::Template { vmid, os, storage, .. } => {
                write!(f, "make template {vmid} ({os}) on {storage}")
            }
            Action::Seed { storage, file, .. } => write!(f, "upload {file} to {storage}"),
            Action::Clone { source, vmid, full, storage, home, host, .. } => {
                let kind = if *full { "full" } else { "linked" };
                write!(f, "clone {source} to {vmid} ({kind}, {storage})")?;
                if home != host { write!(f, " from {home}") } else { Ok(()) }
            }
            Action::Configure { changes, .. } if changes.is_empty() => {
                write!(f, "configure CPU, memory, network, seed, tags")
            }
            Action::Configure { changes, .. } => {
                let keys: Vec<&str> = changes.iter().map(|change| change.key.as_str()).collect();
                write!(f, "configure {}", keys.join(", "))
            }
            Action::Grow { to_gib, .. } => write!(f, "grow the disk to {to_gib} GiB"),
            Action::Start { .. } => write!(f, "start"),
            Action::Boot { again: false, .. } => write!(f, "wait for SSH, cloud-init and kernel"),
            Action::Boot { again: true, .. } => write!(f, "run cloud-init again, which has failed"),
            Action::NodeDns { .. } => write!(f, "ask the name servers from the node"),
            Action::Balance { files, .. } => {
                let names = files.iter().map(|path| path.rsplit('/').next().unwrap_or(path));
                write!(f, "bring {} up to date", names.collect::<Vec<_>>().join(" and "))
            }
            Action::Vip => write!(f, "see that one load balancer holds the VIP"),
            Action::EtcdMember { .. } => write!(f, "plant etcd's certificates"),
            Action::EtcdForm => write!(f, "form the etcd cluster, or bring its members back"),
            Action::EtcdClient { .. } => write!(f, "renew the API server's etcd certificate"),
            Action::Etcd => write!(f, "copy the etcd files and prove every member"),
            Action::Init => write!(f, "kubeadm init"),
            Action::Keys => write!(f, "see that token and certificate key are alive"),
            Action::Join { .. } => write!(f, "kubeadm join"),
            Action::Label { .. } => write!(f, "label as worker"),
            Action::Kubeconfig => write!(f, "fetch the kubeconfig"),
            Action::Cni => write!(f, "install the pod network"),
            Action::Verify => write!(f, "see that the cluster is as asked"),
            Action::ForgetEtcd { .. } => write!(f, "remove our keys from etcd"),
            Action::Destroy { vmid, host, .. } => write!(f, "stop and remove VM {vmid} on {host}"),
            Action::RemoveVolume { volume, .. } => write!(f, "remove {volume}"),
            Action::RemoveTemplate { vmid, .. } => write!(f, "remove template {vmid}"),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "cluster {} on {}", self.cluster, self.topology)?;
        writeln!(f)?;
        let wide = self.vms.iter().map(|vm| vm.node.0.len()).max().unwrap_or_default();
        for vm in &self.vms {
            let (sign, word) = match &vm.fate {
                Fate::Created => ('+', "created"),
                Fate::Kept => (' ', "kept"),
                Fate::Changed { .. } => ('~', "changed"),
                Fate::Destroyed => ('-', "destroyed"),
                Fate::Absent => (' ', "absent"),
            };
            let mut line = String::new();
            write!(
                line,
                "{sign} {:wide$}  {:13}  VM {:<9} {:8} {word}",
                vm.node, vm.role, vm.vmid, vm.host
            )?;
            writeln!(f, "{}", line.trim_end())?;
            if let Fate::Changed { changes } = &vm.fate {
                for change in changes {
                    let from = if change.from.is_empty() { "(unset)" } else { &change.from };
                    writeln!(f, "      {}: {from} -> {}", change.key, change.to)?;
                }
            }
        }
        writeln!(f)?;
        for notice in &self.notices {
            writeln!(f, "note: {notice}")?;
        }
        if self.is_settled() {
            return write!(f, "nothing to do: all is as the profile asks");
        }
        let wide = self.steps.iter().map(|step| step.on.len()).max().unwrap_or_default();
        writeln!(f, "{} steps, {} of which only look:", self.steps.len(), self.looks())?;
        for step in &self.steps {
            writeln!(f, "  {:wide$}  {}", step.on, step.action)?;
        }
        write!(f, "{}", self.summary())
    }
}

impl Plan {
    fn looks(&self) -> usize {
        self.steps.iter().filter(|step: &&Step| !step.action.writes()).count()
    }

    /// One line: how many VMs are created, changed, kept, destroyed.
    pub fn summary(&self) -> String {
        let count = |want: fn(&Fate) -> bool| self.vms.iter().filter(|vm| want(&vm.fate)).count();
        let mut parts = Vec::new();
        for (number, word) in [
            (count(|fate| *fate == Fate::Created), "to create"),
            (count(|fate| matches!(fate, Fate::Changed { .. })), "to change"),
            (count(|fate| *fate == Fate::Destroyed), "to destroy"),
            (count(|fate| *fate == Fate::Kept), "kept"),
        ] {
            if number > 0 {
                parts.push(format!("{number} {word}"));
            }
        }
        if parts.is_empty() { "no VMs".to_owned() } else { format!("VMs: {}", parts.join(", ")) }
    }
}
