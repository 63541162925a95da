//! The data on which `kubeadm init` starts an API server.

use super::Config;
use crate::guests::Guests;
use crate::guests::history::What;
use crate::guests::kube::{EXTERNAL, Kube, uuid};

/// The data on which the API server starts: an empty etcd, the data of an earlier try, or what an
/// earlier cluster has left in an external etcd. Returns the cluster's id.
pub fn beneath(guests: &mut Guests, key: &str, config: &Config, node: &str) -> Option<String> {
    let unix = guests.unix();
    if config.etcd_files.is_some() {
        match guests.kubes.get(EXTERNAL).map(|kube| kube.uid.clone()) {
            Some(uid) => guests.note(key, What::Overwritten { uid }),
            None => {
                let kube = Kube { created: unix, external: true, uid: uuid(), ..Kube::default() };
                guests.note(key, What::Cluster { uid: kube.uid.clone() });
                guests.kubes.insert(EXTERNAL.to_owned(), kube);
            }
        }
        return Some(EXTERNAL.to_owned());
    }
    // etcd with existing data ignores the settings for its first start.
    let kept = guests.all.get(key).and_then(|guest| guest.etcd_data());
    if let Some((cluster, member)) = kept {
        let of = |kube: &Kube| kube.etcd.as_ref().is_some_and(|etcd| etcd.cluster == cluster);
        let found = guests.kubes.iter().find(|(_, kube)| of(kube));
        let (id, uid) = found.map(|(id, kube)| (id.clone(), kube.uid.clone()))?;
        guests.keep_data(key, cluster, member);
        guests.note(key, What::Overwritten { uid });
        return Some(id);
    }
    let ca = guests.stacked_authority(key).ok()?;
    let etcd = guests.begin_stacked(key, node, ca)?;
    let kube = Kube { created: unix, uid: uuid(), etcd: Some(etcd), ..Kube::default() };
    guests.note(key, What::Cluster { uid: kube.uid.clone() });
    // Not the machine's key: another machine may have the same one later.
    let id = format!("stacked-{}", kube.uid);
    guests.kubes.insert(id.clone(), kube);
    Some(id)
}
