//! The membership calls of etcd's JSON gateway, as `curl` uses them.
//!
//! Source: etcd's api/etcdserverpb/rpc.proto and server/etcdserver/server.go.

use std::net::SocketAddrV4;

use serde_json::{Value, json};

use super::super::etcd::{Base, Member};
use super::super::membership::Refusal;
use super::super::{Guests, member};
use super::gateway::Asked;

/// The prefix of their paths.
pub const PATH: &str = "/v3/cluster/member/";

/// A refusal as the gateway prints it.
pub(super) fn refused(code: u32, words: &str) -> String {
    json!({"code": code, "message": format!("etcdserver: {words}"), "details": []}).to_string()
}

/// The answer to `list`, and to requests that are refused; `None` if the request can be carried out.
pub(super) fn look(asked: &Asked<'_>, path: &str) -> Option<String> {
    if !asked.guests.quorum(asked.base) {
        return Some(refused(14, "no leader"));
    }
    match path.strip_prefix(PATH) {
        Some("list") => {
            let members = all(&asked.etcd.members);
            Some(json!({"header": asked.header(), "members": members}).to_string())
        }
        Some("add" | "remove" | "promote") => None,
        _ => Some("404 page not found\n".to_owned()),
    }
}

fn all(members: &[Member]) -> Vec<Value> {
    members.iter().map(shown).collect()
}

/// proto3's JSON omits empty values.
fn shown(member: &Member) -> Value {
    let mut value = json!({"ID": member.id.to_string()});
    if !member.name.is_empty() {
        value["name"] = member.name.clone().into();
    }
    if let Some(peer) = member.peer {
        value["peerURLs"] = json!([format!("https://{peer}")]);
    }
    if let Some(client) = member.client {
        value["clientURLs"] = json!([format!("https://{client}")]);
    }
    if member.learner {
        value["isLearner"] = true.into();
    }
    value
}

/// `add`, `remove` and `promote` that [`look`] has allowed. `caller`: the machine that sends the
/// request.
pub(super) fn change(
    guests: &mut Guests,
    base: &Base,
    to: SocketAddrV4,
    path: &str,
    body: &Value,
    caller: &str,
) -> String {
    let id = body["ID"].as_str().and_then(|id| id.parse::<u64>().ok()).unwrap_or_default();
    let done = match path.strip_prefix(PATH) {
        Some("add") => match body["peerURLs"][0].as_str().and_then(member::address) {
            Some(peer) => {
                let learner = body["isLearner"].as_bool().unwrap_or(false);
                guests.add_member(base, peer, learner).map(Some)
            }
            None => Err(Refusal(3, "given member URLs are invalid")),
        },
        Some("promote") => guests.promote_member(base, id).map(|()| None),
        _ => guests.remove_member(base, id, caller).map(|()| None),
    };
    match done {
        Err(Refusal(code, words)) => refused(code, words),
        Ok(made) => {
            let Some(asked) = Asked::of(guests, base, Some(to)) else {
                return refused(14, "stopped");
            };
            let members = all(&asked.etcd.members);
            let mut answer = json!({"header": asked.header(), "members": members});
            if let Some(made) = made {
                answer["member"] = shown(&made);
            }
            answer.to_string()
        }
    }
}
