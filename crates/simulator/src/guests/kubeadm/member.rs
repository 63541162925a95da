//! The stacked etcd in `kubeadm join`: the check before, the member added as a learner, its vote
//! (cmd/kubeadm/app/phases/etcd/local.go and app/util/etcd/etcd.go).

use super::{Next, lines};
use crate::guests::etcd::Base;
use crate::guests::stacked::addresses;
use crate::guests::{Guests, pace};

const MANIFEST: &str = "error creating local etcd static pod manifest file";

fn base(guests: &Guests, key: &str) -> Option<Base> {
    let id = guests.all.get(key)?.disk.kube.clone()?;
    guests.kubes.get(&id)?.etcd.as_ref()?;
    Some(Base::Stacked(id))
}

/// Whether the check accepts a quorum as healthy. Other versions require an answer from every listed
/// member (kubernetes#138403 changed it in 1.36.3, 1.37 and 1.33.13; no release of the minors between
/// is known to have it).
fn quorum_suffices(version: &str) -> bool {
    let mut parts = version.trim_start_matches("v1.").split('.').map(|part| part.parse::<u32>());
    match (parts.next(), parts.next()) {
        (Some(Ok(37..)), _) => true,
        (Some(Ok(36)), Some(Ok(patch))) => patch >= 3,
        (Some(Ok(33)), Some(Ok(patch))) => patch >= 13,
        _ => false,
    }
}

/// The phase `check-etcd`.
///
/// # Errors
/// kubeadm's words.
pub fn check(guests: &Guests, key: &str) -> Result<(), String> {
    let Some(base) = base(guests, key) else { return Ok(()) };
    let installed = guests.all.get(key).and_then(|guest| guest.kube_version("kubeadm"));
    let suffices = quorum_suffices(&installed.unwrap_or_default());
    if !guests.quorum(&base) {
        return Err("error syncing endpoints with etcd: context deadline exceeded".to_owned());
    }
    // A member that has never started has no client URL to query.
    let members = guests.etcd_of(&base).into_iter().flat_map(|etcd| &etcd.members);
    let mut silent = members.filter(|m| m.client.is_some() && !guests.member_up(&base, m));
    match silent.next().and_then(|member| member.client).filter(|_| !suffices) {
        Some(client) => Err(format!(
            "etcd cluster is not healthy: failed to dial endpoint https://{client} with maintenance \
             client: context deadline exceeded"
        )),
        None => Ok(()),
    }
}

/// The phase `control-plane-join/etcd`: adds the member and starts its pod.
pub fn add(guests: &mut Guests, key: &str) -> Next {
    const PHASE: &str = "control-plane-join/etcd";
    let Some(base) = base(guests, key) else {
        let line = "[control-plane-join] Using external etcd - no local stacked instance added";
        return Next::Go(lines(line), pace::PHASE);
    };
    let Some(ip) = guests.all.get(key).and_then(|guest| guest.address()) else {
        return Next::fail(PHASE, "no address");
    };
    let (peer, _) = addresses(ip);
    let listed = guests.etcd_of(&base).into_iter().flat_map(|etcd| &etcd.members);
    let listed = listed.clone().find(|member| member.peer == Some(peer)).cloned();
    let (id, lost) = match listed {
        // Since 1.32 an existing entry is taken as the member's own.
        Some(known) if super::minor(guests, key) >= 32 => (known.id, known.client.is_some()),
        _ => match guests.add_member(&base, peer, true) {
            Ok(made) => (made.id, false),
            Err(refusal) => return Next::fail(PHASE, format!("{MANIFEST}: {}", refusal.text())),
        },
    };
    super::control_plane::manifests(guests, key, true);
    if lost {
        // A member that lost what it had acknowledged does not start (raft: "tocommit is out of range
        // [lastIndex(0)]. Was the raft log corrupted, truncated, or lost?").
        return Next::fail(
            PHASE,
            format!("{MANIFEST}: timeout waiting for etcd cluster to be available"),
        );
    }
    let cluster = guests.etcd_of(&base).map_or(0, |etcd| etcd.cluster);
    guests.keep_data(key, cluster, id);
    Next::Go(
        lines(
            "[etcd] Announced new etcd member joining to the existing etcd cluster\n\
         [etcd] Creating static Pod manifest for \"etcd\"\n\
         [etcd] Waiting for the new etcd member to join the cluster. This can take up to 40s",
        ),
        pace::ETCD_MEMBER,
    )
}

/// The learner gets its vote.
///
/// # Errors
/// kubeadm's words.
pub fn promote(guests: &mut Guests, key: &str) -> Result<(), String> {
    let Some(base) = base(guests, key) else { return Ok(()) };
    let own = guests.own_member(key).map(|(_, member)| (member.id, member.learner));
    match own {
        Some((id, true)) => guests
            .promote_member(&base, id)
            .map_err(|refusal| format!("{MANIFEST}: {}", refusal.text())),
        Some((_, false)) => Ok(()),
        None => Err(format!("{MANIFEST}: timeout waiting for etcd cluster to be available")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_before_a_join_is_strict_except_in_late_releases() {
        for strict in ["v1.28.4", "v1.32.13", "v1.33.12", "v1.34.4", "v1.35.4", "v1.36.2"] {
            assert!(!quorum_suffices(strict), "{strict}");
        }
        for late in ["v1.33.13", "v1.36.3", "v1.37.0"] {
            assert!(quorum_suffices(late), "{late}");
        }
    }
}
