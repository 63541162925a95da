//! Checks the pod network (CNI) and whether it matches the kube-proxy mode.

use std::ops::Range;
use std::path::Path;

use super::kubernetes::NODE_MASK;
use super::{Notes, resolved};
use crate::cluster::{CalicoDataplane, Cni, ProxyMode, Version};
use crate::profile::at::{At, Section};
use crate::profile::complaint::Complaint;
use crate::profile::raw::{self, Profile};

/// The longest cluster name that Cilium accepts (cilium `pkg/clustermesh/types`).
const CILIUM_NAME_MAX: usize = 32;
/// The first Calico whose manifests have the URLs that k8sha expects, with every data plane that
/// k8sha supports.
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
                        "no kube-proxy and no pod network that replaces it: Services will not work",
                    )
                    .at(proxy.span.clone(), "")
                    .help(
                        "`cni: {cilium: …}`, `{calico: …}` or `{manifest: …}`, or set another `proxy`",
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
                    Complaint::warning("no kube-proxy: the manifest must include a replacement")
                        .at(path.span.clone(), "this manifest")
                        .at(proxy.span.clone(), "no kube-proxy")
                        .help("k8sha cannot check whether it does"),
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
            Complaint::error(format!(
                "`{}` is too long: Cilium limits the length of a cluster's name",
                name.value.0
            ))
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
        let text = format!("Calico {} is not supported by this version of k8sha", version.value);
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
    // In a smaller pod network, the controller manager needs `node_mask`, whatever Calico does.
    let cidr = pods.and_then(|pods| pods.cidr.as_ref());
    let needless = cidr.is_some_and(|cidr| cidr.value.prefix_len() <= NODE_MASK);
    if let Some(mask) = mask.filter(|_| needless) {
        notes.push(
            Complaint::warning("Calico does not use `node_mask`: it assigns addresses itself")
                .at(mask.span.clone(), "")
                .at(section.span.clone(), "Calico")
                .help(
                    "Calico gives each node blocks of 64 addresses on demand: remove `node_mask`",
                ),
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
            "no kube-proxy, and Calico does not replace it: Services will not work",
            "set `dataplane: ebpf`, which replaces kube-proxy, or another `proxy`",
        ),
        (CalicoDataplane::Ebpf, _) => (
            "Calico's eBPF data plane and kube-proxy would both implement Services",
            "set `proxy: none` to leave Services to Calico",
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
