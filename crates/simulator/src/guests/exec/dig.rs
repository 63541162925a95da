//! `dig @SERVER ... NAME A` and `-x IP`, with `+noall +comments +answer`.

use std::net::Ipv4Addr;

use hickory_server::proto::rr::RecordType;

use super::super::network::dns::Answer;
use super::{Call, Output};

/// Seconds that dig waits for a server that does not answer: `+time=2 +tries=1`.
const PATIENCE: f64 = 2.0;

/// Queries as dig does.
pub fn dig(call: &Call<'_>) -> Output {
    let mut server = None;
    let mut name = None;
    let mut kind = RecordType::A;
    let mut words = call.rest().iter();
    while let Some(word) = words.next() {
        if let Some(text) = word.strip_prefix('@') {
            server = text.parse::<Ipv4Addr>().ok();
        } else if *word == "-x" {
            let digits = words.next().copied().unwrap_or_default().rsplit('.').collect::<Vec<_>>();
            name = Some(format!("{}.in-addr.arpa", digits.join(".")));
            kind = RecordType::PTR;
        } else if *word == "PTR" {
            kind = RecordType::PTR;
        } else if *word == "AAAA" {
            kind = RecordType::AAAA;
        } else if !word.starts_with(['+', '-']) && *word != "A" {
            name = Some((*word).to_owned());
        }
    }
    let network = call.guest.disk.network.as_ref();
    let server =
        server.or_else(|| network.and_then(|network| network.nameservers.first().copied()));
    let (Some(server), Some(name)) = (server, name) else {
        return Output::failed(9, ";; communications error: no servers could be reached");
    };
    // `+search`: a name with fewer dots than `ndots` gets the domains of the search list first.
    let mut names = Vec::new();
    if call.has("+search") && !name.contains('.') {
        let domains = network.map(|network| network.search.as_slice()).unwrap_or_default();
        names.extend(domains.iter().map(|domain| format!("{name}.{domain}")));
    }
    names.push(name);
    let mut last = Answer::Silent;
    let mut asked = String::new();
    for name in names {
        last = call.guests.ask(server, &name, kind);
        asked = name;
        if matches!(last, Answer::Addresses(_) | Answer::Names(_) | Answer::Silent) {
            break;
        }
    }
    if last == Answer::Silent {
        let text = format!(
            ";; communications error to {server}#53: timed out\n\n; <<>> DiG 9.18.28-0ubuntu0.22.04.1-Ubuntu \
             <<>> {}\n; (1 server found)\n;; global options: +cmd\n;; no servers could be reached\n\n",
            call.rest().join(" ")
        );
        return Output { code: 9, ..Output::ok(text) }.lasting(PATIENCE);
    }
    if call.has("+short") {
        return Output::ok(match last {
            Answer::Addresses(list) => list.iter().map(|ip| format!("{ip}\n")).collect(),
            Answer::Names(list) => list.iter().map(|name| format!("{name}.\n")).collect(),
            _ => String::new(),
        });
    }
    let status = match &last {
        Answer::Refused => "REFUSED",
        Answer::NxDomain => "NXDOMAIN",
        _ => "NOERROR",
    };
    let records: Vec<String> = match &last {
        Answer::Addresses(list) => {
            list.iter().map(|ip| format!("{asked}.\t300\tIN\tA\t{ip}")).collect()
        }
        Answer::Names(list) => {
            list.iter().map(|to| format!("{asked}.\t300\tIN\tPTR\t{to}.")).collect()
        }
        _ => Vec::new(),
    };
    let authority = usize::from(matches!(last, Answer::NxDomain | Answer::Empty));
    let flags = if last == Answer::Refused { "qr rd" } else { "qr aa rd" };
    let mut text = format!(
        ";; Got answer:\n;; ->>HEADER<<- opcode: QUERY, status: {status}, id: 41213\n;; flags: {flags}; \
         QUERY: 1, ANSWER: {}, AUTHORITY: {authority}, ADDITIONAL: 1\n;; WARNING: recursion requested \
         but not available\n\n;; OPT PSEUDOSECTION:\n; EDNS: version: 0, flags:; udp: 1232\n",
        records.len()
    );
    if !records.is_empty() {
        text.push_str(&format!(";; ANSWER SECTION:\n{}\n", records.join("\n")));
    }
    text.push('\n');
    Output::ok(text)
}

#[cfg(test)]
mod tests {
    use crate::guests::testing::Bench;

    const FORM: &str = "+time=2 +tries=1 +noall +comments +answer";

    #[test]
    fn dig_prints_status_and_answers_as_bind_does() {
        let mut bench = Bench::new(false);
        bench.boot("m1", "");
        bench.pass(20.0);
        let text = bench.ok("m1", &format!("dig @10.101.1.2 {FORM} k8s1api.kloud.lan A"));
        assert!(text.contains("status: NOERROR"), "{text}");
        assert!(text.contains("k8s1api.kloud.lan.\t300\tIN\tA\t10.101.1.10\n"), "{text}");
        let text = bench.ok("m1", &format!("dig @10.101.1.2 {FORM} +search k8s1api A"));
        assert!(text.contains("k8s1api.kloud.lan."), "{text}");
        let text = bench.ok("m1", &format!("dig @10.101.1.2 {FORM} k8s1api A"));
        assert!(text.contains("status: REFUSED"), "{text}");
        let text = bench.ok("m1", &format!("dig @10.101.1.2 {FORM} unknown.kloud.lan A"));
        assert!(text.contains("status: NXDOMAIN"), "{text}");
        let text = bench.ok("m1", &format!("dig @10.101.1.2 {FORM} -x 10.101.1.101"));
        assert!(text.contains("PTR\tm1.kloud.lan."), "{text}");
        let silent = bench.run("m1", &format!("dig @10.101.1.9 {FORM} k8s1api.kloud.lan A"));
        assert_eq!(silent.code, 9);
        assert!(silent.stdout.contains("no servers could be reached"));
        assert_eq!(
            bench.ok("m1", "getent ahostsv4 k8s1api").lines().next(),
            Some("10.101.1.10     STREAM k8s1api")
        );
    }
}
