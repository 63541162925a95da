//! Named formats: `dns-name`, `pve-vmid`, `pve-ipv4-config`, …

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use super::{Schema, UNREADABLE};
use crate::pve::cpus;

/// An address with a prefix of at least eight bits; host bits may be set.
fn is_cidr<T: std::str::FromStr>(text: &str, longest: u8) -> bool {
    text.split_once('/').is_some_and(|(address, prefix)| {
        address.parse::<T>().is_ok()
            && prefix.parse().is_ok_and(|prefix: u8| (8..=longest).contains(&prefix))
    })
}

fn is_cidr4(text: &str) -> bool {
    is_cidr::<Ipv4Addr>(text, 32)
}

fn is_cidr6(text: &str) -> bool {
    is_cidr::<Ipv6Addr>(text, 128)
}

fn is_netmask(text: &str) -> bool {
    text.parse::<Ipv4Addr>()
        .map(u32::from)
        .is_ok_and(|mask| mask.leading_ones() + mask.trailing_zeros() == 32 || mask == u32::MAX)
}

/// `5`, `8-11`, joined with commas.
fn is_cpu_list(text: &str) -> bool {
    text.split(',').all(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<u32>();
        matches!((number(first), number(last)), (Ok(first), Ok(last)) if first <= last)
    })
}

fn is_startup_order(text: &str) -> bool {
    text.split(',').map(str::trim).all(|part| {
        let (key, value) = part.split_once('=').unwrap_or(("order", part));
        matches!(key, "order" | "up" | "down") && value.parse::<u32>().is_ok()
    })
}

fn is_hotplug(text: &str) -> bool {
    let known = ["network", "disk", "cpu", "memory", "usb", "cloudinit"];
    text == "0" || text == "1" || elements(text).all(|part| known.contains(&part))
}

fn is_vlan_range(text: &str) -> bool {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let tag = |text: &str| text.parse::<u16>().ok().filter(|tag| (2..=4094).contains(tag));
    match (tag(first), tag(last)) {
        (Some(first), Some(last)) => first < last || !text.contains('-'),
        _ => false,
    }
}

/// The elements of a list: split at `,`, `;`, white space and NUL.
fn elements(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| matches!(c, ',' | ';' | '\0') || c.is_whitespace())
        .filter(|part| !part.is_empty())
}

impl Schema {
    /// The error in a text of a named format, without the words `invalid format - `.
    pub(super) fn fault_of_format(&self, path: &str, name: &str, text: &str) -> Option<String> {
        if self.formats.is_empty() || self.opaque.iter().any(|opaque| opaque == name) {
            return None;
        }
        let Some(format) = self.formats.get(name) else {
            if let Some(one) = name.strip_suffix("-list") {
                return elements(text).find_map(|part| self.fault_of_format(path, one, part));
            }
            if let Some(one) = name.strip_suffix("-opt") {
                return if text.is_empty() { None } else { self.fault_of_format(path, one, text) };
            }
            return Some(format!("{UNREADABLE} the format `{name}`"));
        };
        if let Some(keys) = format["property_string"].as_object() {
            return self
                .fault_of_property_string(path, keys, text)
                .or_else(|| fault_of_cpu(name, text));
        }
        let length = text.chars().count() as u64;
        let bound = |bound: &str| format[bound].as_u64();
        let told = [
            (bound("minLength").is_some_and(|least| length < least), "error_short"),
            (bound("maxLength").is_some_and(|most| length > most), "error_long"),
        ];
        if let Some((_, error)) = told.iter().find(|(off, error)| *off && !format[*error].is_null())
        {
            return Some(filled(format[*error].as_str().unwrap_or_default(), text));
        }
        match self.has_format(name, format, text) {
            Some(true) => None,
            Some(false) => {
                let error = format["error"].as_str().unwrap_or("value has the wrong format");
                Some(filled(error, text))
            }
            None => Some(format!("{UNREADABLE} the format `{name}`")),
        }
    }

    /// Whether a text has a format; `None` if the format is unknown here.
    fn has_format(&self, name: &str, format: &Value, text: &str) -> Option<bool> {
        let length = text.chars().count() as u64;
        let short = format["minLength"].as_u64().is_some_and(|least| length < least);
        let long = format["maxLength"].as_u64().is_some_and(|most| length > most);
        if short || long {
            return Some(false);
        }
        if let Some(words) = format["enum"].as_array() {
            return Some(words.iter().any(|word| word == text));
        }
        match (name, format["regex"].as_str()) {
            ("CIDRv4", _) => Some(is_cidr4(text)),
            ("pve-vlan-id-or-range", _) => Some(is_vlan_range(text)),
            (_, Some(pattern)) => self.patterns.matches(pattern, text),
            (_, None) => self.means(name, text),
        }
    }

    fn is(&self, name: &str, text: &str) -> bool {
        self.fault_of_format("", name, text).is_none()
    }

    /// The formats that are described in words instead of by a pattern.
    fn means(&self, name: &str, text: &str) -> Option<bool> {
        Some(match name {
            "ip" => text.parse::<IpAddr>().is_ok(),
            "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
            "ipv4mask" => is_netmask(text),
            "CIDRv6" => is_cidr6(text),
            "CIDR" => is_cidr4(text) || is_cidr6(text),
            "address" | "pve-storage-server" => self.is("ip", text) || self.is("dns-name", text),
            "IPorCIDRorAlias" => {
                let name = text.trim_start_matches("dc/").trim_start_matches("guest/");
                let inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
                let alias = name.starts_with(|c: char| c.is_ascii_alphabetic())
                    && name.len() > 1
                    && name.chars().all(inner);
                alias || crate::pve::firewall::entry(text).is_ok()
            }
            "pve-cpuset" => is_cpu_list(text),
            "pve-hotplug-features" => is_hotplug(text),
            "pve-ipv4-config" => matches!(text, "dhcp" | "manual") || is_cidr4(text),
            "pve-ipv6-config" => matches!(text, "auto" | "dhcp" | "manual") || is_cidr6(text),
            "pve-priv" => self.privileges.iter().any(|privilege| privilege == text),
            "pve-startup-order" => is_startup_order(text),
            "pve-volume-id-or-absolute-path" => {
                text.starts_with('/') || self.is("pve-volume-id", text)
            }
            "pve-volume-id-or-qm-path" => {
                matches!(text, "none" | "cdrom")
                    || text.starts_with('/')
                    || self.is("pve-volume-id", text)
            }
            "storage-pair" => {
                text == "1" || text.splitn(2, ':').all(|id| self.is("pve-storage-id", id))
            }
            _ => return None,
        })
    }
}

/// The error in the name of a CPU type, which only Proxmox VE's code defines.
fn fault_of_cpu(name: &str, text: &str) -> Option<String> {
    if name != "pve-vm-cpu-conf" {
        return None;
    }
    let mut parts = text.split(',').filter_map(|part| match part.split_once('=') {
        None => Some(part),
        Some((key, value)) => (key == "cputype").then_some(value),
    });
    let model = parts.next().filter(|model| !cpus::is_known(model))?;
    Some(match model.strip_prefix("custom-") {
        Some(own) => format!("Custom cputype '{own}' not found"),
        None => format!("Built-in cputype '{model}' is not defined (missing 'custom-' prefix?)"),
    })
}

/// An error text with the value substituted for its Perl variable.
fn filled(error: &str, value: &str) -> String {
    let Some((before, after)) = error.split_once('$') else { return error.to_owned() };
    let rest = after.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
    format!("{before}{value}{rest}")
}
