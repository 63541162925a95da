//! The site's name servers: one set of records, and faults of individual servers.

use std::future::Future;
use std::net::Ipv4Addr;
use std::pin::Pin;

use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Header, HeaderCounts, MessageType, Metadata, ResponseCode};
use hickory_server::proto::rr::rdata::{A, PTR, SOA};
use hickory_server::proto::rr::{Name, RData, Record, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;

use super::super::Guests;
use super::super::guest::Guest;
use crate::world::Shared;

/// Seconds for which an answer may be cached.
const TTL: u32 = 300;

/// The address that a wildcard record resolves to (RFC 5737: for documentation).
const WILDCARD: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);

/// The answer of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// No answer.
    Silent,
    /// It does not serve this name.
    Refused,
    /// The name does not exist.
    NxDomain,
    /// The name exists, but has no records of the requested type.
    Empty,
    /// Addresses.
    Addresses(Vec<Ipv4Addr>),
    /// Names of an address, without trailing dots.
    Names(Vec<String>),
}

impl Guests {
    /// Whether a name server does not answer.
    pub fn silent(&self, server: Ipv4Addr) -> bool {
        !self.net.nameservers.contains(&server) || self.faulty("dns-silent", &[&server.to_string()])
    }

    /// Resolves a name as the guest's own resolver does: `/etc/hosts`, then its name servers with
    /// its search list.
    pub(crate) fn resolve(&self, guest: &Guest, name: &str) -> Option<Ipv4Addr> {
        if let Ok(address) = name.parse() {
            return Some(address);
        }
        let hosts = guest.text("/etc/hosts").unwrap_or_default();
        let in_hosts = hosts.lines().find_map(|line| {
            let mut words = line.split('#').next()?.split_whitespace();
            let address = words.next()?.parse().ok()?;
            words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
        });
        in_hosts.or_else(|| {
            let network = guest.disk.network.as_ref()?;
            let server = network.nameservers.iter().find(|server| !self.silent(**server))?;
            let full = std::iter::once(String::new()).chain(network.search.iter().cloned());
            full.filter_map(|domain| match domain.as_str() {
                "" => Some(name.trim_end_matches('.').to_owned()),
                _ if name.ends_with('.') => None,
                domain => Some(format!("{name}.{domain}")),
            })
            .find_map(|name| self.lookup(*server, &name).first().copied())
        })
    }

    /// The addresses that a server returns for a full name.
    pub fn lookup(&self, server: Ipv4Addr, name: &str) -> Vec<Ipv4Addr> {
        let stale = self.faulty("dns-stale", &[&server.to_string()]);
        let found = self.net.records.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let domain = format!(".{}", self.net.domain);
        if found.clone().next().is_none()
            && name.to_lowercase().ends_with(&domain.to_lowercase())
            && self.faulty("dns-wildcard", &[&server.to_string()])
        {
            return vec![WILDCARD];
        }
        found
            .map(|(name, address)| match stale && name.eq_ignore_ascii_case(&self.net.api) {
                // The address of the API before the cluster was rebuilt.
                true => Ipv4Addr::from_bits(address.to_bits() ^ 0x80),
                false => *address,
            })
            .collect()
    }

    /// Queries a server for a record.
    pub(crate) fn ask(&self, server: Ipv4Addr, name: &str, kind: RecordType) -> Answer {
        if self.silent(server) {
            return Answer::Silent;
        }
        let name = name.trim_end_matches('.').to_lowercase();
        if let Some(reversed) = name.strip_suffix(".in-addr.arpa") {
            let digits: Vec<&str> = reversed.split('.').rev().collect();
            let Ok(address) = digits.join(".").parse::<Ipv4Addr>() else {
                return Answer::NxDomain;
            };
            let names: Vec<String> = self
                .net
                .records
                .iter()
                .filter(|(_, known)| *known == address)
                .map(|(name, _)| name.clone())
                .collect();
            return match (names.is_empty(), kind) {
                (true, _) => Answer::NxDomain,
                (false, RecordType::PTR) => Answer::Names(names),
                (false, _) => Answer::Empty,
            };
        }
        let domain = self.net.domain.to_lowercase();
        if name != domain && !name.ends_with(&format!(".{domain}")) {
            return Answer::Refused;
        }
        let addresses = self.lookup(server, &name);
        match (addresses.is_empty(), kind) {
            (true, _) if name == domain => Answer::Empty,
            (true, _) => Answer::NxDomain,
            (false, RecordType::A) => Answer::Addresses(addresses),
            (false, _) => Answer::Empty,
        }
    }
}

/// One name server, served by hickory.
pub struct NameServer {
    /// The world that it belongs to.
    pub shared: Shared,
    /// Its address in that world.
    pub address: Ipv4Addr,
}

impl NameServer {
    async fn answer(&self, request: &Request, mut response: impl ResponseHandler) -> ResponseInfo {
        let mut meta = Metadata::response_from_request(&request.metadata);
        let Ok(info) = request.request_info() else {
            meta.response_code = ResponseCode::FormErr;
            return header(meta);
        };
        let name: Name = info.query.name().into();
        let kind = info.query.query_type();
        let text = name.to_utf8();
        let (answer, domain) = self.shared.look(|world| {
            (world.guests.ask(self.address, &text, kind), world.guests.net.domain.clone())
        });
        let record = |data: RData| Record::from_rdata(name.clone(), TTL, data);
        let mut records = Vec::new();
        let mut soa = Vec::new();
        meta.authoritative = true;
        match answer {
            Answer::Silent => return header(meta),
            Answer::Refused => {
                meta.authoritative = false;
                meta.response_code = ResponseCode::Refused;
            }
            Answer::NxDomain | Answer::Empty => {
                if answer == Answer::NxDomain {
                    meta.response_code = ResponseCode::NXDomain;
                }
                soa.extend(authority(&domain));
            }
            Answer::Addresses(addresses) => {
                records.extend(addresses.into_iter().map(|ip| record(RData::A(A(ip)))));
            }
            Answer::Names(names) => {
                let names =
                    names.iter().filter_map(|name| Name::from_utf8(format!("{name}.")).ok());
                records.extend(names.map(|name| record(RData::PTR(PTR(name)))));
            }
        }
        let message = MessageResponseBuilder::from_message_request(request).build(
            meta,
            records.iter(),
            std::iter::empty(),
            soa.iter(),
            std::iter::empty(),
        );
        match response.send_response(message).await {
            Ok(info) => info,
            Err(_) => header(meta),
        }
    }
}

fn header(metadata: Metadata) -> ResponseInfo {
    let mut metadata = metadata;
    metadata.message_type = MessageType::Response;
    Header { metadata, counts: HeaderCounts::default() }.into()
}

fn authority(domain: &str) -> Option<Record> {
    let zone = Name::from_utf8(format!("{domain}.")).ok()?;
    let server = Name::from_utf8(format!("ns.{domain}.")).ok()?;
    let person = Name::from_utf8(format!("hostmaster.{domain}.")).ok()?;
    let soa = SOA::new(server, person, 1, 3600, 600, 86400, 60);
    Some(Record::from_rdata(zone, TTL, RData::SOA(soa)))
}

// The trait is declared through a macro of a crate that is not a dependency: this is its expansion.
impl RequestHandler for NameServer {
    fn handle_request<'life0, 'life1, 'async_trait, R, T>(
        &'life0 self,
        request: &'life1 Request,
        response_handle: R,
    ) -> Pin<Box<dyn Future<Output = ResponseInfo> + Send + 'async_trait>>
    where
        R: ResponseHandler + 'async_trait,
        T: Time + 'async_trait,
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(self.answer(request, response_handle))
    }
}
