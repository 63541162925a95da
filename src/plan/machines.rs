//! Checks whether a host can run the VMs of the profile: its CPUs, CPU types, memory and pools.
//! Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::inventory::Inventory;
use super::prerequisites::Lack;
use crate::cluster::{Cluster, HostName, Node};
use crate::proxmox::wire::{CpuInfo, CpuModel};
use crate::proxmox::{Identity, rights};

/// What a host reports about this.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Its CPUs; `None` if k8sha may not see them.
    pub cpus: Option<CpuInfo>,
    /// Its memory in MiB; `None` if k8sha may not see it.
    pub memory_mib: Option<u64>,
    /// The CPU types that it supports; `None` if it does not report them.
    pub models: Option<Vec<CpuModel>>,
    /// The pools that k8sha can see.
    pub pools: Vec<String>,
    /// Whether k8sha could see the profile's pool if it existed.
    pub sees_pools: bool,
}

/// The privileges, one of which makes a pool visible (pve-manager PVE/API2/Pool.pm, `index`).
pub const SEES_POOLS: [&str; 2] = ["Pool.Audit", "Pool.Allocate"];

/// What k8sha could not see on a host. It is not treated as missing: a run may work without it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unseen {
    /// How many CPUs it has.
    Cpus,
    /// The custom CPU type of the profile.
    Model(String),
    /// The pool of the profile.
    Pool(String),
}

impl Unseen {
    /// The command that makes it visible, for the host's root.
    pub fn fix(&self, who: &Identity) -> Vec<String> {
        let (path, roles) = match self {
            // No ACL above this path could be replaced, and roles on one path add up.
            Unseen::Cpus | Unseen::Model(_) => ("/".to_owned(), "PVEAuditor".to_owned()),
            // An ACL on a path replaces those inherited from above.
            Unseen::Pool(pool) => (format!("/pool/{pool}"), format!("PVEAuditor,{}", rights::ROLE)),
        };
        vec![format!("pveum acl modify {path} {} --roles {roles}", who.acl_options())]
    }
}

impl fmt::Display for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unseen::Cpus => f.write_str(
                "its CPUs are not visible (this requires Sys.Audit on /nodes): whether they are \
                 enough for each VM is unknown",
            ),
            Unseen::Model(model) => write!(
                f,
                "the CPU type `{model}` is not visible (this requires Sys.Audit on /nodes): \
                 whether it exists is unknown"
            ),
            Unseen::Pool(pool) => write!(
                f,
                "the pool `{pool}` is not visible (this requires Pool.Audit on /pool/{pool}): \
                 whether it exists is unknown"
            ),
        }
    }
}

/// The result for a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// What it lacks.
    pub lacks: Vec<Lack>,
    /// What is not visible.
    pub unseen: BTreeSet<Unseen>,
}

/// Compares what the profile needs for a host's VMs with what the host reported.
pub fn judge(cluster: &Cluster, host: &HostName, told: &Told, who: &Identity) -> Judged {
    let mut judged = Judged::default();
    let model = cluster.proxmox.cpu.split(',').next().unwrap_or_default();
    let model = model.strip_prefix("cputype=").unwrap_or(model);
    match known(model, host, told.models.as_deref()) {
        Ok(true) => {}
        Ok(false) => drop(judged.unseen.insert(Unseen::Model(model.to_owned()))),
        Err(lack) => judged.lacks.push(lack),
    }
    match &told.cpus {
        Some(cpus) => {
            judged.lacks.extend(too_many(cluster, host, cpus));
            judged.lacks.extend(unable(model, &cpus.flags));
        }
        None => drop(judged.unseen.insert(Unseen::Cpus)),
    }
    judged.lacks.extend(told.memory_mib.and_then(|has| too_large(cluster, host, has)));
    if let Some(pool) = &cluster.proxmox.pool
        && !told.pools.contains(pool)
    {
        if told.sees_pools {
            judged.lacks.push(no_pool(pool, &told.pools, who));
        } else {
            judged.unseen.insert(Unseen::Pool(pool.clone()));
        }
    }
    judged
}

/// Whether the host knows the CPU type; `false` if it does not say.
fn known(model: &str, host: &HostName, models: Option<&[CpuModel]>) -> Result<bool, Lack> {
    let Some(models) = models.filter(|models| !models.is_empty()) else { return Ok(false) };
    if models.iter().any(|known| known.name == model) {
        return Ok(true);
    }
    // Custom types are omitted from the list for users who may not see them.
    let customs = models.iter().any(|known| known.name.starts_with("custom-"));
    if model.starts_with("custom-") && !customs {
        return Ok(false);
    }
    Err(Lack {
        what: format!("it has no CPU type `{model}`"),
        fix: vec![
            "set another one as `proxmox.cpu` in the profile; this lists them:".to_owned(),
            format!("pvesh get /nodes/{host}/capabilities/qemu/cpu"),
        ],
    })
}

/// VMs with more CPUs than the host has, which Proxmox VE does not start (qemu-server
/// src/PVE/QemuServer.pm, `config_to_command`).
fn too_many(cluster: &Cluster, host: &HostName, cpus: &CpuInfo) -> Option<Lack> {
    let has = u32::try_from(cpus.cpus).ok().filter(|has| *has > 0)?;
    let large = |node: &&Node| node.host == *host && node.vcpu > has;
    let large: Vec<String> = cluster
        .nodes
        .iter()
        .filter(large)
        .map(|node| format!("{} needs {}", node.name, node.vcpu))
        .collect();
    (!large.is_empty()).then(|| Lack {
        what: format!("it has {has} CPUs and cannot start VMs with more: {}", large.join(", ")),
        fix: vec![format!(
            "reduce `vcpu` to {has} at most, or use another host (`pve`) for these \
             rows"
        )],
    })
}

/// VMs with more memory than the host has. Proxmox VE starts them, and the kernel kills one when
/// they use it.
fn too_large(cluster: &Cluster, host: &HostName, has: u64) -> Option<Lack> {
    let large = |node: &&Node| node.host == *host && has > 0 && u64::from(node.ram_mib) > has;
    let large: Vec<String> = cluster
        .nodes
        .iter()
        .filter(large)
        .map(|node| format!("{} needs {} MiB", node.name, node.ram_mib))
        .collect();
    (!large.is_empty()).then(|| Lack {
        what: format!("it has {has} MiB of memory, less than one VM needs: {}", large.join(", ")),
        fix: vec!["reduce `ram`, or use another host (`pve`) for these rows".to_owned()],
    })
}

/// What Proxmox VE's own CPU types require of the host's CPU, by the names of `/proc/cpuinfo`
/// (qemu-server src/PVE/QemuServer/CPUConfig.pm, `$builtin_models`). QEMU runs with `enforce`.
const V2: [&str; 5] = ["popcnt", "pni", "sse4_1", "sse4_2", "ssse3"];
const V3: [&str; 9] = ["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"];
const V4: [&str; 5] = ["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"];

/// The features that the CPU type requires and the host's CPU lacks.
fn unable(model: &str, flags: &str) -> Option<Lack> {
    let aes: &[&str] = &["aes"];
    let wanted: Vec<&[&str]> = match model {
        "x86-64-v2" => vec![&V2],
        "x86-64-v2-AES" => vec![&V2, aes],
        "x86-64-v3" => vec![&V2, aes, &V3],
        "x86-64-v4" => vec![&V2, aes, &V3, &V4],
        _ => return None,
    };
    let has: BTreeSet<&str> = flags.split_whitespace().collect();
    if has.is_empty() {
        return None;
    }
    let missing: Vec<&str> =
        wanted.into_iter().flatten().copied().filter(|flag| !has.contains(flag)).collect();
    (!missing.is_empty()).then(|| Lack {
        what: format!(
            "its CPU has no {}, which the CPU type `{model}` requires: no VM of that type starts",
            missing.join(", ")
        ),
        fix: vec!["set a lower one as `proxmox.cpu` in the profile, or `host`".to_owned()],
    })
}

fn no_pool(pool: &str, known: &[String], who: &Identity) -> Lack {
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Lack {
        what: format!("pool `{pool}` does not exist; {who} sees {known}"),
        fix: vec![
            "use another one as `proxmox.pool` in the profile, or create it:".to_owned(),
            format!("pveum pool add {pool}"),
        ],
    }
}

/// What was not visible, each reported once with its hosts.
pub fn unseen(inventory: &Inventory) -> Vec<String> {
    let mut hosts: BTreeMap<&Unseen, Vec<&str>> = BTreeMap::new();
    for (host, state) in &inventory.hosts {
        for unseen in &state.unseen {
            hosts.entry(unseen).or_default().push(host.as_str());
        }
    }
    let say = |(unseen, hosts): (&Unseen, Vec<&str>)| format!("{}: {unseen}", hosts.join(", "));
    hosts.into_iter().map(say).collect()
}

#[cfg(test)]
mod tests {
    use super::super::inventory::HostState;
    use super::*;
    use crate::cluster::fixture::k8s1;

    const FLAGS: &str = "sse2 pni ssse3 sse4_1 sse4_2 popcnt aes";

    fn told(cpus: u64, flags: &str, models: &[&str]) -> Told {
        let model = |name: &&str| CpuModel { name: (*name).to_owned() };
        Told {
            cpus: Some(CpuInfo { cpus, flags: flags.to_owned() }),
            models: Some(models.iter().map(model).collect()),
            ..Told::default()
        }
    }

    fn judged(cluster: &Cluster, told: &Told) -> Judged {
        let who = Identity::Token("k8sha@pve!ci".to_owned());
        judge(cluster, &HostName("pve1".to_owned()), told, &who)
    }

    fn lacks(cluster: &Cluster, told: &Told) -> Vec<String> {
        judged(cluster, told).lacks.into_iter().map(|lack| lack.what).collect()
    }

    #[test]
    fn a_host_that_has_all_lacks_nothing() {
        let found = judged(&k8s1(), &told(2, FLAGS, &["host", "x86-64-v2-AES"]));
        assert_eq!(found, Judged::default());
    }

    #[test]
    fn more_vcpus_than_the_host_has_are_named_with_their_rows() {
        let mut cluster = k8s1();
        cluster.nodes[2].vcpu = 3;
        cluster.nodes[7].vcpu = 99; // on pve2
        assert_eq!(
            lacks(&cluster, &told(2, FLAGS, &["x86-64-v2-AES"])),
            ["it has 2 CPUs and cannot start VMs with more: k8s1master1 needs 3"]
        );
        assert!(lacks(&cluster, &told(3, FLAGS, &["x86-64-v2-AES"])).is_empty());
    }

    #[test]
    fn more_memory_than_the_host_has_is_named_with_its_rows() {
        let mut cluster = k8s1();
        cluster.nodes[2].ram_mib = 9000;
        let small = Told { memory_mib: Some(8999), ..told(4, FLAGS, &["x86-64-v2-AES"]) };
        assert_eq!(
            lacks(&cluster, &small),
            ["it has 8999 MiB of memory, less than one VM needs: k8s1master1 needs 9000 MiB"]
        );
        assert!(lacks(&cluster, &Told { memory_mib: Some(9000), ..small.clone() }).is_empty());
        assert!(lacks(&cluster, &Told { memory_mib: None, ..small }).is_empty());
    }

    #[test]
    fn a_cpu_type_must_be_known_and_within_what_the_host_can() {
        let mut cluster = k8s1();
        let old = FLAGS.replace(" aes", "");
        assert_eq!(
            lacks(&cluster, &told(4, &old, &["x86-64-v2-AES"])),
            ["its CPU has no aes, which the CPU type `x86-64-v2-AES` requires: no VM of that \
              type starts"]
        );
        cluster.proxmox.cpu = "EPYC-Milano,flags=+aes".to_owned();
        assert_eq!(
            lacks(&cluster, &told(4, FLAGS, &["EPYC-Milan"])),
            ["it has no CPU type `EPYC-Milano`"]
        );
        cluster.proxmox.cpu = "cputype=host".to_owned();
        assert!(lacks(&cluster, &told(4, FLAGS, &["host"])).is_empty());
    }

    #[test]
    fn what_may_not_be_seen_is_not_taken_for_absent() {
        let mut cluster = k8s1();
        cluster.proxmox.cpu = "custom-node".to_owned();
        cluster.proxmox.pool = Some("k8s".to_owned());
        let blind = Told { cpus: None, ..told(0, "", &["host"]) };
        let found = judged(&cluster, &blind);
        assert!(found.lacks.is_empty(), "{found:?}");
        let unseen =
            [Unseen::Cpus, Unseen::Model("custom-node".to_owned()), Unseen::Pool("k8s".to_owned())];
        assert_eq!(found.unseen, unseen.into());
        // A user that sees custom types sees that this one is missing.
        assert_eq!(
            lacks(&cluster, &Told { cpus: None, ..told(0, "", &["host", "custom-other"]) }),
            ["it has no CPU type `custom-node`"]
        );
        let silent = Told { models: None, ..blind };
        assert!(judged(&cluster, &silent).lacks.is_empty());
    }

    #[test]
    fn a_pool_that_would_be_seen_and_is_not_is_missing() {
        let mut cluster = k8s1();
        cluster.proxmox.pool = Some("k8s".to_owned());
        let mut told = told(4, FLAGS, &["x86-64-v2-AES"]);
        told.sees_pools = true;
        told.pools = vec!["other".to_owned()];
        assert_eq!(
            lacks(&cluster, &told),
            ["pool `k8s` does not exist; the token `k8sha@pve!ci` sees other"]
        );
        told.pools.push("k8s".to_owned());
        told.sees_pools = false;
        assert_eq!(judged(&cluster, &told), Judged::default());
    }

    #[test]
    fn what_hosts_share_is_said_once() {
        let state = || HostState { unseen: [Unseen::Cpus].into(), ..HostState::default() };
        let mut inventory = Inventory::default();
        for host in ["pve1", "pve2"] {
            inventory.hosts.insert(HostName(host.to_owned()), state());
        }
        let said = unseen(&inventory);
        assert!(said.len() == 1 && said[0].starts_with("pve1, pve2: its CPUs"), "{said:?}");
    }
}
