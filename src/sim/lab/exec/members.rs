//! The membership calls of etcd's JSON gateway, as `curl` meets them.
//!
//! Source: etcd's api/etcdserverpb/rpc.proto and server/etcdserver/server.go.

use serde_json::{Value, json};

use super::super::etcd::Member;
use super::super::{Lab, member};
use super::curl::header;

/// Where they begin.
pub const PATH: &str = "/v3/cluster/member/";

fn refused(code: u32, words: &str) -> String {
    json!({"code": code, "message": format!("etcdserver: {words}"), "details": []}).to_string()
}

/// The answer to `list`, and to what cannot be done; `None` where it can.
pub fn look(lab: &Lab, path: &str) -> Option<String> {
    let etcd = lab.etcd.as_ref()?;
    if !lab.etcd_quorum() {
        return Some(refused(14, "no leader"));
    }
    match path.strip_prefix(PATH) {
        Some("list") => {
            let answer = json!({"header": header(etcd.revision), "members": all(&etcd.members)});
            Some(answer.to_string())
        }
        Some("add" | "remove") => None,
        _ => Some("404 page not found\n".to_owned()),
    }
}

fn all(members: &[Member]) -> Vec<Value> {
    members.iter().map(shown).collect()
}

/// proto3's JSON leaves out what is empty.
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
    value
}

/// `add` and `remove`, where [`look`] has let them through.
pub fn change(lab: &mut Lab, path: &str, body: &Value) -> String {
    let out_of_reach = lab.etcd.iter().flat_map(|etcd| &etcd.members).any(|member| {
        member.peer.is_some_and(|peer| lab.machine_up(*peer.ip(), member.id) != Some(true))
    });
    let Some(etcd) = &mut lab.etcd else { return refused(14, "no leader") };
    let revision = header(etcd.revision);
    if path.ends_with("add") {
        let Some(peer) = body["peerURLs"][0].as_str().and_then(member::address) else {
            return refused(3, "given member URLs are invalid");
        };
        if etcd.members.iter().any(|known| known.peer == Some(peer)) {
            return refused(9, "Peer URLs already exists");
        }
        if out_of_reach {
            return refused(14, "unhealthy cluster");
        }
        let id = rand::random();
        let made = Member { id, name: String::new(), peer: Some(peer), client: None };
        etcd.members.push(made.clone());
        let all = all(&etcd.members);
        return json!({"header": revision, "member": shown(&made), "members": all}).to_string();
    }
    let id = body["ID"].as_str().and_then(|id| id.parse::<u64>().ok()).unwrap_or_default();
    if !etcd.members.iter().any(|known| known.id == id) {
        return refused(5, "member not found");
    }
    etcd.members.retain(|known| known.id != id);
    json!({"header": revision, "members": all(&etcd.members)}).to_string()
}
