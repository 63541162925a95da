//! What a node asks for names: its `/etc/resolv.conf` (pve-common src/PVE/INotify.pm).

use serde::{Deserialize, Serialize};

use super::state::Host;
use crate::site::Site;

/// The domain in which short names are looked up, and the name servers, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolver {
    /// The domain.
    pub search: String,
    /// The name servers.
    pub servers: Vec<String>,
}

impl Resolver {
    /// What a node asks: what was set there, or what its site has.
    pub fn of(host: Option<&Host>, site: &Site) -> Self {
        host.and_then(|host| host.resolver.clone()).unwrap_or_else(|| Resolver {
            search: site.domain.clone(),
            servers: site.nameservers.iter().map(ToString::to_string).collect(),
        })
    }
}
