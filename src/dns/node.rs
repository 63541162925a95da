//! The same DNS checks, run on a node with its own tools.
//!
//! This module builds the commands and parses their output; the caller runs them.

use std::future::Future;
use std::net::Ipv4Addr;

use tokio::task::JoinSet;

use super::{Answer, Heard, Kind, Question, Report, judge, questions_of_node};
use crate::cluster::{Cluster, Node};
use crate::limits::{dns, excerpt};

/// The exit status of `dig` if no server answered (dig(1), RETURN CODES).
const DIG_NO_REPLY: u32 = 9;
/// The exit status of `getent` for a name that does not exist (getent(1)).
const GETENT_NOT_FOUND: u32 = 2;

/// The command that queries one server.
pub fn dig(server: Ipv4Addr, question: &Question) -> Vec<String> {
    let mut words = vec!["dig".to_owned(), format!("@{server}")];
    let mut add = |more: &[&str]| words.extend(more.iter().map(|word| (*word).to_owned()));
    add(&["+time=2", "+tries=1"]);
    if question.kind == Kind::ApiBySearch {
        add(&["+search"]);
    }
    add(&["+noall", "+comments", "+answer"]);
    match question.kind {
        // Without +search, dig treats every name as complete.
        Kind::ApiBySearch | Kind::Api | Kind::Node | Kind::Nowhere => add(&[&question.name, "A"]),
        Kind::Reverse => add(&["-x", &question.address.to_string()]),
    }
    words
}

/// Parses the exit status and standard output of `dig`.
pub(crate) fn parse_dig(code: u32, stdout: &str) -> Answer {
    let status = stdout
        .lines()
        .filter(|line| line.contains("->>HEADER<<-"))
        .filter_map(|line| line.split("status: ").nth(1)?.split(',').next())
        .next_back();
    match status {
        None if code == DIG_NO_REPLY || stdout.contains("no servers could be reached") => {
            Answer::Silent
        }
        None => Answer::Failed(excerpt(stdout.trim(), dns::WORDS)),
        Some("NXDOMAIN") => Answer::NxDomain,
        Some("REFUSED") => Answer::Refused,
        Some("NOERROR") => parse_records(stdout),
        Some(other) => Answer::Failed(excerpt(other, dns::WORDS)),
    }
}

fn parse_records(stdout: &str) -> Answer {
    let (mut addresses, mut names) = (Vec::new(), Vec::new());
    for line in stdout.lines().filter(|line| !line.starts_with(';')) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields[..] {
            [_, _, "IN", "A", address] => addresses.extend(address.parse::<Ipv4Addr>()),
            [_, _, "IN", "PTR", name] => names.push(name.trim_end_matches('.').to_owned()),
            _ => {}
        }
    }
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(dns::RECORDS);
    names.truncate(dns::RECORDS);
    match (addresses.is_empty(), names.is_empty()) {
        (false, _) => Answer::Addresses(addresses),
        (true, false) => Answer::Names(names),
        (true, true) => Answer::NoRecords,
    }
}

/// The command that queries the node's own resolver, including its hosts file.
pub fn getent(name: &str) -> Vec<String> {
    ["getent", "ahostsv4", name].map(str::to_owned).to_vec()
}

/// Parses the output of `getent ahostsv4`: one line per address and socket type.
pub(crate) fn parse_getent(code: u32, stdout: &str) -> Answer {
    if code == GETENT_NOT_FOUND {
        return Answer::NxDomain;
    }
    let mut addresses: Vec<Ipv4Addr> =
        stdout.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(dns::RECORDS);
    if addresses.is_empty() { Answer::NoRecords } else { Answer::Addresses(addresses) }
}

/// Runs the queries on a node, concurrently: `dig` for every configured server, and `getent` for
/// the node's own resolver. `run` runs a command there and returns its exit status and standard
/// output.
///
/// # Errors
/// The first error of `run`.
pub async fn check<F, R, E>(cluster: &Cluster, node: &Node, run: F) -> Result<Report, E>
where
    F: Fn(Vec<String>) -> R,
    R: Future<Output = Result<(u32, String), E>> + Send + 'static,
    E: Send + 'static,
{
    let from = node.name.to_string();
    let mut asking = JoinSet::new();
    let mut ask = |server: Option<Ipv4Addr>, question: Question| {
        let answered = match server {
            Some(server) => run(dig(server, &question)),
            None => run(getent(&question.name)),
        };
        let from = Some(from.clone());
        asking.spawn(async move {
            let (code, stdout) = answered.await?;
            let parse = if server.is_some() { parse_dig } else { parse_getent };
            Ok(Heard { from, server, question, answer: parse(code, &stdout) })
        });
    };
    for question in questions_of_node(cluster, &node.fqdn) {
        for server in &cluster.network.nameservers {
            ask(Some(*server), question.clone());
        }
        // kubeadm and kubelet resolve only the API's name and the node's own.
        let own = question.kind != Kind::Node || question.name == node.fqdn;
        if own {
            ask(None, question);
        }
    }
    let heard: Result<Vec<Heard>, E> = asking.join_all().await.into_iter().collect();
    Ok(judge(&cluster.network.domain, heard?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(status: &str, answers: u32) -> String {
        format!(
            ";; Got answer:\n;; ->>HEADER<<- opcode: QUERY, status: {status}, id: 41207\n\
             ;; flags: qr aa rd ra; QUERY: 1, ANSWER: {answers}, AUTHORITY: 0, ADDITIONAL: 1\n\n\
             ;; OPT PSEUDOSECTION:\n; EDNS: version: 0, flags:; udp: 1232\n"
        )
    }

    #[test]
    fn each_way_of_asking_has_its_command() {
        let question = |kind| Question {
            kind,
            name: if kind == Kind::ApiBySearch { "k8s1api" } else { "k8s1api.kloud.lan" }.into(),
            address: [10, 101, 1, 10].into(),
        };
        for (kind, want) in [
            (Kind::ApiBySearch, "+search +noall +comments +answer k8s1api A"),
            (Kind::Api, "+noall +comments +answer k8s1api.kloud.lan A"),
            (Kind::Reverse, "+noall +comments +answer -x 10.101.1.10"),
        ] {
            let line = dig([10, 0, 0, 53].into(), &question(kind)).join(" ");
            assert_eq!(line, format!("dig @10.0.0.53 +time=2 +tries=1 {want}"));
        }
    }

    #[test]
    fn a_dig_answer_is_read_through_a_cname() {
        let text = header("NOERROR", 2)
            + ";; ANSWER SECTION:\n\
               k8s1api.kloud.lan.\t300\tIN\tCNAME\tvip.kloud.lan.\n\
               vip.kloud.lan.\t300\tIN\tA\t10.101.1.10\n\n";
        assert_eq!(parse_dig(0, &text), Answer::Addresses(vec![[10, 101, 1, 10].into()]));
    }

    #[test]
    fn a_ptr_answer_is_read() {
        let text = header("NOERROR", 1)
            + ";; ANSWER SECTION:\n10.1.101.10.in-addr.arpa. 300 IN PTR k8s1api.kloud.lan.\n";
        assert_eq!(parse_dig(0, &text), Answer::Names(vec!["k8s1api.kloud.lan".into()]));
    }

    #[test]
    fn every_other_dig_ending_is_told_apart() {
        let cut = ";; communications error to 10.0.0.53#53: timed out\n\n\
                   ;; no servers could be reached\n";
        for (code, text, want) in [
            (0, header("NXDOMAIN", 0), Answer::NxDomain),
            (0, header("REFUSED", 0), Answer::Refused),
            (0, header("NOERROR", 0), Answer::NoRecords),
            (0, header("SERVFAIL", 0), Answer::Failed("SERVFAIL".into())),
            (9, ";; connection timed out; no servers could be reached\n".into(), Answer::Silent),
            (9, cut.into(), Answer::Silent),
            (10, String::new(), Answer::Failed(String::new())),
        ] {
            assert_eq!(parse_dig(code, &text), want, "{text}");
        }
    }

    #[test]
    fn an_answer_without_end_is_cut() {
        let mut text = header("NOERROR", 2);
        for host in 0..5000u32 {
            let address = Ipv4Addr::from(0x0a00_0000 + host);
            text.push_str(&format!("k8s1api.kloud.lan.\t300\tIN\tA\t{address}\n"));
        }
        let Answer::Addresses(kept) = parse_dig(0, &text) else { panic!("addresses") };
        assert_eq!(kept.len(), dns::RECORDS);
        let Answer::Failed(said) = parse_dig(1, &"\u{1b}[2J".repeat(5000)) else { panic!("words") };
        assert!(!said.contains('\u{1b}') && said.ends_with("more characters)"), "{said}");
    }

    #[test]
    fn a_masking_hosts_file_is_seen_through_getent() {
        let text = "127.0.1.1       STREAM k8s1master1.kloud.lan\n\
                    127.0.1.1       DGRAM  \n127.0.1.1       RAW    \n";
        assert_eq!(parse_getent(0, text), Answer::Addresses(vec![[127, 0, 1, 1].into()]));
        assert_eq!(parse_getent(2, ""), Answer::NxDomain);
    }
}
