//! A host's network state in the format of `ip -json`.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::Deserialize;

use super::unit;

/// A host's routes, addresses and rules, and k8sha's unit on it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Every route of every table.
    pub routes: Vec<Route>,
    /// Every interface with its addresses.
    pub links: Vec<Link>,
    /// The rules that choose a table.
    pub rules: Vec<Rule>,
    /// The source address of k8sha's own connection, as the host sees it.
    pub operator: Option<Ipv4Addr>,
    /// The text of k8sha's unit file.
    pub unit: Option<String>,
    /// Whether the unit runs at boot.
    pub enabled: bool,
    /// Whether the unit has run since the last boot.
    pub active: bool,
}

/// A line of `ip -json -4 route show table all`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Route {
    /// `blackhole`, `throw`, `local` …; `None` for an ordinary route.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// `default`, an address, or a network.
    pub dst: String,
    /// The interface that it leads to.
    pub dev: Option<String>,
    /// The table's name or number; `None` means `main`.
    pub table: Option<String>,
    /// The routing protocol that created it.
    pub protocol: Option<String>,
    /// Its metric: the lowest wins.
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
    /// The host's own address.
    pub local: Ipv4Addr,
    /// Its network's prefix length.
    pub prefixlen: u8,
}

/// A line of `ip -json -4 rule show`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Rule {
    /// The rule's priority.
    pub priority: u32,
    /// The destination that it matches.
    pub dst: Option<Ipv4Addr>,
    /// Its prefix length; 32 if it has none.
    pub dstlen: Option<u8>,
    /// The table that it selects.
    pub table: Option<String>,
}

impl Route {
    /// The route's network; `None` for the default route.
    pub fn net(&self) -> Option<Ipv4Net> {
        self.dst.parse().ok().or_else(|| self.dst.parse::<Ipv4Addr>().ok().map(Ipv4Net::from))
    }

    /// Whether it carries k8sha's mark, for any cluster.
    pub fn is_marked(&self) -> bool {
        self.kind.as_deref() == Some("blackhole")
            && self.protocol.as_deref() == Some(&unit::PROTOCOL.to_string())
    }

    /// Whether the route forwards packets. The routes of the host's own addresses, in the table
    /// `local`, do not count: addresses are checked separately.
    pub fn leads_somewhere(&self) -> bool {
        let kind = self.kind.as_deref().unwrap_or("unicast");
        !["blackhole", "unreachable", "prohibit", "throw"].contains(&kind)
            && self.table.as_deref() != Some("local")
    }
}

impl Rule {
    /// The network that it matches, if any.
    pub fn net(&self) -> Option<Ipv4Net> {
        Ipv4Net::new(self.dst?, self.dstlen.unwrap_or(32)).ok()
    }
}

impl Seen {
    /// The networks for which the cluster's routes are set.
    pub fn ours(&self, cluster: &str) -> Vec<Ipv4Net> {
        let metric = unit::metric(cluster);
        let ours = self.routes.iter().filter(|route| {
            route.is_marked() && route.metric == Some(metric) && route.table.is_none()
        });
        ours.filter_map(Route::net).collect()
    }
}
