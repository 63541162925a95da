//! The NoCloud seed as cloud-init reads it: meta-data, user-data, network-config version 2.
//!
//! Sources: cloud-init's documentation of the NoCloud datasource, of network-config version 2 and
//! of the modules' keys.

use std::borrow::Cow;
use std::net::Ipv4Addr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::iso;
use crate::world::Machine;

/// A parsed seed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seed {
    /// `instance-id`: a new one makes cloud-init run as on a first boot.
    pub instance_id: String,
    /// `local-hostname`.
    pub local_hostname: String,
    /// The cloud-config, or why it is not one.
    pub user_data: Result<Value, String>,
    /// The static network, if the seed configures one that matches the machine.
    pub network: Option<Network>,
}

/// A guest's network configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Its IPv4 address.
    pub address: Ipv4Addr,
    /// The prefix length.
    pub prefix: u8,
    /// The default route.
    pub gateway: Option<Ipv4Addr>,
    /// Name servers in order.
    pub nameservers: Vec<Ipv4Addr>,
    /// Search domains in order.
    pub search: Vec<String>,
}

/// A file in `write_files`.
#[derive(Clone, Debug, PartialEq)]
pub struct WriteFile {
    /// Absolute path.
    pub path: String,
    /// Its body.
    pub content: String,
    /// `0644` and the like.
    pub mode: String,
    /// `user:group`.
    pub owner: String,
    /// Whether the body is appended to the existing file.
    pub append: bool,
}

/// The unparsed documents of a seed; `None` if the image is not labelled `cidata`.
pub fn documents(image: &[u8]) -> Option<std::collections::BTreeMap<String, Vec<u8>>> {
    let image = iso::read(image)?;
    image.label.eq_ignore_ascii_case("cidata").then_some(image.files)
}

/// The seed that cloud-init uses on a machine.
///
/// Of several volumes with the label it uses the *last* by device name that has both documents
/// (cloudinit/sources/DataSourceNoCloud.py, `_get_devices`: sorted in reverse): `/dev/sr1` before
/// `/dev/sr0`.
pub fn taken<B: AsRef<[u8]>>(
    machine: &Machine,
    blob: impl Fn(&str) -> Option<B>,
    mac: &str,
) -> Option<Seed> {
    let images =
        machine.cdroms.iter().map(|id| blob(id).and_then(|image| read(image.as_ref(), mac)));
    let mut seeds: Vec<Option<Seed>> = images.collect();
    if let Some((before, documents)) = &machine.cloudinit {
        let text = |name: &str| documents.get(name).map(|text| Cow::Borrowed(text.as_str()));
        seeds.insert((*before).min(seeds.len()), of_documents(text, mac));
    }
    seeds.into_iter().rev().flatten().next()
}

/// Reads a seed from an ISO image; `None` if the image is not labelled `cidata` or lacks one of the two
/// documents that NoCloud requires.
fn read(image: &[u8], mac: &str) -> Option<Seed> {
    let image = iso::read(image)?;
    if !image.label.eq_ignore_ascii_case("cidata") {
        return None;
    }
    of_documents(|name| image.files.get(name).map(|body| String::from_utf8_lossy(body)), mac)
}

fn of_documents<'a>(text: impl Fn(&str) -> Option<Cow<'a, str>>, mac: &str) -> Option<Seed> {
    let meta: Value = serde_saphyr::from_str(&text("meta-data")?).ok()?;
    let user_data = cloud_config(&text("user-data")?);
    let network = text("network-config")
        .and_then(|text| serde_saphyr::from_str::<Value>(&text).ok())
        .and_then(|value| network(&value, mac));
    Some(Seed {
        instance_id: string(&meta["instance-id"]).unwrap_or_else(|| "iid-datasource".to_owned()),
        local_hostname: string(&meta["local-hostname"]).unwrap_or_default(),
        user_data,
        network,
    })
}

fn cloud_config(text: &str) -> Result<Value, String> {
    if text.lines().next().map(str::trim_end) != Some("#cloud-config") {
        return Err("Unhandled non-multipart (text/x-not-multipart) userdata".to_owned());
    }
    let value: Value = serde_saphyr::from_str(text)
        .map_err(|error| format!("Failed loading yaml blob. {error}"))?;
    if value.is_object() { Ok(value) } else { Err("cloud-config is not a mapping".to_owned()) }
}

fn network(value: &Value, mac: &str) -> Option<Network> {
    // Both forms are in use: with and without the outer `network` key.
    let value = if value["network"].is_object() { &value["network"] } else { value };
    match value["version"].as_u64() {
        Some(1) => return first_version(value, mac),
        Some(2) => {}
        _ => return None,
    }
    let card = value["ethernets"].as_object()?.iter().find_map(|(id, card)| {
        let named = card["match"]["name"].as_str();
        let addressed = card["match"]["macaddress"].as_str();
        let fits = match (named, addressed) {
            (None, None) => id == "eth0",
            (named, addressed) => {
                named.is_none_or(|glob| glob_fits(glob, "eth0"))
                    && addressed.is_none_or(|want| want.eq_ignore_ascii_case(mac))
            }
        };
        fits.then_some(card)
    })?;
    let (address, prefix) = card["addresses"].as_array()?.iter().find_map(|address| {
        let (address, prefix) = address.as_str()?.split_once('/')?;
        Some((address.parse().ok()?, prefix.parse().ok()?))
    })?;
    let gateway = card["routes"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|route| matches!(route["to"].as_str(), Some("default" | "0.0.0.0/0")))
        .and_then(|route| route["via"].as_str())
        .or_else(|| card["gateway4"].as_str())
        .and_then(|via| via.parse().ok());
    let strings = |key: &str| -> Vec<String> {
        card["nameservers"][key].as_array().into_iter().flatten().filter_map(string).collect()
    };
    let nameservers = strings("addresses").iter().filter_map(|text| text.parse().ok()).collect();
    Some(Network { address, prefix, gateway, nameservers, search: strings("search") })
}

/// The network in version 1 of the format, as Proxmox VE writes it.
fn first_version(value: &Value, mac: &str) -> Option<Network> {
    let items = value["config"].as_array()?;
    let card = items.iter().find(|item| {
        item["type"] == "physical"
            && item["mac_address"].as_str().is_some_and(|own| own.eq_ignore_ascii_case(mac))
    })?;
    let subnets = card["subnets"].as_array()?;
    let subnet = subnets.iter().find(|subnet| subnet["type"] == "static")?;
    let parse = |key: &str| subnet[key].as_str().and_then(|text| text.parse::<Ipv4Addr>().ok());
    let prefix = parse("netmask").map_or(24, |mask| mask.to_bits().leading_ones() as u8);
    let servers = items.iter().find(|item| item["type"] == "nameserver");
    let strings = |key: &str| -> Vec<String> {
        let listed = servers.and_then(|servers| servers[key].as_array());
        listed.into_iter().flatten().filter_map(string).collect()
    };
    let nameservers = strings("address").iter().filter_map(|text| text.parse().ok()).collect();
    Some(Network {
        address: parse("address")?,
        prefix,
        gateway: parse("gateway"),
        nameservers,
        search: strings("search"),
    })
}

fn glob_fits(glob: &str, name: &str) -> bool {
    match glob.split_once('*') {
        Some((before, after)) => name.starts_with(before) && name.ends_with(after),
        None => glob == name,
    }
}

/// A scalar as text: YAML writers differ in what they quote.
pub fn string(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// One command of `runcmd` or `bootcmd`: a list is an argv, a string goes to a shell.
pub fn command(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Array(words) => Some(words.iter().filter_map(string).collect()),
        Value::String(text) => Some(vec!["sh".to_owned(), "-c".to_owned(), text.clone()]),
        _ => None,
    }
}

/// A package of `packages` with the requested version.
pub fn package(value: &Value) -> Option<(String, Option<String>)> {
    match value {
        Value::String(text) => match text.split_once('=') {
            Some((name, version)) => Some((name.to_owned(), Some(version.to_owned()))),
            None => Some((text.clone(), None)),
        },
        Value::Array(pair) => Some((string(pair.first()?)?, pair.get(1).and_then(string))),
        _ => None,
    }
}

/// The files of `write_files`; `deferred` selects those that wait for packages and users.
pub fn files(config: &Value, deferred: bool) -> Vec<WriteFile> {
    let items = config["write_files"].as_array().map(Vec::as_slice).unwrap_or_default();
    items
        .iter()
        .filter(|item| item["defer"].as_bool().unwrap_or(false) == deferred)
        .filter_map(|item| {
            let content = string(&item["content"]).unwrap_or_default();
            let content = match item["encoding"].as_str() {
                Some("b64" | "base64") => {
                    let packed: String = content.split_whitespace().collect();
                    String::from_utf8_lossy(&STANDARD.decode(packed).ok()?).into_owned()
                }
                _ => content,
            };
            Some(WriteFile {
                path: string(&item["path"])?,
                content,
                mode: string(&item["permissions"]).unwrap_or_else(|| "0644".to_owned()),
                owner: string(&item["owner"]).unwrap_or_else(|| "root:root".to_owned()),
                append: item["append"].as_bool().unwrap_or(false),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<Network> {
        network(&serde_saphyr::from_str(text).unwrap(), "BC:24:11:00:00:01")
    }

    const STATIC: &str = "version: 2\nethernets:\n  id0:\n    match: {name: 'e*'}\n    \
        addresses: [10.101.1.101/24]\n    routes: [{to: default, via: 10.101.1.1}]\n    \
        nameservers: {addresses: [10.101.1.2], search: [kloud.lan]}\n";

    #[test]
    fn a_static_network_is_read() {
        let network = parsed(STATIC).unwrap();
        assert_eq!(network.address, Ipv4Addr::new(10, 101, 1, 101));
        assert_eq!(network.gateway, Some(Ipv4Addr::new(10, 101, 1, 1)));
        assert_eq!(network.search, ["kloud.lan"]);
    }

    #[test]
    fn a_network_written_by_proxmox_is_read() {
        let text = "version: 1\nconfig:\n    - type: physical\n      name: eth0\n      mac_address: \
            'bc:24:11:00:00:01'\n      subnets:\n      - type: static\n        address: '10.101.1.7'\n        \
            netmask: '255.255.254.0'\n        gateway: '10.101.1.1'\n    - type: nameserver\n      \
            address:\n      - '10.101.1.2'\n      search:\n      - 'kloud.lan'\n";
        let network = parsed(text).unwrap();
        assert_eq!((network.address, network.prefix), (Ipv4Addr::new(10, 101, 1, 7), 23));
        assert_eq!(network.search, ["kloud.lan"]);
        assert_eq!(parsed(&text.replace("00:01", "00:02")), None);
        assert_eq!(parsed("version: 1\nconfig: []\n"), None);
    }

    #[test]
    fn a_network_for_another_card_is_ignored() {
        assert_eq!(parsed(&STATIC.replace("'e*'", "'wl*'")), None);
        let other = STATIC.replace("{name: 'e*'}", "{macaddress: 'bc:24:11:00:00:02'}");
        assert_eq!(parsed(&other), None);
        let own = STATIC.replace("{name: 'e*'}", "{macaddress: 'bc:24:11:00:00:01'}");
        assert!(parsed(&own).is_some());
    }

    #[test]
    fn user_data_without_its_header_is_not_a_cloud_config() {
        assert!(cloud_config("hostname: a\n").is_err());
        assert!(cloud_config("#cloud-config\nhostname: a\n").is_ok());
        assert!(cloud_config("#cloud-config\nhostname: [a\n").is_err());
    }

    #[test]
    fn packages_may_carry_versions() {
        assert_eq!(
            package(&serde_json::json!(["kubeadm", "1.28.4-*"])),
            Some(("kubeadm".to_owned(), Some("1.28.4-*".to_owned())))
        );
        assert_eq!(package(&"socat".into()), Some(("socat".to_owned(), None)));
    }
}
