//! Checks that the walk's comparison detects differences.

use super::Walk;
use super::model::{self, Asked, Seen, blocked, differs, pool};

#[test]
fn the_walks_comparison_detects_differences() {
    let walk = Walk::start(0);
    let (asked, known) = (&walk.asked, &walk.known);
    assert_eq!(differs(asked, known, &walk.look()), model::Differs::new());
    for name in asked.settings.keys() {
        let mut other = asked.clone();
        other.settings.insert(name, "other".into());
        assert!(!differs(&other, known, &walk.look()).is_empty(), "{name}");
        assert!(!blocked(&other, known, &walk.look()).is_empty(), "{name}");
    }
    let edits: [fn(&mut Asked); 11] = [
        |asked| asked.pool = Some("k8s"),
        |asked| asked.user = "opsen".into(),
        |asked| drop(asked.rows.remove(3)),
        |asked| asked.rows.push(pool().remove(6)),
        |asked| asked.rows[3].role = "worker",
        |asked| asked.rows[3].ip = 61,
        |asked| asked.rows[3].ram = 6,
        |asked| asked.rows[3].vcpu = 3,
        |asked| asked.rows[3].disk = 24,
        |asked| asked.rows[3].pve = "pve1",
        |asked| asked.rows[3].vmid = 3061,
    ];
    for (number, edit) in edits.iter().enumerate() {
        let mut other = asked.clone();
        edit(&mut other);
        assert!(!differs(&other, known, &walk.look()).is_empty(), "{number}");
    }
    let losses: [fn(&mut Seen); 7] = [
        |seen| drop(seen.vms.remove(&3041)),
        |seen| seen.vms.get_mut(&3051).unwrap().running = None,
        |seen| {
            seen.cluster.as_mut().unwrap().nodes.remove("w1.home.arpa");
        },
        |seen| {
            seen.cluster.as_mut().unwrap().nodes.insert("w9.home.arpa".into(), true);
        },
        |seen| {
            seen.cluster.as_mut().unwrap().cordoned.insert("w1.home.arpa".into());
        },
        |seen| drop(seen.cluster.as_mut().unwrap().members.pop_first()),
        |seen| drop(seen.balancers.pop_first()),
    ];
    for (number, lose) in losses.iter().enumerate() {
        let mut seen = walk.look();
        lose(&mut seen);
        assert!(!differs(asked, known, &seen).is_empty(), "{number}");
    }
}
