//! Computes the privileges that a profile needs on each path, and those that are missing. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::{Finding, Severity};
use super::host::Seen;
use crate::cluster::{Cluster, HostName, TemplateSource, VmId};
use crate::plan::template;
use crate::proxmox::wire::VmConfig;
use crate::proxmox::{Identity, rights};

/// The privileges for a node's VM during its life. A clone gets its hardware from the template.
const ROW: &[&str] = &[
    "VM.Allocate",
    "VM.Audit",
    "VM.Config.CDROM",
    "VM.Config.CPU",
    "VM.Config.Disk",
    "VM.Config.Memory",
    "VM.Config.Network",
    "VM.Config.Options",
    "VM.PowerMgmt",
];
/// The additional privilege for a clone whose template has a cloud-init drive, which is removed.
/// Source: qemu-server src/PVE/API2/Qemu.pm, `check_drive_perms`.
const SEEDED: &[&str] = &["VM.Config.Cloudinit"];
/// The privileges for k8sha's own template, from its creation to its removal.
const TEMPLATE: &[&str] = &[
    "VM.Allocate",
    "VM.Audit",
    "VM.Clone",
    "VM.Config.CPU",
    "VM.Config.HWType",
    "VM.Config.Memory",
    "VM.Config.Network",
    "VM.Config.Options",
];
/// The privileges for the operator's own template.
const THEIRS: &[&str] = &["VM.Audit", "VM.Clone"];
/// The privileges for a storage on which files are created and removed.
const FILES: &[&str] =
    &["Datastore.Allocate", "Datastore.AllocateSpace", "Datastore.AllocateTemplate"];
/// The privileges for a storage of disks.
const DISKS: &[&str] = &["Datastore.AllocateSpace"];

/// A path, the privileges needed there, and the path on which they are best granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) path: String,
    pub(super) privileges: Vec<&'static str>,
    pub(super) grant: String,
}

/// The configurations of a host's VMs.
type Configs = BTreeMap<VmId, VmConfig>;

/// The privileges needed on a host that has these VMs.
pub(super) fn needs(cluster: &Cluster, host: &HostName, configs: &Configs) -> Vec<Need> {
    let settings = &cluster.proxmox.hosts[host];
    let mut needs = Vec::new();
    let mut need = |path: String, privileges: &[&'static str], grant: String| {
        needs.push(Need { path, privileges: privileges.to_vec(), grant });
    };
    let ours = settings.templates.values().any(|source| matches!(source, TemplateSource::Ours(_)));
    let joined = cluster.proxmox.pool.as_ref().map(|pool| format!("/pool/{pool}"));
    // Destroying a VM removes the ACL entries on its own path: a grant there lasts for one VM only.
    let vms = joined.unwrap_or_else(|| "/vms".to_owned());
    for node in cluster.nodes.iter().filter(|node| node.host == *host) {
        need(format!("/vms/{}", node.vmid), ROW, vms.clone());
        let source = settings.templates.get(&node.os).and_then(|from| configs.get(&from.vmid()));
        let seeded = source.is_some_and(|config| template::brings_seed(&config.0));
        if seeded && !configs.contains_key(&node.vmid) {
            need(format!("/vms/{}", node.vmid), SEEDED, vms.clone());
        }
    }
    for source in settings.templates.values() {
        let path = format!("/vms/{}", source.vmid());
        match source {
            TemplateSource::Ours(_) => need(path, TEMPLATE, vms.clone()),
            TemplateSource::Theirs(_) => need(path.clone(), THEIRS, path),
        }
    }
    let mut storage = |name: &str, privileges| {
        let path = format!("/storage/{name}");
        need(path.clone(), privileges, path);
    };
    storage(&settings.storage, DISKS);
    storage(&settings.iso_storage, FILES);
    if ours {
        storage(&settings.import_storage, FILES);
    }
    // Source: pve-guest-common src/PVE/GuestHelpers.pm, `check_vnet_access`.
    for (bridge, vlan) in cluster.bridges(host) {
        let vlan = vlan.map_or(String::new(), |tag| format!("/{tag}"));
        let bridge = format!("/sdn/zones/localnetwork/{bridge}{vlan}");
        need(bridge.clone(), &["SDN.Use"], bridge);
    }
    if ours {
        let node = format!("/nodes/{host}");
        need(node.clone(), &["Sys.AccessNetwork"], node);
    }
    needs
}

/// The privileges held, by path.
pub(super) type Held = BTreeMap<String, BTreeSet<String>>;

/// The paths whose privileges must be queried.
pub(super) fn paths(cluster: &Cluster, host: &HostName) -> BTreeSet<String> {
    let needs = needs(cluster, host, &Configs::new()).into_iter();
    let mut paths: BTreeSet<String> = needs.flat_map(|need| [need.path, need.grant]).collect();
    paths.extend(["/".to_owned(), format!("/nodes/{host}")]);
    paths
}

/// The privileges that are missing on a host: one finding for each path to grant them on.
pub(super) fn missing(
    cluster: &Cluster,
    host: &HostName,
    who: &Identity,
    seen: &Seen,
) -> Vec<Finding> {
    let Seen { held, configs, role, .. } = seen;
    let holds = |path: &str, privilege: &str| {
        held.get(path).is_some_and(|privileges| privileges.contains(privilege))
    };
    let mut lacking: BTreeMap<String, BTreeSet<&'static str>> = BTreeMap::new();
    for need in needs(cluster, host, configs) {
        for privilege in need.privileges {
            // A VM that will join a pool has the privileges granted on the pool.
            let pooled = need.grant.starts_with("/pool/") && holds(&need.grant, privilege);
            // Source: pve-storage src/PVE/API2/Storage/Status.pm, `download_url`.
            let otherwise = privilege == "Sys.AccessNetwork"
                && holds("/", "Sys.Audit")
                && holds("/", "Sys.Modify");
            if !(holds(&need.path, privilege) || pooled || otherwise) {
                lacking.entry(need.grant.clone()).or_default().insert(privilege);
            }
        }
    }
    lacking
        .into_iter()
        .map(|(path, privileges)| {
            let privileges: Vec<&str> = privileges.into_iter().collect();
            let what = format!("{who} lacks {} on {path}", privileges.join(", "));
            let mut fix = advice(who, &path, &privileges, held.get(&path), role.as_ref());
            fix.insert(
                0,
                format!(
                    "on the host (if the role `{}` does not exist, create it as the README says)",
                    rights::ROLE
                ),
            );
            Finding::new(Severity::Error, host, what, fix)
        })
        .collect()
}

/// The commands that grant the missing privileges on a path and revoke none.
///
/// An entry on a path replaces those inherited from above, so it is suggested only after the role
/// has received every privilege held there now. If the role is already granted there, only the role
/// is changed.
fn advice(
    who: &Identity,
    path: &str,
    missing: &[&str],
    held: Option<&BTreeSet<String>>,
    role: Option<&BTreeSet<String>>,
) -> Vec<String> {
    let nothing = BTreeSet::new();
    let held = held.unwrap_or(&nothing);
    if role.is_some_and(|role| !role.is_empty() && role.is_subset(held)) {
        return vec![rights::append(missing)];
    }
    let kept =
        held.iter().map(String::as_str).filter(|one| role.is_none_or(|role| !role.contains(*one)));
    let all: BTreeSet<&str> = missing.iter().copied().chain(kept).collect();
    let all: Vec<&str> = all.into_iter().collect();
    vec![rights::append(&all), rights::entry(who, path)]
}

/// What these checks themselves may not see.
pub(super) fn blind(host: &HostName, who: &Identity, held: &Held) -> Option<Finding> {
    let dark: Vec<String> = ["/".to_owned(), format!("/nodes/{host}")]
        .into_iter()
        .filter(|path| !held.get(path).is_some_and(|all| all.contains("Sys.Audit")))
        .collect();
    if dark.is_empty() {
        return None;
    }
    let what = format!(
        "{who} lacks Sys.Audit on {}: quorum, memory and CPUs were not checked; a run does not need this privilege",
        dark.join(" and ")
    );
    // On `/` the roles of one user add up; an entry further down replaces them.
    let line = |path: &str, roles: &str| {
        format!("pveum acl modify {path} {} --roles {roles}", who.acl_options())
    };
    let fix = if dark.iter().any(|path| path == "/") {
        line("/", "PVEAuditor")
    } else {
        line(&format!("/nodes/{host}"), &format!("PVEAuditor,{}", rights::ROLE))
    };
    Some(Finding::new(Severity::Note, host, what, vec![fix]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::fixture;

    fn found(cluster: &Cluster, held: &[(&str, &[&str])]) -> Vec<String> {
        let host = HostName("pve1".to_owned());
        let who = Identity::Token("k8sha@pve!ci".to_owned());
        let privileges = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
        let held: Held =
            held.iter().map(|(path, all)| ((*path).to_owned(), privileges(all))).collect();
        missing(cluster, &host, &who, &Seen { held, ..Seen::default() })
            .into_iter()
            .map(|finding| finding.what)
            .collect()
    }

    #[test]
    fn advice_takes_no_right_away() {
        let who = Identity::Token("k8sha@pve!ci".to_owned());
        let set = |all: &[&str]| -> BTreeSet<String> {
            all.iter().map(|one| (*one).to_owned()).collect()
        };
        let advised = |held: &[&str], role: Option<&[&str]>| {
            advice(&who, "/vms", &["VM.Clone"], Some(&set(held)), role.map(set).as_ref())
        };
        let append = |privileges: &str| {
            format!("pveum role modify k8sha --append 1 --privs \"{privileges}\"")
        };
        let entry =
            "pveum acl modify /vms --users 'k8sha@pve' --tokens 'k8sha@pve!ci' --roles k8sha";
        // The role is granted above, together with another one: an entry would replace both.
        let both = ["VM.Audit", "VM.GuestAgent.Audit"];
        assert_eq!(advised(&both, Some(&["VM.Audit"])), [append("VM.Clone")]);
        // Another role is granted: k8sha's role needs its privileges before replacing it.
        let whole = append("VM.Clone VM.Snapshot");
        let role: &[&str] = &["VM.Allocate", "VM.Audit"];
        assert_eq!(advised(&["VM.Audit", "VM.Snapshot"], Some(role)), [whole, entry.to_owned()]);
        // Nothing is granted, so nothing can be replaced.
        assert_eq!(advised(&[], None), [append("VM.Clone"), entry.to_owned()]);
    }

    #[test]
    fn what_needs_are_of_is_the_whole_role_and_no_more() {
        let host = HostName("pve1".to_owned());
        let needs = needs(&fixture(), &host, &Configs::new());
        let all: BTreeSet<&str> = needs.into_iter().flat_map(|need| need.privileges).collect();
        assert_eq!(all, rights::PRIVILEGES.into_iter().collect());
    }

    #[test]
    fn a_template_with_a_cloud_init_drive_asks_for_more_until_its_clones_are_there() {
        let (cluster, host) = (fixture(), HostName("pve1".to_owned()));
        let asks = |configs: &Configs| -> Vec<String> {
            let needs = needs(&cluster, &host, configs).into_iter();
            let more = needs.filter(|need| need.privileges.contains(&"VM.Config.Cloudinit"));
            more.map(|need| need.path).collect()
        };
        let config = |pairs: &[(&str, &str)]| {
            VmConfig(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
        };
        let mut configs = Configs::from([(VmId(9001), config(&[("ide2", "none,media=cdrom")]))]);
        assert_eq!(asks(&configs), [""; 0]);
        let drive = config(&[("ide2", "local:9001/vm-9001-cloudinit.qcow2,media=cdrom")]);
        configs.insert(VmId(9001), drive);
        let before = asks(&configs);
        assert!(before.contains(&"/vms/1101".to_owned()), "{before:?}");
        configs.insert(VmId(1101), config(&[]));
        assert_eq!(asks(&configs).len(), before.len() - 1);
    }

    #[test]
    fn with_a_vlan_its_tag_is_what_has_to_be_allowed() {
        let mut cluster = fixture();
        cluster.network.vlan = Some(5);
        let all: Vec<&str> = rights::PRIVILEGES.to_vec();
        let rest = ["/storage/local", "/storage/local-lvm", "/nodes/pve1", "/vms"];
        let rows = cluster.nodes.iter().map(|node| format!("/vms/{}", node.vmid));
        let rows: Vec<String> = rows.chain(["/vms/9001".to_owned()]).collect();
        let held = |bridge: &'static str| {
            let mut held = vec![(bridge, all.as_slice())];
            held.extend(rest.iter().map(|path| (*path, all.as_slice())));
            held.extend(rows.iter().map(|path| (path.as_str(), all.as_slice())));
            found(&cluster, &held)
        };
        assert_eq!(held("/sdn/zones/localnetwork/vmbr0/5"), Vec::<String>::new());
        assert_eq!(
            held("/sdn/zones/localnetwork/vmbr0/6"),
            ["the token `k8sha@pve!ci` lacks SDN.Use on /sdn/zones/localnetwork/vmbr0/5"]
        );
    }

    #[test]
    fn every_bridge_of_a_hosts_rows_has_to_be_allowed_with_its_own_tag() {
        let cluster = Cluster { proxmox: fixture().proxmox, ..crate::cluster::fixture::own_etcd() };
        let host = HostName("pve1".to_owned());
        let needs = needs(&cluster, &host, &Configs::new());
        let bridges: Vec<&str> = needs
            .iter()
            .map(|need| need.path.as_str())
            .filter(|path| path.starts_with("/sdn/"))
            .collect();
        assert_eq!(bridges, ["/sdn/zones/localnetwork/vmbr0", "/sdn/zones/localnetwork/vmbr1/103"]);
    }

    #[test]
    fn a_pool_gives_its_members_what_is_granted_on_it() {
        let mut cluster = fixture();
        cluster.proxmox.pool = Some("k8s".to_owned());
        let all: Vec<&str> = rights::PRIVILEGES.to_vec();
        let without: Vec<&str> = all.iter().copied().filter(|one| *one != "VM.Clone").collect();
        let rest = ["/storage/local", "/storage/local-lvm", "/nodes/pve1"];
        let bridge = "/sdn/zones/localnetwork/vmbr0";
        let held = |pool: &'static str, on_pool: &[&str]| {
            let mut held = vec![(bridge, all.as_slice()), (pool, on_pool)];
            held.extend(rest.iter().map(|path| (*path, all.as_slice())));
            found(&cluster, &held)
        };
        assert_eq!(held("/pool/k8s", &all), Vec::<String>::new());
        assert_eq!(
            held("/pool/k8s", &without),
            ["the token `k8sha@pve!ci` lacks VM.Clone on /pool/k8s"]
        );
    }
}
