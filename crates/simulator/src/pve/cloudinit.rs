//! The documents that Proxmox VE generates for cloud-init from a VM's options (qemu-server
//! src/PVE/QemuServer/Cloudinit.pm).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use percent_encoding::percent_decode_str;
use sha2::{Digest as _, Sha256};

use super::nic;
use super::resolver::Resolver;
use super::state::Vm;

fn option<'a>(vm: &'a Vm, key: &str) -> Option<&'a str> {
    vm.config.get(key).map(String::as_str)
}

/// The documents of the drive, by name, if it is labelled `cidata`: for guests that run Linux, unless
/// the VM selects another type.
pub fn drive(vm: &Vm, vmid: u32, resolver: &Resolver) -> Option<BTreeMap<String, String>> {
    let windows = option(vm, "ostype").is_some_and(|kind| kind.starts_with('w'));
    let kind = option(vm, "citype").unwrap_or(if windows { "configdrive2" } else { "nocloud" });
    if kind != "nocloud" {
        return None;
    }
    let (user, network) = (user(vm, vmid, true), network(vm, resolver));
    let digest = Sha256::digest(format!("{user}{network}"));
    let id: String = digest.iter().take(20).map(|byte| format!("{byte:02x}")).collect();
    let documents = [
        ("meta-data", format!("instance-id: {id}\n")),
        ("user-data", user),
        ("network-config", network),
    ];
    Some(documents.map(|(name, text)| (name.to_owned(), text)).into())
}

/// The user data; with the password only for callers who may set it (`whole`).
pub fn user(vm: &Vm, vmid: u32, whole: bool) -> String {
    let name = option(vm, "name").map_or_else(|| format!("VM{vmid}"), str::to_owned);
    let (short, fqdn) = match (name.split_once('.'), option(vm, "searchdomain")) {
        (Some((short, _)), _) => (short.to_owned(), name.clone()),
        (None, Some(domain)) => (name.clone(), format!("{name}.{domain}")),
        (None, None) => (name.clone(), name.clone()),
    };
    let mut text =
        format!("#cloud-config\nhostname: {short}\nmanage_etc_hosts: true\nfqdn: {fqdn}\n");
    if let Some(user) = option(vm, "ciuser") {
        text.push_str(&format!("user: {user}\n"));
    }
    if let Some(password) = option(vm, "cipassword") {
        let shown = if whole { password } else { "**********" };
        text.push_str(&format!("password: {shown}\n"));
    }
    if let Some(keys) = option(vm, "sshkeys") {
        text.push_str("ssh_authorized_keys:\n");
        let keys = percent_decode_str(keys).decode_utf8_lossy();
        for key in keys.lines().filter(|key| !key.trim().is_empty()) {
            text.push_str(&format!("  - {key}\n"));
        }
    }
    text.push_str("chpasswd:\n  expire: False\n");
    if option(vm, "ciuser") != Some("root") {
        text.push_str("users:\n  - default\n");
    }
    if option(vm, "ciupgrade") != Some("0") {
        text.push_str("package_upgrade: true\n");
    }
    text
}

/// The network, in version 1 of the format: a card without `ipconfig` is omitted, and name servers
/// default to the host's.
pub fn network(vm: &Vm, resolver: &Resolver) -> String {
    let mut text = "version: 1\nconfig:\n".to_owned();
    let cards = vm.config.iter().filter(|(key, _)| nic::is_net(key));
    for (key, net) in cards {
        let number = key.trim_start_matches("net");
        let Some(ip) = option(vm, &format!("ipconfig{number}")) else { continue };
        let mac = nic::mac_of(net).unwrap_or_default().to_lowercase();
        text.push_str(&format!(
            "    - type: physical\n      name: eth{number}\n      mac_address: '{mac}'\n      \
             subnets:\n"
        ));
        text.push_str(&subnets(ip));
    }
    let own = option(vm, "nameserver").map(words);
    let servers = own.unwrap_or_else(|| resolver.servers.clone());
    let search = words(option(vm, "searchdomain").unwrap_or(&resolver.search));
    text.push_str("    - type: nameserver\n");
    for (title, values) in [("address", servers), ("search", search)] {
        if !values.is_empty() {
            text.push_str(&format!("      {title}:\n"));
            values.iter().for_each(|value| text.push_str(&format!("      - '{value}'\n")));
        }
    }
    text
}

fn words(text: &str) -> Vec<String> {
    text.split([' ', ',', ';']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn subnets(ipconfig: &str) -> String {
    let pairs: Vec<_> = ipconfig.split(',').filter_map(|part| part.split_once('=')).collect();
    let get = |key: &str| pairs.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
    let mut text = String::new();
    let mut say = |line: String| text.push_str(&format!("      {line}\n"));
    match get("ip") {
        None => {}
        Some("dhcp") => say("- type: dhcp4".to_owned()),
        Some(ip) => {
            let (address, prefix) = ip.split_once('/').unwrap_or((ip, "32"));
            let prefix: u32 = prefix.parse().unwrap_or(32);
            let mask = Ipv4Addr::from(u32::MAX.checked_shl(32 - prefix.min(32)).unwrap_or(0));
            say("- type: static".to_owned());
            say(format!("  address: '{address}'"));
            say(format!("  netmask: '{mask}'"));
            if let Some(gateway) = get("gw") {
                say(format!("  gateway: '{gateway}'"));
            }
        }
    }
    match get("ip6") {
        None => {}
        Some("dhcp") => say("- type: dhcp6".to_owned()),
        Some("auto") => say("- type: ipv6_slaac".to_owned()),
        Some(ip) => {
            say("- type: static6".to_owned());
            say(format!("  address: '{ip}'"));
            if let Some(gateway) = get("gw6") {
                say(format!("  gateway: '{gateway}'"));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_is_written_for_each_family() {
        let text = subnets("ip=10.0.0.5/22,gw=10.0.0.1,ip6=auto");
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        assert_eq!(
            lines,
            [
                "- type: static",
                "address: '10.0.0.5'",
                "netmask: '255.255.252.0'",
                "gateway: '10.0.0.1'",
                "- type: ipv6_slaac",
            ]
        );
        assert_eq!(subnets("ip=dhcp").trim(), "- type: dhcp4");
    }

    #[test]
    fn a_name_without_a_dot_gets_the_search_domain() {
        let mut vm = Vm::new("pve1");
        vm.config.insert("name".to_owned(), "web".to_owned());
        assert!(
            user(&vm, 100, true).contains("hostname: web\nmanage_etc_hosts: true\nfqdn: web\n")
        );
        vm.config.insert("searchdomain".to_owned(), "test.lan".to_owned());
        assert!(user(&vm, 100, true).contains("fqdn: web.test.lan\n"));
        vm.config.insert("cipassword".to_owned(), "$5$salt$hash".to_owned());
        assert!(user(&vm, 100, true).contains("password: $5$salt$hash\n"));
        assert!(user(&vm, 100, false).contains("password: **********\n"));
        vm.config.insert("name".to_owned(), "web.other.lan".to_owned());
        assert!(
            user(&vm, 100, true).contains("hostname: web\nmanage_etc_hosts: true\nfqdn: web.other")
        );
    }
}
