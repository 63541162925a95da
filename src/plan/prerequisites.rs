//! What a host must have before VMs can be created on it. Pure: the host's state is passed in.

use crate::cluster::{Cluster, Host, HostName, TemplateSource};
use crate::proxmox::wire::{NetworkIface, StorageStatus};
use crate::proxmox::{Identity, rights};

/// Something that a host lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// What, as a sentence without the host's name.
    pub what: String,
    /// The fix: command lines if there are any.
    pub fix: Vec<String>,
}

/// The storages of a host that are used, each with a content type that it must accept.
pub fn uses(host: &Host) -> Vec<(&str, &'static str)> {
    let mut uses = vec![(host.storage.as_str(), "images"), (host.iso_storage.as_str(), "iso")];
    if host.templates.values().any(|source| matches!(source, TemplateSource::Ours(_))) {
        uses.push((&host.import_storage, "import"));
    }
    uses
}

/// The storages of the profile that do not exist, are disabled, or do not accept the needed
/// content. `seen` is what the host lists to `who`.
pub fn storages(host: &Host, seen: &[StorageStatus], who: &Identity) -> Vec<Lack> {
    let mut lacks: Vec<Lack> = Vec::new();
    let mut wanted: Vec<(&str, Vec<&str>)> = Vec::new();
    for (storage, content) in uses(host) {
        match wanted.iter_mut().find(|(known, _)| *known == storage) {
            Some((_, contents)) => contents.push(content),
            None => wanted.push((storage, vec![content])),
        }
    }
    for (storage, contents) in wanted {
        let Some(found) = seen.iter().find(|seen| seen.storage.as_deref() == Some(storage)) else {
            let known: Vec<&str> = seen.iter().filter_map(|seen| seen.storage.as_deref()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let what = format!(
                "storage `{storage}` does not exist or is not visible to k8sha; visible \
                 are: {known}"
            );
            let privilege = "Datastore.AllocateSpace";
            let mut fix = vec![format!(
                "use another one in the profile, or, if it exists (`pvesm status`), grant {who} \
                 {privilege} on /storage/{storage}"
            )];
            fix.extend(rights::grant(who, &format!("/storage/{storage}"), &[privilege]));
            lacks.push(Lack { what, fix });
            continue;
        };
        if !found.enabled || !found.active {
            let (state, fix) = if found.enabled {
                ("not active", "pvesm status".to_owned())
            } else {
                ("disabled", format!("pvesm set {storage} --disable 0"))
            };
            lacks.push(Lack { what: format!("storage `{storage}` is {state}"), fix: vec![fix] });
        }
        let missing: Vec<&str> =
            contents.into_iter().filter(|content| !found.content.contains(*content)).collect();
        if !missing.is_empty() {
            let has: Vec<&str> = found.content.iter().map(String::as_str).collect();
            let all = [has.as_slice(), missing.as_slice()].concat();
            lacks.push(Lack {
                what: format!(
                    "storage `{storage}` does not accept content `{}`; it accepts {}",
                    missing.join("`, `"),
                    has.join(", ")
                ),
                fix: vec![format!("pvesm set {storage} --content {}", all.join(","))],
            });
        }
    }
    lacks
}

/// The bridges of the profile that do not exist. `seen` is what the host lists.
pub fn bridges(cluster: &Cluster, host: &HostName, seen: &[NetworkIface]) -> Vec<Lack> {
    let known: Vec<&str> =
        seen.iter().filter(|iface| iface.is_bridge()).map(|iface| iface.iface.as_str()).collect();
    // Bridges without a privilege are not listed; a list without any bridge proves nothing.
    if known.is_empty() {
        return Vec::new();
    }
    let mut missing: Vec<String> =
        cluster.bridges(host).into_iter().map(|(bridge, _)| bridge).collect();
    missing.dedup();
    missing.retain(|bridge| !known.contains(&bridge.as_str()));
    let lack = |bridge: String| Lack {
        what: format!("bridge `{bridge}` does not exist; existing are {}", known.join(", ")),
        fix: vec![
            "change `bridge` in the profile, or create that bridge:".to_owned(),
            format!(
                "pvesh create /nodes/{host}/network --iface {bridge} --type bridge --autostart 1"
            ),
            format!("pvesh set /nodes/{host}/network"),
        ],
    };
    missing.into_iter().map(lack).collect()
}

/// What a Proxmox VE cluster without quorum lacks.
pub fn quorum() -> Lack {
    Lack {
        what: "it has no quorum: its configuration is read-only".to_owned(),
        fix: vec![
            "bring the other Proxmox VE node or a QDevice up (`pvecm status` on a host)".to_owned(),
        ],
    }
}
