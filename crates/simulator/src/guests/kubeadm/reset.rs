//! `kubeadm reset` (cmd/kubeadm/app/cmd/reset.go and phases/reset).

use super::endpoint::through_endpoint;
use crate::guests::Guests;
use crate::guests::history::What;

/// Undoes what `init` or `join` left on a machine; the node object and an external etcd are kept.
pub fn reset(guests: &mut Guests, key: &str) -> String {
    let served = guests.served_by(key);
    let (node, ready) = served.map_or((None, false), |(node, ready)| (Some(node), ready));
    guests.note(key, What::Reset { node, ready });
    let Some(guest) = guests.all.get(key) else { return String::new() };
    let stacked = guest.exists("/etc/kubernetes/manifests/etcd.yaml");
    let warning = match leave(guests, key) {
        Err(text) if stacked => format!(
            "[reset] Failed to remove etcd member: {text}, please manually remove this etcd member \
             using etcdctl\n"
        ),
        _ => String::new(),
    };
    let Some(guest) = guests.all.get_mut(key) else { return String::new() };
    guest.remove_below("/etc/kubernetes/manifests");
    guest.remove_below("/etc/kubernetes/pki");
    guest.remove_below("/var/lib/kubelet");
    // The data is deleted even if the member could not be removed.
    guest.remove_below("/var/lib/etcd");
    for file in
        ["admin", "super-admin", "kubelet", "bootstrap-kubelet", "controller-manager", "scheduler"]
    {
        guest.disk.files.remove(&format!("/etc/kubernetes/{file}.conf"));
    }
    guest.stop("kubelet");
    guest.disk.kube = None;
    guest.disk.api_names.clear();
    if let Some(run) = &mut guest.run {
        run.api_at = None;
        run.etcd_at = None;
    }
    guests.forget_stacked();
    let etcd = if stacked {
        "[reset] Deleting contents of the etcd data directory: /var/lib/etcd\n"
    } else {
        "[reset] No etcd config found. Assuming external etcd\n\
         [reset] Please, manually reset etcd to prevent further issues\n"
    };
    format!(
        "[preflight] Running pre-flight checks\n{warning}{etcd}[reset] Stopping the kubelet service\n\
         [reset] Unmounting mounted directories in \"/var/lib/kubelet\"\n\
         [reset] Deleting contents of directories: [/etc/kubernetes/manifests /var/lib/kubelet /etc/kubernetes/pki]\n\
         [reset] Deleting files: [/etc/kubernetes/admin.conf /etc/kubernetes/super-admin.conf \
         /etc/kubernetes/kubelet.conf /etc/kubernetes/bootstrap-kubelet.conf \
         /etc/kubernetes/controller-manager.conf /etc/kubernetes/scheduler.conf]\n\n\
         The reset process does not clean CNI configuration. To do so, you must remove /etc/cni/net.d\n"
    )
}

/// A master removes its own member from its etcd, unless it is the only one. For that it needs the API,
/// which lists the members, and a quorum.
fn leave(guests: &mut Guests, key: &str) -> Result<(), String> {
    let own = guests.own_member(key).map(|(base, member)| (base, member.id));
    let Some((base, id)) = own else { return Err("the etcd pod is not there".to_owned()) };
    let endpoint = guests.all.get(key).and_then(|guest| {
        let admin = guest.text("/etc/kubernetes/admin.conf")?;
        crate::guests::node::field(admin, "server: https://").map(str::to_owned)
    });
    let ca = guests.api_ca(key).map(str::to_owned);
    let path = "/api/v1/namespaces/kube-system/pods?labelSelector=component%3Detcd";
    through_endpoint(guests, key, &endpoint.unwrap_or_default(), ca.as_deref(), path)?;
    if guests.etcd_of(&base).is_some_and(|etcd| etcd.members.len() == 1) {
        return Ok(());
    }
    guests.remove_member(&base, id, key).map_err(|refusal| refusal.text())
}
