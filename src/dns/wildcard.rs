//! Detects wildcard records in the hosts' domain.
//!
//! kubelet copies the node's search list, which contains the hosts' domain, to every pod. A pod's
//! resolver tries that list first for every name with fewer than five dots (kubernetes.io, "DNS for
//! Services and Pods", `ndots:5`). With a wildcard record in the hosts' domain, `github.com`
//! therefore resolves as `github.com.kloud.lan` to the wildcard's address: programs in pods no
//! longer reach the Internet.

use std::net::Ipv4Addr;

use super::verdict::{Finding, Severity};
use super::{Answer, Heard, Kind, Question};

/// A question for a name below the domain that does not exist. The name is random, so that only a
/// wildcard can match it.
pub(super) fn question(domain: &str) -> Question {
    let label = hex::encode(rand::random::<[u8; 8]>());
    // A placeholder: no address is correct.
    Question {
        kind: Kind::Nowhere,
        name: format!("k8sha-{label}.{domain}"),
        address: Ipv4Addr::UNSPECIFIED,
    }
}

/// The finding, if the answer is an address. A server that does not answer is reported elsewhere.
pub(super) fn finding(domain: &str, heard: &Heard) -> Option<Finding> {
    let (Answer::Addresses(_), Some(server)) = (&heard.answer, heard.server) else { return None };
    let (name, got) = (format!("*.{domain}"), heard.answer.to_string());
    let text = format!(
        "{server} answers {got} for a name below `{domain}` that does not exist: there is a \
         wildcard record `{name}`, and pods, which search every name in `{domain}` too, get that \
         address for names on the Internet"
    );
    Some(Finding {
        severity: Severity::Warning,
        from: heard.from.clone(),
        server: heard.server,
        name,
        wanted: Answer::NxDomain.to_string(),
        got,
        text,
    })
}

/// The wildcard records to remove, in BIND's format.
pub(super) fn records(domain: &str, heard: &Heard) -> Vec<String> {
    match &heard.answer {
        Answer::Addresses(given) => {
            given.iter().map(|wrong| format!("*.{domain}. IN A {wrong}")).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(answer: Answer) -> Heard {
        Heard {
            from: None,
            server: Some([10, 101, 1, 2].into()),
            question: question("kloud.lan"),
            answer,
        }
    }

    #[test]
    fn the_name_is_another_one_each_time_and_a_name_of_dns() {
        let names: Vec<String> = (0..2).map(|_| question("kloud.lan").name).collect();
        assert_ne!(names[0], names[1]);
        assert!(names[0].ends_with(".kloud.lan") && names[0].len() < 40, "{names:?}");
    }

    #[test]
    fn only_an_address_is_a_wildcard() {
        for answer in [
            Answer::NxDomain,
            Answer::NoRecords,
            Answer::Refused,
            Answer::Silent,
            Answer::Failed("SERVFAIL".to_owned()),
        ] {
            let heard = heard(answer);
            assert_eq!(finding("kloud.lan", &heard), None, "{heard:?}");
            assert!(records("kloud.lan", &heard).is_empty());
        }
        let heard = heard(Answer::Addresses(vec![[203, 0, 113, 80].into()]));
        let found = finding("kloud.lan", &heard).unwrap();
        assert_eq!((found.severity, found.name.as_str()), (Severity::Warning, "*.kloud.lan"));
        assert!(!found.text.contains("k8sha-"), "another text each time: {}", found.text);
        assert_eq!(records("kloud.lan", &heard), ["*.kloud.lan. IN A 203.0.113.80"]);
    }
}
