//! What a host says of its network, in the words of `ip -json`.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::Deserialize;

use super::unit;

/// A host's routes, addresses and rules, and our unit on it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Every route of every table.
    pub routes: Vec<Route>,
    /// Every interface with its addresses.
    pub links: Vec<Link>,
    /// The rules that choose a table.
    pub rules: Vec<Rule>,
    /// Where our own connection comes from, as the host sees it.
    pub operator: Option<Ipv4Addr>,
    /// The text of our unit's file.
    pub unit: Option<String>,
    /// Whether it is run at boot.
    pub enabled: bool,
    /// Whether it has run since.
    pub active: bool,
}

/// A line of `ip -json -4 route show table all`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Route {
    /// `blackhole`, `throw`, `local` …; none is a route that leads somewhere.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// `default`, an address, or a network.
    pub dst: String,
    /// The interface that it leads to.
    pub dev: Option<String>,
    /// The table's name or number; none is `main`.
    pub table: Option<String>,
    /// Who made it.
    pub protocol: Option<String>,
    /// Its preference: the lower the better.
    pub metric: Option<u32>,
}

/// An entry of `ip -json -4 addr show`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Link {
    /// The interface.
    pub ifname: String,
    /// Its addresses.
    #[serde(default)]
    pub addr_info: Vec<Address>,
}

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Address {
    /// The host's own.
    pub local: Ipv4Addr,
    /// Its network's prefix length.
    pub prefixlen: u8,
}

/// A line of `ip -json -4 rule show`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Rule {
    /// The rule's place.
    pub priority: u32,
    /// The destination that it is for.
    pub dst: Option<Ipv4Addr>,
    /// Its prefix length; 32 if it has none.
    pub dstlen: Option<u8>,
    /// The table that it leads to.
    pub table: Option<String>,
}

impl Route {
    /// The network that it is for; none for the default route.
    pub fn net(&self) -> Option<Ipv4Net> {
        self.dst.parse().ok().or_else(|| self.dst.parse::<Ipv4Addr>().ok().map(Ipv4Net::from))
    }

    /// Whether it carries the mark of k8sha, for whichever cluster.
    pub fn is_marked(&self) -> bool {
        self.kind.as_deref() == Some("blackhole")
            && self.protocol.as_deref() == Some(&unit::PROTOCOL.to_string())
    }

    /// Whether packets get somewhere by it. Addresses have routes of their own in the table
    /// `local`: they count as addresses.
    pub fn leads_somewhere(&self) -> bool {
        let kind = self.kind.as_deref().unwrap_or("unicast");
        !["blackhole", "unreachable", "prohibit", "throw"].contains(&kind)
            && self.table.as_deref() != Some("local")
    }
}

impl Rule {
    /// The network that it is for, if it is for one.
    pub fn net(&self) -> Option<Ipv4Net> {
        Ipv4Net::new(self.dst?, self.dstlen.unwrap_or(32)).ok()
    }
}

impl Seen {
    /// The networks of a cluster's routes that are set.
    pub fn ours(&self, cluster: &str) -> Vec<Ipv4Net> {
        let metric = unit::metric(cluster);
        let ours = self.routes.iter().filter(|route| {
            route.is_marked() && route.metric == Some(metric) && route.table.is_none()
        });
        ours.filter_map(Route::net).collect()
    }
}
