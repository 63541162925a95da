//! etcd's JSON gateway as `curl` uses it: keys, health, the state of a member.
//!
//! Source: etcd's api/etcdserverpb/rpc.proto and server/etcdserver/api/v3rpc.

use std::net::SocketAddrV4;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::super::etcd::{self, Base, Etcd, Member};
use super::super::{Guests, kube};
use super::curl::Request;
use super::members;

/// The member that was queried, and its cluster.
pub(super) struct Asked<'a> {
    pub guests: &'a Guests,
    pub base: &'a Base,
    pub etcd: &'a Etcd,
    pub member: Option<&'a Member>,
}

impl<'a> Asked<'a> {
    pub fn of(guests: &'a Guests, base: &'a Base, to: Option<SocketAddrV4>) -> Option<Self> {
        let etcd = guests.etcd_of(base)?;
        let member = etcd.members.iter().find(|member| {
            let peer = member.peer.zip(to).is_some_and(|(peer, to)| peer.ip() == to.ip());
            peer || member.client == to
        });
        Some(Self { guests, base, etcd, member })
    }

    pub fn header(&self) -> Value {
        // The site's etcd has no cluster id of its own.
        let cluster = if self.etcd.cluster == 0 { 14841639068965178418 } else { self.etcd.cluster };
        let member = self.member.map_or(10276657743932975437, |member| member.id);
        json!({"cluster_id": cluster.to_string(), "member_id": member.to_string(),
            "revision": self.etcd.revision.to_string(), "raft_term": "3"})
    }

    /// `/v3/maintenance/status`, which a member answers even without a quorum.
    fn status(&self) -> Value {
        let voters = self.etcd.members.iter().filter(|member| !member.learner);
        let mut up = voters.filter(|member| self.guests.member_up(self.base, member));
        let leader = up.next().filter(|_| self.guests.quorum(self.base));
        let index = (self.etcd.revision * 3).to_string();
        let mut answer = json!({"header": self.header(), "version": etcd::VERSION,
            "dbSize": "5431296", "dbSizeInUse": "2564096", "raftIndex": index,
            "raftAppliedIndex": index, "raftTerm": "3", "dbSizeQuota": "2147483648"});
        match leader {
            Some(leader) => answer["leader"] = leader.id.to_string().into(),
            None => answer["errors"] = json!(["etcdserver: no leader"]),
        }
        if self.is_learner() {
            answer["isLearner"] = true.into();
        }
        answer
    }

    /// Whether the member is a learner: it serves almost nothing.
    pub fn is_learner(&self) -> bool {
        self.member.is_some_and(|member| member.learner)
    }
}

fn unpack(value: &Value) -> Vec<u8> {
    value.as_str().and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default()
}

/// The gateway's answer to a read, and to a refused request; `None` for a write.
pub fn look(
    guests: &Guests,
    base: &Base,
    to: Option<SocketAddrV4>,
    request: &Request<'_>,
) -> Option<String> {
    let asked = Asked::of(guests, base, to)?;
    let quorum = guests.quorum(base);
    match request.path {
        "/health" if quorum => return Some("{\"health\":\"true\",\"reason\":\"\"}".to_owned()),
        "/health" => {
            return Some("{\"health\":\"false\",\"reason\":\"RAFT NO LEADER\"}".to_owned());
        }
        "/version" => {
            let series: Vec<&str> = etcd::VERSION.split('.').take(2).collect();
            let version = json!({"etcdserver": etcd::VERSION, "etcdcluster": format!("{}.0", series.join("."))});
            return Some(version.to_string());
        }
        "/v3/maintenance/status" => return Some(asked.status().to_string()),
        _ if asked.is_learner() && request.path.starts_with("/v3/") => {
            return Some(members::refused(14, "rpc not supported for learner"));
        }
        "/v3/kv/range" | "/v3/kv/put" | "/v3/kv/deleterange" => {}
        path if path.starts_with(members::PATH) => return members::look(&asked, path),
        _ => return Some("404 page not found\n".to_owned()),
    }
    let Ok(body) = serde_json::from_str::<Value>(request.data.unwrap_or_default()) else {
        return Some("{\"code\":3,\"message\":\"invalid character\",\"details\":[]}".to_owned());
    };
    if !quorum {
        return Some(members::refused(14, "no leader"));
    }
    let key = unpack(&body["key"]);
    if key.is_empty() {
        return Some(members::refused(3, "key is not provided"));
    }
    (request.path == "/v3/kv/range").then(|| range(&asked, &key, &body))
}

fn range(asked: &Asked<'_>, key: &[u8], body: &Value) -> String {
    let keys = asked.etcd.range(key, &unpack(&body["range_end"]));
    let number = |value: &Value| {
        value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok())).unwrap_or(0)
    };
    let limit = match number(&body["limit"]) as usize {
        0 => keys.len(),
        limit => limit,
    };
    let mut answer = json!({"header": asked.header()});
    // proto3's JSON omits zero values.
    if !keys.is_empty() {
        answer["count"] = keys.len().to_string().into();
    }
    if body["count_only"].as_bool() != Some(true) && !keys.is_empty() {
        let shown = keys.iter().take(limit).filter_map(|name| {
            let entry = asked.etcd.kv.get(name)?;
            let mut value = json!({
                "key": STANDARD.encode(name), "create_revision": entry.created.to_string(),
                "mod_revision": entry.modified.to_string(), "version": entry.version.to_string(),
            });
            if body["keys_only"].as_bool() != Some(true) {
                value["value"] = entry.value.clone().into();
            }
            Some(value)
        });
        answer["kvs"] = shown.collect();
        if keys.len() > limit {
            answer["more"] = true.into();
        }
    }
    answer.to_string()
}

/// A write that [`look`] has allowed.
pub fn change(
    guests: &mut Guests,
    base: &Base,
    to: SocketAddrV4,
    path: &str,
    body: &Value,
    caller: &str,
) -> String {
    if path.starts_with(members::PATH) {
        return members::change(guests, base, to, path, body, caller);
    }
    let Some(etcd) = guests.etcd_of_mut(base) else { return members::refused(14, "no leader") };
    let key = unpack(&body["key"]);
    let mut deleted = 0;
    if path == "/v3/kv/put" {
        let value = body["value"].as_str().unwrap_or_default().to_owned();
        etcd.put(&String::from_utf8_lossy(&key), value);
    } else {
        deleted = etcd.delete(&key, &unpack(&body["range_end"]));
    }
    if *base == Base::Site && !etcd.holds_kubernetes() {
        // Without its keys the cluster is gone; API servers that still run serve nothing.
        guests.kubes.remove(kube::EXTERNAL);
    }
    let asked = Asked::of(guests, base, Some(to));
    let mut answer = json!({"header": asked.map(|asked| asked.header())});
    if deleted > 0 {
        answer["deleted"] = deleted.to_string().into();
    }
    answer.to_string()
}
