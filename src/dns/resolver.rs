//! Queries exactly one name server.

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData};
use tokio::time::timeout;

use super::{Answer, Kind, Question};
use crate::cause::{Cause, cause};
use crate::limits::dns as limits;
use crate::limits::excerpt;

/// Why a resolver cannot be created.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The search domain is not a domain name.
    #[error("`{domain}` is not a domain name: {cause}")]
    Domain {
        /// The domain.
        domain: String,
        /// What is wrong with it.
        #[source]
        cause: Cause,
    },
    /// The resolver cannot be built.
    #[error("cannot ask the name server at {server}: {cause}")]
    Resolver {
        /// The server.
        server: SocketAddr,
        /// What went wrong.
        #[source]
        cause: Cause,
    },
}

/// Queries one name server: no cache, no hosts file, and no second server that would hide the first
/// one's answer.
#[derive(Clone)]
pub struct Resolver {
    inner: Arc<TokioResolver>,
    search: Name,
}

impl Resolver {
    /// A resolver for the server at this address, with this search domain.
    ///
    /// # Errors
    /// If the domain is not a domain name, or the resolver cannot be built.
    pub fn new(server: SocketAddr, search: &str) -> Result<Self, Error> {
        let search = Name::from_utf8(format!("{}.", search.trim_end_matches('.')))
            .map_err(|error| Error::Domain { domain: search.to_owned(), cause: cause(error) })?;
        let mut name_server = NameServerConfig::udp_and_tcp(server.ip());
        for connection in &mut name_server.connections {
            connection.port = server.port();
        }
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![name_server]);
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.attempts = 1;
        options.timeout = limits::TRANSPORT;
        options.try_tcp_on_error = true;
        options.ip_strategy = LookupIpStrategy::Ipv4Only;
        let inner =
            builder.build().map_err(|error| Error::Resolver { server, cause: cause(error) })?;
        Ok(Self { inner: Arc::new(inner), search })
    }

    /// Sends a question; takes at most a little over two seconds.
    pub async fn ask(&self, question: &Question) -> Answer {
        let found = async {
            match question.kind {
                // The search domain is appended here: a search list ends with the short name alone,
                // and the answer to that (a server of a single zone refuses it) would hide the
                // earlier ones.
                Kind::ApiBySearch => {
                    self.inner.ipv4_lookup(format!("{}.{}", question.name, self.search)).await
                }
                Kind::Api | Kind::Node | Kind::Nowhere => {
                    self.inner.ipv4_lookup(format!("{}.", question.name)).await
                }
                Kind::Reverse => {
                    self.inner.reverse_lookup(std::net::IpAddr::V4(question.address)).await
                }
            }
        };
        match timeout(limits::QUESTION, found).await {
            Err(_) => Answer::Silent,
            Ok(Ok(lookup)) => answer(question.kind, &lookup),
            Ok(Err(error)) => failure(&error),
        }
    }
}

fn answer(kind: Kind, lookup: &Lookup) -> Answer {
    let data = lookup.answers().iter().map(|record| &record.data);
    if kind == Kind::Reverse {
        let names: Vec<String> = data
            .filter_map(|data| match data {
                RData::PTR(name) => Some(name.to_string().trim_end_matches('.').to_owned()),
                _ => None,
            })
            .take(limits::RECORDS)
            .collect();
        return if names.is_empty() { Answer::NoRecords } else { Answer::Names(names) };
    }
    let mut addresses: Vec<_> = data
        .filter_map(|data| match data {
            RData::A(address) => Some(address.0),
            _ => None,
        })
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(limits::RECORDS);
    if addresses.is_empty() { Answer::NoRecords } else { Answer::Addresses(addresses) }
}

fn failure(error: &NetError) -> Answer {
    match error {
        NetError::Timeout => Answer::Silent,
        NetError::Dns(DnsError::ResponseCode(ResponseCode::Refused)) => Answer::Refused,
        error if error.is_nx_domain() => Answer::NxDomain,
        error if error.is_no_records_found() => Answer::NoRecords,
        // A closed port is reported over ICMP or TCP; either way, the server does not answer.
        NetError::NoConnections => Answer::Silent,
        NetError::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            Answer::Silent
        }
        error => Answer::Failed(excerpt(&error.to_string(), limits::WORDS)),
    }
}
