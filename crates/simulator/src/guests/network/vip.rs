//! Virtual addresses: which guest holds each.

use std::net::Ipv4Addr;

use super::super::Guests;
use super::lb;

impl Guests {
    /// Settles VRRP: an address is not moved while its holder is healthy (`nopreempt`), and otherwise
    /// moves to the highest priority.
    pub(crate) fn elect(&mut self) {
        let mut wanting: Vec<(Ipv4Addr, u8, String)> = Vec::new();
        for (key, guest) in &self.all {
            if guest.address().is_none() || !guest.active("keepalived") {
                continue;
            }
            for instance in lb::keepalived(guest.in_use("keepalived")) {
                if instance.tracks && !guest.active("haproxy") {
                    continue;
                }
                for address in instance.addresses {
                    wanting.push((address, instance.priority, key.clone()));
                }
            }
        }
        self.vips.retain(|address, holder| {
            wanting.iter().any(|(wanted, _, key)| wanted == address && key == holder)
        });
        wanting.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.2.cmp(&b.2)));
        for (address, _, key) in wanting {
            self.vips.entry(address).or_insert(key);
        }
    }
}
