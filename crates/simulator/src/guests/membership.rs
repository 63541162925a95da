//! Changes of an etcd's membership, with etcd's refusals.
//!
//! Source of rules and words: etcd's server/etcdserver/server.go (`mayAddMember`,
//! `mayRemoveMember`, `mayPromote`), server/etcdserver/api/membership/cluster.go and
//! api/v3rpc/rpctypes/error.go.

use std::net::SocketAddrV4;

use super::Guests;
use super::etcd::{Base, Member};
use super::history::What;

/// A refusal: the gRPC code and etcd's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(pub u32, pub &'static str);

impl Refusal {
    /// As a client prints it.
    pub fn text(&self) -> String {
        format!("etcdserver: {}", self.1)
    }
}

const NO_LEADER: Refusal = Refusal(14, "no leader");
const UNHEALTHY: Refusal = Refusal(14, "unhealthy cluster");

impl Guests {
    /// Adds a member, as a voter or as a learner.
    ///
    /// # Errors
    /// etcd's refusal.
    pub(crate) fn add_member(
        &mut self,
        base: &Base,
        peer: SocketAddrV4,
        learner: bool,
    ) -> Result<Member, Refusal> {
        if !self.quorum(base) {
            return Err(NO_LEADER);
        }
        let down = self.etcd_of(base).is_some_and(|etcd| {
            let mut voters = etcd.members.iter().filter(|member| !member.learner);
            voters.any(|member| !self.member_up(base, member))
        });
        let Some(etcd) = self.etcd_of_mut(base) else { return Err(NO_LEADER) };
        if etcd.members.iter().any(|known| known.peer == Some(peer)) {
            return Err(Refusal(9, "Peer URLs already exists"));
        }
        if down {
            return Err(UNHEALTHY);
        }
        if learner && etcd.members.iter().any(|known| known.learner) {
            return Err(Refusal(9, "too many learner members in cluster"));
        }
        let id = rand::random();
        let made = Member { id, name: String::new(), peer: Some(peer), client: None, learner };
        etcd.members.push(made.clone());
        Ok(made)
    }

    /// Removes a member. `caller`: the machine that sent the request, for the record.
    ///
    /// # Errors
    /// etcd's refusal.
    pub(crate) fn remove_member(
        &mut self,
        base: &Base,
        id: u64,
        caller: &str,
    ) -> Result<(), Refusal> {
        if !self.quorum(base) {
            return Err(NO_LEADER);
        }
        let Some(etcd) = self.etcd_of(base) else { return Err(NO_LEADER) };
        let Some(gone) = etcd.members.iter().find(|known| known.id == id).cloned() else {
            return Err(Refusal(5, "member not found"));
        };
        let up = self.member_up(base, &gone);
        if !gone.learner {
            let rest: Vec<&Member> =
                etcd.members.iter().filter(|known| known.id != id && !known.learner).collect();
            let started = rest.iter().filter(|known| known.client.is_some()).count();
            if started < rest.len() / 2 + 1 {
                let words = "re-configuration failed due to not enough started members";
                return Err(Refusal(9, words));
            }
            // A member that is down does not count towards the quorum; a running one may be needed for
            // it.
            let active = rest.iter().filter(|known| self.member_up(base, known)).count();
            if up && active < 1 + rest.len() / 2 {
                return Err(UNHEALTHY);
            }
        }
        if let Some(etcd) = self.etcd_of_mut(base) {
            etcd.members.retain(|known| known.id != id);
        }
        let peer = gone.peer.map(|peer| peer.to_string()).unwrap_or_default();
        self.note(caller, What::MemberRemoved { peer, up });
        Ok(())
    }

    /// Promotes a learner to a voter.
    ///
    /// # Errors
    /// etcd's refusal.
    pub(crate) fn promote_member(&mut self, base: &Base, id: u64) -> Result<(), Refusal> {
        if !self.quorum(base) {
            return Err(NO_LEADER);
        }
        let known = self.etcd_of(base).and_then(|etcd| etcd.members.iter().find(|m| m.id == id));
        match known {
            None => return Err(Refusal(5, "member not found")),
            Some(member) if !member.learner => {
                return Err(Refusal(9, "can only promote a learner member"));
            }
            Some(member) if !self.member_up(base, member) => {
                return Err(Refusal(
                    9,
                    "can only promote a learner member which is in sync with leader",
                ));
            }
            Some(_) => {}
        }
        if let Some(etcd) = self.etcd_of_mut(base) {
            etcd.members.iter_mut().filter(|m| m.id == id).for_each(|m| m.learner = false);
        }
        Ok(())
    }
}
