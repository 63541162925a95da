//! A node's resolver: its `/etc/resolv.conf` (pve-common src/PVE/INotify.pm).

use serde::{Deserialize, Serialize};

use super::state::Host;
use crate::faults::FaultKind;
use crate::site::Site;
use crate::world::World;

/// The search domain, and the name servers in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolver {
    /// The domain.
    pub search: String,
    /// The name servers.
    pub servers: Vec<String>,
}

impl Resolver {
    /// A node's resolver: as configured there, or the site's.
    pub fn of(host: Option<&Host>, site: &Site) -> Self {
        host.and_then(|host| host.resolver.clone()).unwrap_or_else(|| Resolver {
            search: site.domain.clone(),
            servers: site.nameservers.iter().map(ToString::to_string).collect(),
        })
    }

    /// A node's error for a name without an address: either it does not exist, or none of its name
    /// servers answers (glibc's `gai_strerror`).
    pub fn unknown(world: &World, host: Option<&Host>) -> &'static str {
        let servers = Resolver::of(host, &world.site).servers;
        let silent = |server: &String| world.faults.active(FaultKind::DnsSilent, server);
        if servers.iter().all(silent) {
            "Temporary failure in name resolution"
        } else {
            "Name or service not known"
        }
    }
}
