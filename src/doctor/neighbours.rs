//! Reads the kernel's ARP table, which needs no privileges.
//!
//! The table contains only addresses of directly connected networks, and only those that were
//! recently resolved. A machine that filters every port still answers ARP; otherwise no other
//! machine could reach it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use crate::files::{Kind, read_text};

/// The table of this thread's network namespace (proc(5)).
const TABLE: &str = "/proc/thread-self/net/arp";
/// `ATF_COM` of arp(7): the entry has an answer.
const COMPLETE: u32 = 0x2;
/// The default prefix of the MAC addresses that Proxmox VE assigns to VMs
/// (pve-common src/PVE/Tools.pm, `random_ether_addr`).
const OF_VMS: &str = "BC:24:11:";

/// Addresses and the MAC addresses that answered for them, in upper case.
pub(super) type Neighbours = BTreeMap<Ipv4Addr, String>;

/// The current neighbours of this machine.
pub(super) fn known() -> Neighbours {
    // A system without that file has no such table.
    read_text(Path::new(TABLE), Kind::Kernel).map(|text| parse(&text)).unwrap_or_default()
}

/// Parses the table: address, type of hardware, flags in hexadecimal, MAC address, mask, device.
fn parse(text: &str) -> Neighbours {
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let address: Ipv4Addr = words.next()?.parse().ok()?;
        let flags = words.nth(1)?.strip_prefix("0x")?;
        let flags = u32::from_str_radix(flags, 16).ok()?;
        let mac = words.next()?.to_uppercase();
        (flags & COMPLETE != 0 && mac != "00:00:00:00:00:00").then_some((address, mac))
    };
    text.lines().filter_map(entry).collect()
}

/// What the table says about an address that answered in no other way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Neighbour {
    /// This MAC address has just answered for it, or belongs to an existing VM.
    Is(String),
    /// This MAC address had it before the probe, and may or may not still have it: an entry
    /// outlives its machine by minutes or hours.
    Was(String),
}

/// Judges an address by its entries before and after the probe. `exists` says whether a VM has a
/// MAC address.
pub(super) fn judge(
    ip: Ipv4Addr,
    gateway: Ipv4Addr,
    before: &Neighbours,
    after: &Neighbours,
    exists: impl Fn(&str) -> bool,
) -> Option<Neighbour> {
    let mac = after.get(&ip)?.clone();
    // A router that answers for others (proxy ARP) gives no information about them.
    if after.get(&gateway) == Some(&mac) {
        return None;
    }
    if before.get(&ip) != Some(&mac) || exists(&mac) {
        return Some(Neighbour::Is(mac));
    }
    // A MAC address in the range of VMs that no existing VM uses: it is that of a removed VM, such
    // as the node's own before a `destroy`.
    (!mac.starts_with(OF_VMS)).then_some(Neighbour::Was(mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
IP address       HW type     Flags       HW address            Mask     Device
10.0.0.1         0x1         0x2         02:fc:00:00:00:05     *        eth0
10.0.0.5         0x1         0x6         bc:24:11:00:00:0a     *        eth0
10.0.0.6         0x1         0x0         00:00:00:00:00:00     *        eth0
10.0.0.7         0x1         0x0         02:fc:00:00:00:07     *        eth0
";

    #[test]
    fn only_entries_with_an_answer_are_read() {
        let known = parse(TEXT);
        let gateway = (Ipv4Addr::new(10, 0, 0, 1), "02:FC:00:00:00:05".to_owned());
        let vm = (Ipv4Addr::new(10, 0, 0, 5), "BC:24:11:00:00:0A".to_owned());
        assert_eq!(known, Neighbours::from([gateway, vm]));
        assert_eq!(parse("no table"), Neighbours::new());
        assert_eq!(parse("10.0.0.1 0x1 zwei"), Neighbours::new());
    }

    #[test]
    fn a_new_answer_counts_and_an_old_one_only_with_its_machine() {
        let (ip, gateway) = (Ipv4Addr::new(10, 0, 0, 9), Ipv4Addr::new(10, 0, 0, 1));
        let table = |mac: &str| Neighbours::from([(ip, mac.to_owned())]);
        let none = Neighbours::new();
        let (card, vm) = ("02:FC:00:00:00:09", "BC:24:11:00:00:09");
        let judged = |before: &Neighbours, after: &Neighbours, exists: bool| {
            judge(ip, gateway, before, after, |_| exists)
        };
        assert_eq!(judged(&none, &none, true), None);
        assert_eq!(judged(&none, &table(card), false), Some(Neighbour::Is(card.to_owned())));
        assert_eq!(judged(&none, &table(vm), false), Some(Neighbour::Is(vm.to_owned())));
        assert_eq!(judged(&table(card), &table(vm), false), Some(Neighbour::Is(vm.to_owned())));
        assert_eq!(judged(&table(vm), &table(vm), true), Some(Neighbour::Is(vm.to_owned())));
        assert_eq!(judged(&table(vm), &table(vm), false), None, "a VM that has gone");
        assert_eq!(
            judged(&table(card), &table(card), false),
            Some(Neighbour::Was(card.to_owned()))
        );
        let mut proxied = table(card);
        proxied.insert(gateway, card.to_owned());
        assert_eq!(judged(&none, &proxied, false), None, "the router answers for every address");
    }
}
