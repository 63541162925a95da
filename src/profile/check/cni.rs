//! The pod network, and whether it fits to who implements services.

use std::ops::Range;
use std::path::Path;

use super::kubernetes::NODE_MASK;
use super::{Notes, resolved};
use crate::cluster::{CalicoDataplane, Cni, ProxyMode, Version};
use crate::profile::at::{At, Section};
use crate::profile::complaint::Complaint;
use crate::profile::raw::{self, Profile};

/// The longest name of a cluster that Cilium takes (cilium `pkg/clustermesh/types`).
const CILIUM_NAME_MAX: usize = 32;
/// The first Calico whose manifests are where we look for them, with every data plane that we know.
const CALICO_OLDEST: Version = Version { major: 3, minor: 30, patch: 0 };

pub(super) fn settle(
    typed: &raw::Kubernetes,
    profile: &Profile,
    base: &Path,
    notes: &mut Notes,
) -> Option<Cni> {
    let proxy = typed.proxy.as_ref();
    let alone = proxy.filter(|proxy| proxy.value == ProxyMode::None);
    match &typed.cni {
        None | Some(raw::Cni::None) => {
            if let Some(proxy) = alone {
                notes.push(
                    Complaint::error(
                        "no kube-proxy, and no pod network that does its work: services stay dead",
                    )
                    .at(proxy.span.clone(), "")
                    .help(
                        "`cni: {cilium: …}`, `{calico: …}` or `{manifest: …}`, or another `proxy`",
                    ),
                );
            }
            Some(Cni::None)
        }
        Some(raw::Cni::Cilium(section)) => cilium(section, profile, notes),
        Some(raw::Cni::Calico(section)) => calico(section, typed, notes),
        Some(raw::Cni::Manifest(path)) => {
            if let Some(proxy) = alone {
                notes.push(
                    Complaint::warning("no kube-proxy: the manifest must bring what does its work")
                        .at(path.span.clone(), "this manifest")
                        .at(proxy.span.clone(), "no kube-proxy")
                        .help("only its author knows whether it does"),
                );
            }
            Some(Cni::Manifest(resolved(base, path)))
        }
    }
}

fn cilium(section: &Section<raw::Cilium>, profile: &Profile, notes: &mut Notes) -> Option<Cni> {
    let version = notes.need(section, "version", &section.value.version);
    let cli_version = notes.need(section, "cli_version", &section.value.cli_version);
    let name = profile.cluster.as_ref().and_then(|cluster| cluster.value.name.as_ref());
    if let Some(name) = name.filter(|name| name.value.0.len() > CILIUM_NAME_MAX) {
        notes.push(
            Complaint::error(format!("`{}` is too long a name for Cilium", name.value.0))
                .at(name.span.clone(), "the cluster's name")
                .at(section.span.clone(), "Cilium")
                .help(format!("{CILIUM_NAME_MAX} characters at most")),
        );
    }
    Some(Cni::Cilium {
        version: version?.value.to_string(),
        cli_version: cli_version?.value.to_string(),
    })
}

fn calico(
    section: &Section<raw::Calico>,
    typed: &raw::Kubernetes,
    notes: &mut Notes,
) -> Option<Cni> {
    let version = notes.need(section, "version", &section.value.version);
    if let Some(version) = version.filter(|version| version.value < CALICO_OLDEST) {
        let text = format!("Calico {} is older than this k8sha knows", version.value);
        let hint = format!("{CALICO_OLDEST} or newer");
        notes.push(Complaint::error(text).at(version.span.clone(), "").help(hint));
    }
    let proxy = typed.proxy.as_ref().map_or(ProxyMode::Iptables, |proxy| proxy.value);
    let fitting = match proxy {
        ProxyMode::None => CalicoDataplane::Ebpf,
        ProxyMode::Nftables => CalicoDataplane::Nftables,
        ProxyMode::Iptables | ProxyMode::Ipvs => CalicoDataplane::Iptables,
    };
    let pods = typed.pods.as_ref().map(|pods| &pods.value);
    let mask = pods.and_then(|pods| pods.node_mask.as_ref());
    // In a smaller pod network the controller manager needs one, whatever Calico does.
    let cidr = pods.and_then(|pods| pods.cidr.as_ref());
    let needless = cidr.is_some_and(|cidr| cidr.value.prefix_len() <= NODE_MASK);
    if let Some(mask) = mask.filter(|_| needless) {
        notes.push(
            Complaint::warning("Calico does not use `node_mask`: it hands addresses out itself")
                .at(mask.span.clone(), "")
                .at(section.span.clone(), "Calico")
                .help("nodes get blocks of 64 addresses as they need them: leave `node_mask` out"),
        );
    }
    let asked = section.value.dataplane.as_ref();
    if let Some(asked) = asked.filter(|asked| asked.value != fitting) {
        notes.push(contradiction(asked, fitting, proxy, typed.proxy.as_ref()));
    }
    Some(Cni::Calico { version: version?.value.to_string(), dataplane: fitting })
}

fn contradiction(
    asked: &At<CalicoDataplane>,
    fitting: CalicoDataplane,
    proxy: ProxyMode,
    typed: Option<&At<ProxyMode>>,
) -> Complaint {
    let (what, hint) = match (asked.value, proxy) {
        (_, ProxyMode::None) => (
            "no kube-proxy, and a Calico that does not do its work: services stay dead",
            "`dataplane: ebpf` does it, or take another `proxy`",
        ),
        (CalicoDataplane::Ebpf, _) => (
            "Calico's eBPF and kube-proxy would both implement services",
            "`proxy: none` leaves it to Calico",
        ),
        _ => (
            "Calico and kube-proxy must write their rules with the same tool",
            match fitting {
                CalicoDataplane::Nftables => "`dataplane: nftables`, or `proxy: iptables`",
                _ => "`dataplane: iptables`, or `proxy: nftables`",
            },
        ),
    };
    let complaint = Complaint::error(what).at(asked.span.clone(), "Calico").help(hint);
    let place: Option<Range<usize>> = typed.map(|typed| typed.span.clone());
    match place {
        Some(place) => complaint.at(place, "kube-proxy"),
        None => complaint,
    }
}
