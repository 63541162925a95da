use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::*;
use crate::cluster::NodeName;
use crate::kubeadm::etcd::member::{DATA, INITIAL};
use crate::kubeadm::fake::Host;
use crate::pki::{Authority, Pair};
use crate::ssh::fake::Reply;

/// An etcd as its members' machines report it.
#[derive(Default)]
struct Etcd {
    /// By peer address: name and client address, each empty until it is known.
    members: BTreeMap<String, (String, String)>,
    /// Machines that run.
    up: BTreeSet<usize>,
    /// Machines whose unit does not come up.
    broken: BTreeSet<usize>,
    /// How often `add` is refused before it succeeds.
    not_yet: usize,
    /// What changed the membership, in order.
    changes: Vec<String>,
}

type Shared = Arc<Mutex<Etcd>>;

fn peer(index: usize) -> String {
    format!("https://10.103.1.{}:2380", 101 + index)
}

fn client(index: usize) -> String {
    format!("https://10.103.1.{}:2379", 101 + index)
}

impl Etcd {
    fn quorum(&self) -> bool {
        self.up.len() * 2 > self.members.len()
    }

    fn list(&self) -> Vec<Value> {
        let one = |(peer, (name, client)): (&String, &(String, String))| {
            let mut value = json!({"ID": peer.clone(), "peerURLs": [peer]});
            if !name.is_empty() {
                value["name"] = name.clone().into();
            }
            if !client.is_empty() {
                value["clientURLs"] = json!([client]);
            }
            value
        };
        self.members.iter().map(one).collect()
    }

    /// Derives a started member's state from its environment.
    fn start(&mut self, index: usize, initial: Option<&str>, data: bool) -> bool {
        if self.broken.contains(&index) {
            return false;
        }
        let own = peer(index);
        if !data {
            let text = initial.unwrap();
            let line = text.lines().next().unwrap().strip_prefix("ETCD_INITIAL_CLUSTER=").unwrap();
            let pairs: Vec<(&str, &str)> =
                line.split(',').map(|pair| pair.split_once('=').unwrap()).collect();
            if text.contains("STATE=new") {
                assert!(self.members.get(&own).is_none_or(|(_, client)| client.is_empty()));
                for (name, peer) in pairs {
                    let known = self.members.entry(peer.to_owned()).or_default();
                    name.clone_into(&mut known.0);
                }
            } else {
                let given: BTreeSet<&str> = pairs.iter().map(|(_, peer)| *peer).collect();
                assert_eq!(given, self.members.keys().map(String::as_str).collect());
            }
        }
        self.up.insert(index);
        if self.quorum() {
            for index in self.up.clone() {
                self.members.insert(peer(index), (format!("e{}", index + 1), client(index)));
            }
        }
        true
    }
}

fn answer(etcd: &mut Etcd, url: &str, body: Option<&str>) -> Value {
    let body: Value = body.map_or(Value::Null, |body| serde_json::from_str(body).unwrap());
    match url.splitn(4, '/').nth(3).unwrap() {
        "version" => json!({"etcdserver": "3.5.33"}),
        "health" if etcd.quorum() => json!({"health": "true"}),
        "health" => json!({"health": "false", "reason": "RAFT NO LEADER"}),
        "v3/cluster/member/list" => json!({"members": etcd.list()}),
        "v3/cluster/member/remove" => {
            let id = body["ID"].as_str().unwrap();
            etcd.members.remove(id).unwrap();
            etcd.changes.push(format!("remove {id}"));
            json!({"members": etcd.list()})
        }
        "v3/cluster/member/add" if etcd.not_yet > 0 => {
            etcd.not_yet -= 1;
            json!({"code": 14, "message": "etcdserver: unhealthy cluster"})
        }
        "v3/cluster/member/add" => {
            let peer = body["peerURLs"][0].as_str().unwrap().to_owned();
            etcd.changes.push(format!("add {peer}"));
            etcd.members.insert(peer, Default::default());
            json!({"members": etcd.list()})
        }
        other => panic!("{other}"),
    }
}

/// Machines of an etcd, none of which has data.
async fn machines(count: usize) -> (Vec<Host>, Vec<Machine>, Shared) {
    let etcd = Shared::default();
    let (mut hosts, mut machines) = (Vec::new(), Vec::new());
    let authority = Authority::new("etcd-ca", 1_795_000_000).unwrap();
    for index in 0..count {
        let shared = Arc::clone(&etcd);
        let host = Host::start(move |words, files| {
            let mut etcd = shared.lock().unwrap();
            match words {
                ["systemctl", "is-active", "etcd"] => Some(match etcd.up.contains(&index) {
                    true => Reply::out("active\n"),
                    false => Reply::Done(3, b"inactive\n".to_vec(), String::new()),
                }),
                ["systemctl", "reset-failed", "etcd"] => Some(Reply::out("")),
                ["systemctl", "start", "--no-block", "etcd"] => {
                    let mut files = files.lock().unwrap();
                    let text = |path: &str| {
                        files.get(path).map(|body| String::from_utf8(body.clone()).unwrap())
                    };
                    if etcd.start(index, text(INITIAL).as_deref(), files.contains_key(DATA)) {
                        files.insert(DATA.to_owned(), Vec::new());
                    }
                    Some(Reply::out(""))
                }
                ["curl", .., url] if etcd.up.contains(&index) => {
                    assert!(url.starts_with(&client(index)), "{url}");
                    let data = words.iter().position(|word| *word == "-d").map(|at| words[at + 1]);
                    Some(Reply::out(answer(&mut etcd, url, data).to_string()))
                }
                ["curl", ..] => Some(Reply::code(7, "curl: (7) Connection refused\n")),
                ["journalctl", "-u", "etcd", ..] => Some(Reply::out("panic: no space left\n")),
                _ => None,
            }
        })
        .await;
        let name = format!("e{}", index + 1);
        machines.push(Machine {
            remote: host.remote(&name),
            name: NodeName(name),
            ip: [10, 103, 1, 101 + u8::try_from(index).unwrap()].into(),
            ca: authority.pair().cert.clone(),
            server: pair(),
            peer: pair(),
        });
        hosts.push(host);
    }
    for machine in &machines {
        assert!(machine.plant().await.unwrap());
        assert!(!machine.plant().await.unwrap(), "what is there is left alone");
    }
    (hosts, machines, etcd)
}

fn pair() -> Pair {
    Pair { cert: "certificate".into(), key: "key".into() }
}

/// A machine that was recreated: its data is gone.
fn lose(hosts: &[Host], machines: &[Machine], etcd: &Shared, index: usize) {
    hosts[index].files.lock().unwrap().clear();
    etcd.lock().unwrap().up.remove(&index);
    assert_eq!(machines[index].name.as_str(), format!("e{}", index + 1));
}

fn clock() -> Clock {
    Clock::simulated(100.0).hurried(100.0)
}

async fn form(machines: &[Machine], formed: bool) -> Result<bool, Error> {
    for machine in machines {
        machine.plant().await.unwrap();
    }
    run(machines, "k8s1-a", formed, clock()).await
}

#[tokio::test]
async fn bare_machines_become_one_cluster_and_a_second_look_changes_nothing() {
    let (hosts, machines, etcd) = machines(3).await;
    assert!(form(&machines, false).await.unwrap());
    let text = hosts[1].text(INITIAL).unwrap();
    assert_eq!(
        text,
        "ETCD_INITIAL_CLUSTER=e1=https://10.103.1.101:2380,e2=https://10.103.1.102:2380,\
         e3=https://10.103.1.103:2380\nETCD_INITIAL_CLUSTER_STATE=new\n\
         ETCD_INITIAL_CLUSTER_TOKEN=k8s1-a\n"
    );
    assert!(!form(&machines, true).await.unwrap());
    for machine in &machines {
        let seen = machine.look().await.unwrap();
        assert!(seen.planted && seen.data && seen.healthy, "{seen:?}");
    }
    assert!(etcd.lock().unwrap().changes.is_empty());
}

#[tokio::test]
async fn a_forming_that_was_cut_off_goes_on_wherever_it_was() {
    for started in 1..5 {
        let (_hosts, machines, etcd) = machines(5).await;
        for machine in &machines[..started] {
            machine.begin(&first(&machines, "k8s1-a")).await.unwrap();
        }
        assert!(form(&machines, false).await.unwrap(), "{started}");
        let etcd = etcd.lock().unwrap();
        assert_eq!((etcd.up.len(), etcd.members.len()), (5, 5), "{started}");
        assert!(etcd.changes.is_empty(), "{started}: {:?}", etcd.changes);
    }
}

#[tokio::test]
async fn a_lost_member_is_removed_and_added_and_the_living_are_not_touched() {
    let (hosts, machines, etcd) = machines(3).await;
    form(&machines, false).await.unwrap();
    lose(&hosts, &machines, &etcd, 1);
    etcd.lock().unwrap().not_yet = 3;
    let before: Vec<usize> = hosts.iter().map(|host| host.fake.lines().len()).collect();
    assert!(form(&machines, true).await.unwrap());
    let changes = ["remove https://10.103.1.102:2380", "add https://10.103.1.102:2380"];
    assert_eq!(etcd.lock().unwrap().changes, changes);
    assert!(hosts[1].text(INITIAL).unwrap().contains("STATE=existing"));
    for index in [0, 2] {
        for line in &hosts[index].fake.lines()[before[index]..] {
            let touches = ["install", "systemctl start", "systemctl stop", "rm "];
            assert!(!touches.iter().any(|words| line.contains(words)), "{line}");
        }
    }
}

#[tokio::test]
async fn a_member_that_was_removed_or_added_before_a_kill_is_not_added_twice() {
    for added in [false, true] {
        let (hosts, machines, etcd) = machines(3).await;
        form(&machines, false).await.unwrap();
        lose(&hosts, &machines, &etcd, 2);
        machines[0].remove(&peer(2)).await.unwrap();
        if added {
            machines[0].add(&peer(2)).await.unwrap();
        }
        assert!(form(&machines, true).await.unwrap());
        let changes = ["remove https://10.103.1.103:2380", "add https://10.103.1.103:2380"];
        assert_eq!(etcd.lock().unwrap().changes, changes, "{added}");
        assert_eq!(etcd.lock().unwrap().up.len(), 3);
    }
}

#[tokio::test]
async fn two_of_five_come_back_one_after_the_other_and_both_dead_go_first() {
    let (hosts, machines, etcd) = machines(5).await;
    form(&machines, false).await.unwrap();
    lose(&hosts, &machines, &etcd, 0);
    lose(&hosts, &machines, &etcd, 3);
    assert!(form(&machines, true).await.unwrap());
    let changes: Vec<String> = [("remove", 0), ("remove", 3), ("add", 0), ("add", 3)]
        .map(|(verb, index)| format!("{verb} {}", peer(index)))
        .into();
    assert_eq!(etcd.lock().unwrap().changes, changes);
}

#[tokio::test]
async fn without_a_quorum_of_data_nothing_is_begun_anew() {
    let (hosts, machines, etcd) = machines(3).await;
    form(&machines, false).await.unwrap();
    lose(&hosts, &machines, &etcd, 0);
    lose(&hosts, &machines, &etcd, 1);
    let error = form(&machines, true).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "etcd has lost its quorum: 1 of 3 members can run (2 are needed), and e1, e2 stand there \
         without data"
    );
    assert!(error.hint().unwrap().contains("k8sha rebuild"));
    assert!(etcd.lock().unwrap().changes.is_empty());
    assert_eq!(hosts[0].text(INITIAL), None, "nothing was begun");
}

#[tokio::test]
async fn a_member_that_does_not_come_up_is_named_with_its_last_words() {
    let (_hosts, machines, etcd) = machines(3).await;
    etcd.lock().unwrap().broken.insert(2);
    let error = form(&machines, false).await.unwrap_err();
    let text = error.to_string();
    assert_eq!(text, "etcd on `e3` is inactive; the end of its journal:\npanic: no space left");
    // A member that stops is started again.
    etcd.lock().unwrap().broken.clear();
    assert!(form(&machines, false).await.unwrap());
    etcd.lock().unwrap().up.remove(&0);
    assert!(form(&machines, true).await.unwrap());
    assert_eq!(etcd.lock().unwrap().up.len(), 3);
}
