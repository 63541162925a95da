use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::*;
use crate::cluster::fixture::k8s1;
use crate::kubeadm::fake::{Files, Host};
use crate::ssh::fake::Reply;

type Keys = Arc<Mutex<BTreeMap<String, String>>>;

fn plain(value: &Value) -> String {
    String::from_utf8(STANDARD.decode(value.as_str().unwrap()).unwrap()).unwrap()
}

/// An etcd behind `curl`.
fn etcd(keys: Keys) -> impl Fn(&[&str], &Files) -> Option<Reply> + Send + Sync + 'static {
    move |words, _| {
        let (["curl", .., url], mut keys) = (words, keys.lock().unwrap()) else { return None };
        assert!(words.windows(2).any(|pair| pair == ["--cert", path::ETCD_CERT]));
        let body: Value = words
            .windows(2)
            .find(|pair| pair[0] == "-d")
            .map_or(Value::Null, |pair| serde_json::from_str(pair[1]).unwrap());
        let answer = match url.splitn(4, '/').nth(3).unwrap() {
            "health" => json!({"health": "true", "reason": ""}),
            "version" => json!({"etcdserver": "3.6.8", "etcdcluster": "3.6.0"}),
            "v3/kv/put" => {
                keys.insert(plain(&body["key"]), plain(&body["value"]));
                json!({"header": {}})
            }
            verb => {
                let from = plain(&body["key"]);
                let to = body.get("range_end").map_or_else(|| format!("{from}\0"), plain);
                let found: Vec<String> = keys.range(from..to).map(|(key, _)| key.clone()).collect();
                if verb == "v3/kv/deleterange" {
                    found.iter().for_each(|key| drop(keys.remove(key)));
                }
                let kvs: Vec<Value> = found
                    .iter()
                    .map(|key| {
                        let value = keys.get(key).cloned().unwrap_or_default();
                        json!({"key": STANDARD.encode(key), "value": STANDARD.encode(value)})
                    })
                    .collect();
                if kvs.is_empty() { json!({"header": {}}) } else { json!({"kvs": kvs}) }
            }
        };
        Some(Reply::out(answer.to_string()))
    }
}

fn owner(creation: &str) -> Owner {
    Owner { cluster: "k8s1-cluster".into(), creation: creation.into() }
}

#[tokio::test]
async fn an_empty_etcd_is_marked_once_and_given_back_clean() {
    let keys = Keys::default();
    let host = Host::start(etcd(Arc::clone(&keys))).await;
    let (first, cluster) = (host.remote("m1"), k8s1());
    assert!(claim(&first, &cluster, &owner("a"), super::Keys::Refused).await.unwrap());
    assert!(!claim(&first, &cluster, &owner("a"), super::Keys::Refused).await.unwrap());
    keys.lock().unwrap().insert("/registry/nodes/x".into(), "1".into());
    keys.lock().unwrap().insert("/others".into(), "2".into());
    let own = claim(&first, &cluster, &owner("a"), super::Keys::Refused).await.unwrap_err();
    assert!(own.to_string().contains("this very cluster"), "{own}");
    assert!(
        !claim(&first, &cluster, &owner("a"), super::Keys::Resumed).await.unwrap(),
        "our own init"
    );
    assert!(!remove_ours(&first, &cluster, &owner("b")).await.unwrap(), "not that creation's");
    assert_eq!(keys.lock().unwrap().len(), 3);
    assert!(remove_ours(&first, &cluster, &owner("a")).await.unwrap());
    assert_eq!(keys.lock().unwrap().keys().collect::<Vec<_>>(), ["/others"]);
}

#[tokio::test]
async fn anothers_data_is_refused_unless_its_deletion_is_asked_for() {
    let keys = Keys::default();
    keys.lock().unwrap().insert("/registry/nodes/old".into(), "1".into());
    let host = Host::start(etcd(Arc::clone(&keys))).await;
    let (first, cluster) = (host.remote("m1"), k8s1());
    let error = claim(&first, &cluster, &owner("a"), super::Keys::Refused).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the external etcd holds data of a Kubernetes cluster that k8sha did not create"
    );
    assert!(error.hint().unwrap().contains("--wipe-etcd"));
    assert_eq!(keys.lock().unwrap().len(), 1, "nothing was written");
    assert!(claim(&first, &cluster, &owner("a"), super::Keys::Wiped { of: None }).await.unwrap());
    assert_eq!(keys.lock().unwrap().keys().collect::<Vec<_>>(), [OWNER]);
    let error = claim(&first, &cluster, &owner("b"), super::Keys::Refused).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the external etcd holds data of the cluster `k8s1-cluster` (creation a)"
    );
}

#[tokio::test]
async fn data_that_is_marked_as_another_clusters_goes_only_where_that_cluster_is_named() {
    let keys = Keys::default();
    let mark = r#"{"cluster":"prod","creation":"p"}"#;
    keys.lock().unwrap().insert(OWNER.into(), mark.into());
    keys.lock().unwrap().insert("/registry/nodes/theirs".into(), "1".into());
    let host = Host::start(etcd(Arc::clone(&keys))).await;
    let (first, cluster) = (host.remote("m1"), k8s1());
    for typed in [None, Some("k8s1-cluster"), Some("prod-eu")] {
        let wiped = super::Keys::Wiped { of: typed.map(str::to_owned) };
        let error = claim(&first, &cluster, &owner("a"), wiped).await.unwrap_err();
        assert!(error.to_string().contains("the cluster `prod` (creation p)"), "{error}");
        assert!(error.hint().unwrap().contains("`--wipe-etcd=prod`"), "{:?}", error.hint());
        assert_eq!(keys.lock().unwrap().len(), 2, "nothing was written");
        assert_eq!(keys.lock().unwrap()[OWNER], mark);
    }
    let wiped = super::Keys::Wiped { of: Some("prod".to_owned()) };
    assert!(claim(&first, &cluster, &owner("a"), wiped).await.unwrap());
    assert_eq!(keys.lock().unwrap().keys().collect::<Vec<_>>(), [OWNER]);
}

type Asked = Arc<Mutex<Vec<String>>>;
/// How `curl` exits, and its output.
type Said = (u32, &'static str);

const REFUSED: Said = (7, "curl: (7) Failed to connect: Connection refused\n");
const SILENT: Said = (28, "curl: (28) Connection timed out after 5001 milliseconds\n");
const NO_LEADER: Said = (0, r#"{"error":"etcdserver: no leader","code":14}"#);
const THREE: &[(&str, Said)] = &[("101", REFUSED), ("102", SILENT), ("103", NO_LEADER)];
const DENIED: Said = (0, r#"{"code":7,"message":"etcdserver: permission denied","details":[]}"#);

/// An etcd whose first members are unhealthy, and the members that were queried, by the ends of
/// their addresses.
fn sick(
    keys: Keys,
    first: &'static [(&'static str, Said)],
) -> (Asked, impl Fn(&[&str], &Files) -> Option<Reply> + Send + Sync + 'static) {
    let (asked, healthy) = (Asked::default(), etcd(keys));
    let note = Arc::clone(&asked);
    let script = move |words: &[&str], files: &Files| {
        let (["curl", .., url], start) = (words, "https://10.103.1.") else { return None };
        let last = url.strip_prefix(start).unwrap().split(':').next().unwrap().to_owned();
        let answer = first.iter().find(|(member, _)| *member == last);
        note.lock().unwrap().push(last);
        match answer {
            Some((_, (0, text))) => Some(Reply::out(*text)),
            Some((_, (code, text))) => Some(Reply::code(*code, *text)),
            None => healthy(words, files),
        }
    };
    (asked, script)
}

#[tokio::test]
async fn a_member_that_is_dead_or_has_no_leader_is_passed_over() {
    let keys = Keys::default();
    let (asked, script) = sick(Arc::clone(&keys), THREE);
    let host = Host::start(script).await;
    let (first, cluster) = (host.remote("m1"), k8s1());
    assert!(claim(&first, &cluster, &owner("a"), super::Keys::Refused).await.unwrap());
    // The member that has answered is queried again: a member that hangs costs its five seconds
    // once.
    assert_eq!(*asked.lock().unwrap(), ["101", "102", "103", "201", "201", "201"]);
    keys.lock().unwrap().insert("/registry/nodes/x".into(), "1".into());
    assert!(is_ours(&first, &cluster, &owner("a")).await.unwrap());
    assert!(!is_ours(&first, &cluster, &owner("b")).await.unwrap());
    assert!(remove_ours(&first, &cluster, &owner("a")).await.unwrap());
    assert!(keys.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_request_that_etcd_refuses_is_brought_before_no_other_member() {
    let (asked, script) = sick(Keys::default(), &[("101", REFUSED), ("102", DENIED)]);
    let host = Host::start(script).await;
    let error = remove_ours(&host.remote("m1"), &k8s1(), &owner("a")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "etcd at https://10.103.1.102:2379, asked from `m1`: it refuses: etcdserver: permission denied"
    );
    assert_eq!(*asked.lock().unwrap(), ["101", "102"]);
}

#[tokio::test]
async fn members_that_all_fail_are_each_named() {
    let (_, script) = sick(Keys::default(), THREE);
    let host = Host::start(script).await;
    let mut cluster = k8s1();
    if let crate::cluster::Etcd::External { endpoints, .. } = &mut cluster.etcd {
        endpoints.truncate(3);
    }
    let error = is_ours(&host.remote("m1"), &cluster, &owner("a")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "3 of 3 etcd members cannot be used from `m1`:\n\
         \x20 https://10.103.1.101:2379: no process listens (curl: (7) Failed to connect: Connection \
         refused)\n\
         \x20 https://10.103.1.102:2379: no answer (curl: (28) Connection timed out after 5001 \
         milliseconds)\n\
         \x20 https://10.103.1.103:2379: it is not healthy: etcdserver: no leader"
    );
    assert!(error.hint().is_some());
}

#[tokio::test]
async fn every_sick_member_is_named_with_its_own_cause() {
    let healthy = etcd(Keys::default());
    let host = Host::start(move |words, files| match words {
        ["curl", .., url] if url.starts_with("https://10.103.1.102:") => Some(Reply::code(
            7,
            "curl: (7) Failed to connect to 10.103.1.102 port 2379: Connection refused\n",
        )),
        ["curl", .., url] if url.starts_with("https://10.103.1.201:") => Some(Reply::code(
            60,
            "curl: (60) SSL certificate problem: unable to get local issuer certificate\n",
        )),
        ["curl", .., "https://10.103.1.203:2379/health"] => {
            Some(Reply::out(r#"{"health":"false","reason":"RAFT NO LEADER"}"#))
        }
        words => healthy(words, files),
    })
    .await;
    let error = prove(&host.remote("m1"), &k8s1()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "3 of 6 etcd members cannot be used from `m1`:\n\
         \x20 https://10.103.1.102:2379: no process listens (curl: (7) Failed to connect to \
         10.103.1.102 port 2379: Connection refused)\n\
         \x20 https://10.103.1.201:2379: its certificate is not signed by the CA of `etcd-ca.crt` \
         (curl: (60) SSL certificate problem: unable to get local issuer certificate)\n\
         \x20 https://10.103.1.203:2379: it is not healthy: RAFT NO LEADER"
    );
}

#[test]
fn what_curl_met_is_told_apart() {
    let kind = |code, text: &str| {
        let text = format!("{:?}", Trouble::of_curl(code, text));
        text.split('(').next().unwrap().to_owned()
    };
    for (code, text, want) in [
        (28, "curl: (28) Connection timed out after 5001 milliseconds", "Silent"),
        (60, "curl: (60) SSL certificate problem: certificate has expired", "Expired"),
        (
            56,
            "curl: (56) OpenSSL SSL_read: error:0A000412:SSL routines::sslv3 alert bad certificate, errno 0",
            "ClientRefused",
        ),
        (
            35,
            "curl: (35) error:14094415:SSL routines:ssl3_read_bytes:sslv3 alert certificate expired",
            "ClientRefused",
        ),
        (58, "curl: (58) unable to set private key file", "BadFiles"),
        (56, "curl: (56) Recv failure: Connection reset by peer", "Other"),
    ] {
        assert_eq!(kind(code, text), want, "{text}");
    }
}

#[tokio::test]
async fn the_operators_files_are_copied_only_where_they_differ() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, holds: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("-----BEGIN {holds}-----\nx\n-----END {holds}-----\n"))
            .unwrap();
        path
    };
    let ca = file("etcd-ca.crt", "CERTIFICATE");
    let cert = file("apiserver-etcd-client.crt", "CERTIFICATE");
    let key = file("apiserver-etcd-client.key", "EC PRIVATE KEY");
    let client = Client::Files([ca.clone(), cert.clone(), key]);
    let host = Host::start(|_, _| None).await;
    let first = host.remote("m1");
    assert!(!is_outdated(&first, &client).await.unwrap(), "it has no file yet");
    assert!(copy(&first, &client).await.unwrap());
    assert!(host.text(path::ETCD_KEY).unwrap().contains("EC PRIVATE KEY"));
    assert!(!copy(&first, &client).await.unwrap());
    assert!(!is_outdated(&first, &client).await.unwrap());
    host.put(path::ETCD_CERT, "old");
    assert!(is_outdated(&first, &client).await.unwrap());
    assert!(copy(&first, &client).await.unwrap());
    let error = copy(&first, &Client::Files([ca.clone(), cert, ca])).await.unwrap_err();
    assert!(error.to_string().ends_with("etcd-ca.crt` holds no PEM PRIVATE KEY"), "{error}");
}
