//! The nodes' networks, and the network of each address.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::Serialize;

/// The nodes' layer-2 network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Network {
    /// The subnet of every node and of the VIP.
    pub subnet: Ipv4Net,
    /// The default gateway, inside the subnet.
    pub gateway: Ipv4Addr,
    /// The domain of the hosts, such as `kloud.lan`; not the cluster's DNS domain.
    pub domain: String,
    /// DNS servers, each of which must give the right answers.
    pub nameservers: Vec<Ipv4Addr>,
    /// NTP servers; empty means the distribution's own.
    pub ntp: Vec<String>,
    /// The Proxmox VE bridge of every NIC, such as `vmbr0`.
    pub bridge: String,
    /// The VLAN tag of every NIC.
    pub vlan: Option<u16>,
    /// Further subnets of nodes, each reached through its gateway.
    pub others: Vec<Subnet>,
}

/// A subnet of nodes, and its connection to a NIC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Subnet {
    /// The subnet.
    pub subnet: Ipv4Net,
    /// Its default gateway, inside it.
    pub gateway: Ipv4Addr,
    /// The Proxmox VE bridge, such as `vmbr0`.
    pub bridge: String,
    /// The VLAN tag.
    pub vlan: Option<u16>,
}

impl Network {
    /// The subnet of the VIP, the load balancers, and of every node whose address is in no other.
    pub fn first(&self) -> Subnet {
        Subnet {
            subnet: self.subnet,
            gateway: self.gateway,
            bridge: self.bridge.clone(),
            vlan: self.vlan,
        }
    }

    /// The subnet that contains an address.
    pub fn home(&self, ip: Ipv4Addr) -> Subnet {
        let other = self.others.iter().find(|other| other.subnet.contains(&ip));
        other.cloned().unwrap_or_else(|| self.first())
    }
}
