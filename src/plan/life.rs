//! Determines whether a cluster exists on k8sha's machines. Pure.
//!
//! `kubeadm init` creates a CA. A second one beside an existing cluster destroys it, so the answer
//! "no cluster" requires proof from every source that could show otherwise. A machine that could
//! not be queried proves nothing.

use super::survey::{Answer, Machine, Survey};
use crate::cluster::{Cluster, NodeName};

/// Whether a cluster exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Life {
    /// None exists, and everything was queried.
    None,
    /// An own `kubeadm init` was started there and did not finish.
    Unfinished {
        /// The master.
        on: NodeName,
    },
    /// It exists.
    Living {
        /// A master that answered.
        via: NodeName,
    },
    /// Unknown until these have been started, reached or created.
    Pending {
        /// What is waited for, each a phrase.
        what: Vec<String>,
    },
    /// A cluster is or was there, but does not answer.
    Lost {
        /// What was found, one line each.
        seen: Vec<String>,
        /// The fix.
        hint: String,
    },
}

/// Judges the evidence. `repairs` names what a plan would start or create that the API may be
/// waiting for, such as a load balancer.
pub fn judge(cluster: &Cluster, survey: &Survey, repairs: &[String]) -> Life {
    if let Some(api) = &survey.api {
        return Life::Living { via: NodeName(api.via.clone()) };
    }
    let mut waiting: Vec<String> = Vec::new();
    for (name, machine) in &survey.machines {
        match machine {
            Machine::Off => waiting.push(format!("{name} is off")),
            Machine::Silent { said } => {
                waiting.push(format!("{name} cannot be queried: {}", first_line(said)));
            }
            Machine::Seen(_) => {}
        }
    }
    let seen = || {
        survey.machines.iter().filter_map(|(name, machine)| match machine {
            Machine::Seen(seen) => Some((name, seen.as_ref())),
            _ => None,
        })
    };
    let finished: Vec<&NodeName> =
        seen().filter(|(_, seen)| is_finished(survey, seen)).map(|(name, _)| name).collect();
    let answered = matches!(survey.vip, Answer::Answers { .. });
    if !finished.is_empty() || answered {
        waiting.extend(repairs.iter().cloned());
        if !waiting.is_empty() {
            return Life::Pending { what: waiting };
        }
        return lost(cluster, survey, &finished);
    }
    if !waiting.is_empty() {
        return Life::Pending { what: waiting };
    }
    let begun: Vec<&NodeName> =
        seen().filter(|(_, seen)| seen.init.is_open()).map(|(name, _)| name).collect();
    if let [one] = begun.as_slice()
        && !survey.was_made()
    {
        return Life::Unfinished { on: (*one).clone() };
    }
    let bound: Vec<&NodeName> = seen()
        .filter(|(_, seen)| (seen.kubelet || seen.apiserver) && !seen.join.is_open())
        .map(|(name, _)| name)
        .collect();
    if survey.was_made() || !bound.is_empty() || !begun.is_empty() {
        return orphaned(survey, &begun, &bound);
    }
    Life::None
}

/// Whether a machine has a control plane that was completed once. If the state folder remembers the
/// cluster, every control plane was.
fn is_finished(survey: &Survey, seen: &super::survey::Seen) -> bool {
    seen.has_control_plane()
        || (survey.was_made() && seen.apiserver && !seen.join.is_open() && seen.kubelet)
}

/// A control plane exists and does not answer.
fn lost(cluster: &Cluster, survey: &Survey, finished: &[&NodeName]) -> Life {
    let mut seen: Vec<String> = survey.machines.iter().filter_map(api_line).collect();
    if let Answer::Answers { said } | Answer::Silent { said } = &survey.vip {
        seen.push(format!("the VIP {}: {}", cluster.api.vip, first_line(said)));
    }
    let masters = cluster.with_role(crate::cluster::Role::Master).count();
    let hint = if cluster.etcd.endpoints().is_none() && finished.len() * 2 <= masters {
        format!(
            "{} of {masters} masters remain, but a stacked etcd of {masters} needs {}: its quorum \
             is lost. Restore the other masters' VMs from a Proxmox VE backup (`qmrestore`), or \
             restore an etcd snapshot; k8sha does neither yet. `k8sha rebuild` creates a new, \
             empty cluster",
            finished.len(),
            masters / 2 + 1
        )
    } else {
        "check on a master why its API server does not answer: `sudo crictl ps -a`, `sudo \
         journalctl -u kubelet`. k8sha does not create a second cluster beside it"
            .to_owned()
    };
    Life::Lost { seen, hint }
}

fn api_line((name, machine): (&NodeName, &Machine)) -> Option<String> {
    let Machine::Seen(seen) = machine else { return None };
    let said = match &seen.api {
        Answer::NotAsked => return None,
        Answer::Answers { said } | Answer::Silent { said } => first_line(said),
    };
    Some(format!("{name} has a control plane; its API server: {said}"))
}

/// A cluster existed, but no master is left.
fn orphaned(survey: &Survey, begun: &[&NodeName], bound: &[&NodeName]) -> Life {
    let mut seen = Vec::new();
    if let Some(known) = &survey.known {
        seen.push(format!(
            "this cluster was initialised (CA {}, kube-system {}), but none of its masters is left",
            known.ca, known.uid
        ));
    } else if survey.kubeconfig {
        seen.push(
            "this cluster was initialised: the state folder has its kubeconfig, but none of its \
             masters is left"
                .to_owned(),
        );
    }
    if !bound.is_empty() {
        seen.push(format!("still members of a cluster: {}", names(bound)));
    }
    if begun.len() > 1 {
        seen.push(format!("`kubeadm init` was started on several masters: {}", names(begun)));
    }
    let hint = "restore a master's VM from a Proxmox VE backup (`qmrestore`) and run again; an \
                etcd snapshot alone does not restore the CA's key. `k8sha rebuild` creates a new, \
                empty cluster"
        .to_owned();
    Life::Lost { seen, hint }
}

fn names(nodes: &[&NodeName]) -> String {
    nodes.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")
}

fn first_line(text: &str) -> &str {
    text.trim().lines().next().unwrap_or("no answer")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cluster::Identity;
    use crate::cluster::fixture::k8s1;
    use crate::plan::survey::{Api, Seen, Work};

    fn machines<const N: usize>(all: [(&str, Machine); N]) -> Survey {
        let machines = all.into_iter().map(|(name, machine)| (NodeName(name.into()), machine));
        Survey { machines: machines.collect(), ..Survey::default() }
    }

    fn seen(edit: impl FnOnce(&mut Seen)) -> Machine {
        let mut seen = Seen { machine_id: "1".into(), master: true, ..Seen::default() };
        edit(&mut seen);
        Machine::Seen(Box::new(seen))
    }

    fn control_plane() -> Machine {
        seen(|seen| {
            (seen.kubelet, seen.apiserver, seen.ca) = (true, true, Some("sha256:a".into()));
            seen.api = Answer::Silent { said: "connection refused".into() };
        })
    }

    fn is_init(life: &Life) -> bool {
        matches!(life, Life::None | Life::Unfinished { .. })
    }

    #[test]
    fn init_needs_every_machine_to_have_been_asked() {
        let none = machines([]);
        assert_eq!(judge(&k8s1(), &none, &[]), Life::None);
        let fresh = machines([("k8s1master2", seen(|_| {}))]);
        assert_eq!(judge(&k8s1(), &fresh, &[]), Life::None);
        for unasked in [Machine::Off, Machine::Silent { said: "timed out".into() }] {
            let survey = machines([("k8s1master1", seen(|_| {})), ("k8s1master6", unasked)]);
            let life = judge(&k8s1(), &survey, &[]);
            assert!(matches!(&life, Life::Pending { what } if what[0].contains("k8s1master6")));
        }
    }

    #[test]
    fn nothing_that_was_ever_finished_is_initialised_again() {
        let known = Identity { creation: "c".into(), ca: "sha256:a".into(), uid: "u".into() };
        let gone = Survey { known: Some(known.clone()), ..machines([]) };
        let orphan = machines([("k8s1worker1", seen(|seen| seen.kubelet = true))]);
        let silent = machines([("k8s1master3", control_plane())]);
        let by_vip = Survey { vip: Answer::Answers { said: "401".into() }, ..machines([]) };
        let litter =
            seen(|seen| (seen.kubelet, seen.apiserver, seen.init) = (true, true, Work::Unfinished));
        let known_litter = Survey { known: Some(known), ..machines([("k8s1master1", litter)]) };
        // The record of its identity is lost, the kubeconfig is not.
        let forgotten = Survey { kubeconfig: true, ..machines([]) };
        for survey in [gone, orphan, silent, by_vip, known_litter, forgotten] {
            let life = judge(&k8s1(), &survey, &[]);
            assert!(matches!(life, Life::Lost { .. }), "{life:?}");
        }
    }

    #[test]
    fn an_init_of_ours_that_did_not_end_goes_on_where_it_was_begun() {
        let begun =
            |name| (name, seen(|seen| (seen.ca, seen.init) = (Some("x".into()), Work::Unfinished)));
        let one = machines([begun("k8s1master4"), ("k8s1master1", seen(|_| {}))]);
        assert_eq!(
            judge(&k8s1(), &one, &[]),
            Life::Unfinished { on: NodeName("k8s1master4".into()) }
        );
        let two = machines([begun("k8s1master4"), begun("k8s1master1")]);
        assert!(matches!(judge(&k8s1(), &two, &[]), Life::Lost { .. }));
    }

    #[test]
    fn a_silent_control_plane_waits_for_what_can_be_repaired_first() {
        let silent = machines([("k8s1master3", control_plane())]);
        let life = judge(&k8s1(), &silent, &["k8s1vrrp1 is made".into()]);
        assert_eq!(life, Life::Pending { what: vec!["k8s1vrrp1 is made".into()] });
    }

    #[test]
    fn no_evidence_beside_an_answering_api_leads_to_init() {
        use proptest::prelude::*;
        let machine = prop_oneof![
            Just(Machine::Off),
            Just(Machine::Silent { said: "x".into() }),
            any::<[bool; 5]>().prop_map(|[a, b, c, d, e]| seen(|seen| {
                seen.kubelet = a;
                seen.apiserver = b;
                seen.ca = c.then(|| "sha256:a".to_owned());
                seen.init = if d { Work::Unfinished } else { Work::None };
                seen.join = if e { Work::Unfinished } else { Work::None };
            })),
        ];
        let names = prop::sample::select(vec!["k8s1master1", "k8s1master2", "k8s1worker1"]);
        let all = prop::collection::btree_map(names, machine, 0..3);
        proptest!(|(all in all, answers: bool, finished: bool)| {
            let machines: BTreeMap<_, _> =
                all.into_iter().map(|(name, machine)| (NodeName(name.into()), machine)).collect();
            let mut survey = Survey { machines, ..Survey::default() };
            if finished {
                survey.machines.insert(NodeName("k8s1master5".into()), control_plane());
            }
            if answers {
                survey.api = Some(Api { via: "k8s1master5".into(), ..Api::default() });
            }
            let life = judge(&k8s1(), &survey, &[]);
            prop_assert!(!(answers || finished) || !is_init(&life), "{life:?}");
        });
    }
}
