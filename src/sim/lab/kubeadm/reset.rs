//! `kubeadm reset` (cmd/kubeadm/app/cmd/reset.go and phases/reset).

use crate::sim::lab::Lab;

/// Undoes what `init` or `join` left on a machine; the node object and an external etcd stay.
pub fn reset(lab: &mut Lab, key: &str) -> String {
    let Some(guest) = lab.guests.get_mut(key) else { return String::new() };
    let stacked = guest.exists("/etc/kubernetes/manifests/etcd.yaml");
    guest.remove_below("/etc/kubernetes/manifests");
    guest.remove_below("/etc/kubernetes/pki");
    guest.remove_below("/var/lib/kubelet");
    guest.remove_below("/var/lib/etcd");
    for file in
        ["admin", "super-admin", "kubelet", "bootstrap-kubelet", "controller-manager", "scheduler"]
    {
        guest.disk.files.remove(&format!("/etc/kubernetes/{file}.conf"));
    }
    guest.stop("kubelet");
    let id = guest.disk.kube.take();
    guest.disk.api_names.clear();
    if let Some(run) = &mut guest.run {
        run.api_at = None;
    }
    if let Some(id) = id.filter(|_| stacked) {
        let left = lab.kubes.get_mut(&id).map(|kube| {
            kube.members.remove(key);
            kube.members.is_empty()
        });
        if left == Some(true) {
            lab.kubes.remove(&id);
        }
    }
    let etcd = if stacked {
        "[reset] Deleting contents of the etcd data directory: /var/lib/etcd\n"
    } else {
        "[reset] No etcd config found. Assuming external etcd\n\
         [reset] Please, manually reset etcd to prevent further issues\n"
    };
    format!(
        "[preflight] Running pre-flight checks\n{etcd}[reset] Stopping the kubelet service\n\
         [reset] Unmounting mounted directories in \"/var/lib/kubelet\"\n\
         [reset] Deleting contents of directories: [/etc/kubernetes/manifests /var/lib/kubelet /etc/kubernetes/pki]\n\
         [reset] Deleting files: [/etc/kubernetes/admin.conf /etc/kubernetes/super-admin.conf \
         /etc/kubernetes/kubelet.conf /etc/kubernetes/bootstrap-kubelet.conf \
         /etc/kubernetes/controller-manager.conf /etc/kubernetes/scheduler.conf]\n\n\
         The reset process does not clean CNI configuration. To do so, you must remove /etc/cni/net.d\n"
    )
}
