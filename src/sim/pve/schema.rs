//! What a call's parameters may be, and what Proxmox says when they are something else
//! (pve-common src/PVE/JSONSchema.pm).

use std::net::Ipv4Addr;

use super::wire::{Failure, Given, Params};

/// A parameter's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// `0` or `1`.
    Boolean,
}

/// A named format of a text parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Anything.
    Any,
    /// A VMID.
    VmId,
    /// A DNS name.
    DnsName,
    /// A storage id.
    StorageId,
    /// A pool id.
    PoolId,
    /// A node's name.
    Node,
    /// A user's name with its realm.
    UserId,
    /// A configuration section's id.
    ConfigId,
    /// A list of tags.
    Tags,
    /// A list, joined with commas when given as an array.
    List,
    /// A list of privileges.
    Privileges,
    /// Percent-encoded text.
    UrlEncoded,
    /// `net[n]`.
    Net,
    /// `ipconfig[n]`.
    IpConfig,
    /// Memory in MiB.
    Memory,
    /// `cpu`.
    Cpu,
    /// An `http` or `https` address.
    Url,
    /// A disk's new size.
    DiskSize,
    /// `boot`.
    Boot,
}

/// A parameter of a call.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    /// Its name; `net[31]` stands for `net0` to `net31`.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Whether it may be left out.
    pub optional: bool,
    /// Its format.
    pub format: Format,
    /// The smallest number.
    pub minimum: Option<i64>,
    /// The longest text, in characters.
    pub max_length: Option<usize>,
    /// The words that it may be.
    pub words: &'static [&'static str],
    /// Another parameter that must be there when this one is.
    pub requires: Option<&'static str>,
}

/// A parameter of a type that must be given.
pub const fn must(name: &'static str, kind: Kind) -> Param {
    Param {
        name,
        kind,
        optional: false,
        format: Format::Any,
        minimum: None,
        max_length: None,
        words: &[],
        requires: None,
    }
}

/// A parameter of a type that may be given.
pub const fn may(name: &'static str, kind: Kind) -> Param {
    Param { optional: true, ..must(name, kind) }
}

/// An optional text.
pub const fn text(name: &'static str) -> Param {
    may(name, Kind::Text)
}

/// An optional flag.
pub const fn flag(name: &'static str) -> Param {
    may(name, Kind::Boolean)
}

/// An optional whole number.
pub const fn integer(name: &'static str) -> Param {
    may(name, Kind::Integer)
}

impl Param {
    /// With a format.
    pub const fn of(self, format: Format) -> Self {
        Self { format, ..self }
    }

    /// With a least number.
    pub const fn min(self, minimum: i64) -> Self {
        Self { minimum: Some(minimum), ..self }
    }

    /// With a greatest length.
    pub const fn up_to(self, characters: usize) -> Self {
        Self { max_length: Some(characters), ..self }
    }

    /// One of these words.
    pub const fn one_of(self, words: &'static [&'static str]) -> Self {
        Self { words, ..self }
    }

    /// Only together with another.
    pub const fn with(self, other: &'static str) -> Self {
        Self { requires: Some(other), ..self }
    }

    /// Whether this parameter has that name.
    pub fn is(&self, name: &str) -> bool {
        let Some((stem, last)) = self.name.strip_suffix(']').and_then(|n| n.split_once('[')) else {
            return self.name == name;
        };
        let number = name
            .strip_prefix(stem)
            .filter(|number| number.len() == 1 || number.len() == 2 && !number.starts_with('0'));
        let number = number.and_then(|number| number.parse::<u32>().ok());
        number.zip(last.parse().ok()).is_some_and(|(number, last): (u32, u32)| number <= last)
    }

    fn check(&self, name: &str, value: &str) -> Result<(), String> {
        let kind = match self.kind {
            Kind::Text => None,
            Kind::Integer => value.parse::<i64>().is_err().then_some("integer"),
            Kind::Number => value.parse::<f64>().is_err().then_some("number"),
            Kind::Boolean => (value != "0" && value != "1").then_some("boolean"),
        };
        if let Some(kind) = kind {
            return Err(format!("type check ('{kind}') failed - got '{value}'"));
        }
        if self.format != Format::Any {
            format(self.format, name, value)?;
        }
        if let Some(least) = self.minimum
            && value.parse::<i64>().is_ok_and(|number| number < least)
        {
            return Err(format!("value must have a minimum value of {least}"));
        }
        if let Some(most) = self.max_length
            && value.chars().count() > most
        {
            return Err(format!("value may only be {most} characters long"));
        }
        if !self.words.is_empty() && !self.words.contains(&value) {
            let words = self.words.join(", ");
            return Err(format!(
                "value '{value}' does not have a value in the enumeration '{words}'"
            ));
        }
        Ok(())
    }
}

/// Checks parameters against what a call declares; arrays for lists become text.
///
/// # Errors
/// All complaints at once, by parameter.
pub fn check(params: &mut Params, declared: &[&[Param]]) -> Result<(), Failure> {
    // What a browser adds to get round its cache.
    params.0.remove("_dc");
    let all = || declared.iter().flat_map(|part| part.iter());
    let mut errors = Vec::new();
    for (name, given) in &mut params.0 {
        let Some(param) = all().find(|param| param.is(name)) else {
            let text = "property is not defined in schema and the schema does not allow additional \
                        properties";
            errors.push((name.clone(), text.to_owned()));
            continue;
        };
        if let Given::Many(values) = given {
            if matches!(param.format, Format::List | Format::Tags | Format::Privileges) {
                *given = Given::One(values.join(","));
            } else {
                let kind = format!("{:?}", param.kind).to_lowercase().replace("text", "string");
                let text = format!("type check ('{kind}') failed - got 'ARRAY(0x5581e6a3d2f8)'");
                errors.push((name.clone(), text));
                continue;
            }
        }
        if let Given::One(value) = given
            && let Err(text) = param.check(name, value)
        {
            errors.push((name.clone(), text));
        }
    }
    for param in all() {
        let there = params.0.contains_key(param.name);
        if !there && !param.optional {
            let text = "property is missing and it is not optional";
            errors.push((param.name.to_owned(), text.to_owned()));
        }
        if let Some(other) = param.requires.filter(|other| there && !params.0.contains_key(*other))
        {
            errors
                .push((other.to_owned(), format!("missing property required by '{}'", param.name)));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Failure::Parameters(errors)) }
}

fn format(format: Format, name: &str, value: &str) -> Result<(), String> {
    let invalid = |text: &str| Err(format!("invalid format - {text}\n"));
    let nested = |key: &str, text: &str| {
        Err(format!("invalid format - format error\n{name}.{key}: {text}\n"))
    };
    let label = |text: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
        !text.is_empty()
            && text.chars().all(inner)
            && !text.starts_with('-')
            && !text.ends_with('-')
    };
    let id = |text: &str| {
        text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
            && text.starts_with(|c: char| c.is_ascii_alphabetic())
    };
    match format {
        Format::Any | Format::List => Ok(()),
        Format::VmId => {
            let digits = (3..=9).contains(&value.len())
                && value.bytes().all(|b| b.is_ascii_digit())
                && !value.starts_with('0');
            if digits { Ok(()) } else { invalid("value does not look like a valid VM ID") }
        }
        Format::DnsName if value.split('.').all(label) => Ok(()),
        Format::DnsName => invalid("value does not look like a valid DNS name"),
        Format::Node if label(value) => Ok(()),
        Format::Node => invalid("value does not look like a valid node name"),
        Format::StorageId if value.len() < 2 => {
            invalid(&format!("storage ID '{value}' cannot be shorter than 2 characters"))
        }
        Format::StorageId if id(value) => Ok(()),
        Format::StorageId => invalid(&format!("storage ID '{value}' contains illegal characters")),
        Format::ConfigId if id(value) && value.len() > 1 => Ok(()),
        Format::ConfigId => invalid(&format!("invalid configuration ID '{value}'")),
        Format::PoolId => {
            let good = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
            if !value.is_empty() && value.chars().all(good) {
                return Ok(());
            }
            invalid(&format!("pool name '{value}' contains invalid characters"))
        }
        Format::UserId => match value.split_once('@') {
            Some((user, realm)) if !user.is_empty() && id(realm) => Ok(()),
            _ => invalid(&format!("value '{value}' does not look like a valid user name")),
        },
        Format::Tags => {
            let first = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let rest = |c: char| first(c) || "-+.".contains(c);
            let separator = |c: char| ",; \t\n\0".contains(c);
            let mut tags = value.split(separator).filter(|tag| !tag.is_empty());
            if tags.all(|tag| tag.starts_with(first) && tag.chars().all(rest)) {
                return Ok(());
            }
            invalid("invalid characters in tag")
        }
        Format::Privileges => {
            let mut names = value.split([',', ';', ' ']).filter(|name| !name.is_empty());
            match names.find(|name| !super::access::PRIVILEGES.contains(name)) {
                Some(name) => invalid(&format!("invalid privilege '{name}'")),
                None => Ok(()),
            }
        }
        Format::UrlEncoded => {
            let good = |c: char| c.is_ascii_alphanumeric() || "-%_.!~*'()".contains(c);
            if value.chars().all(good) {
                return Ok(());
            }
            invalid(&format!("invalid urlencoded string: {value}"))
        }
        Format::Net => {
            let mut parts = value.split(',');
            let model = parts.next().unwrap_or_default();
            let model = model.strip_prefix("model=").unwrap_or(model);
            let model = model.split_once('=').map_or(model, |(model, _)| model);
            if MODELS.contains(&model) || value.split(',').any(|part| part.starts_with("model=")) {
                return Ok(());
            }
            let models = MODELS.join(", ");
            let text =
                format!("value '{model}' does not have a value in the enumeration '{models}'");
            nested("model", &text)
        }
        Format::IpConfig => ip_config(name, value).or_else(|(key, text)| nested(key, &text)),
        Format::Memory => {
            let text = value.strip_prefix("current=").unwrap_or(value);
            match text.parse::<i64>() {
                Ok(number) if number >= 16 => Ok(()),
                Ok(_) => nested("current", "value must have a minimum value of 16"),
                Err(_) => {
                    nested("current", &format!("type check ('integer') failed - got '{text}'"))
                }
            }
        }
        Format::Cpu => {
            let model = value.split(',').next().unwrap_or_default();
            let model = model.strip_prefix("cputype=").unwrap_or(model);
            let known = ["host", "kvm64", "max", "qemu64"].contains(&model)
                || ["x86-64-v", "EPYC", "Skylake", "Icelake", "Haswell", "Broadwell"]
                    .iter()
                    .any(|family| model.starts_with(family));
            if known {
                return Ok(());
            }
            invalid(&format!(
                "Built-in cputype '{model}' is not defined (missing 'custom-' prefix?)"
            ))
        }
        Format::Url => {
            let known = value.starts_with("http://") || value.starts_with("https://");
            if known { Ok(()) } else { Err("value does not match the regex pattern".to_owned()) }
        }
        Format::DiskSize => {
            let number = value.strip_prefix('+').unwrap_or(value);
            let number = number.strip_suffix(['K', 'M', 'G', 'T']).unwrap_or(number);
            let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
            if digits(whole) && digits(part) {
                return Ok(());
            }
            Err("value does not match the regex pattern".to_owned())
        }
        Format::Boot => {
            let parts = value.split(',');
            let known = |part: &str| {
                part.starts_with("order=")
                    || part
                        .strip_prefix("legacy=")
                        .unwrap_or(part)
                        .chars()
                        .all(|c| "acdn".contains(c))
            };
            match parts.into_iter().find(|part| !known(part)) {
                None => Ok(()),
                Some(_) => nested("legacy", "value does not match the regex pattern"),
            }
        }
    }
}

/// The models of network cards.
const MODELS: [&str; 14] = [
    "e1000",
    "e1000-82540em",
    "e1000-82544gc",
    "e1000-82545em",
    "e1000e",
    "i82551",
    "i82557b",
    "i82559er",
    "ne2k_isa",
    "ne2k_pci",
    "pcnet",
    "rtl8139",
    "virtio",
    "vmxnet3",
];

fn ip_config(name: &str, value: &str) -> Result<(), (&'static str, String)> {
    let pairs: Vec<_> = value.split(',').filter_map(|part| part.split_once('=')).collect();
    let get = |key: &str| pairs.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
    if let Some(ip) = get("ip").filter(|ip| *ip != "dhcp") {
        let good = ip.split_once('/').is_some_and(|(address, prefix)| {
            address.parse::<Ipv4Addr>().is_ok()
                && prefix.parse::<u8>().is_ok_and(|prefix| (8..=32).contains(&prefix))
        });
        if !good {
            let text =
                "invalid format - value does not look like a valid ipv4 network configuration\n";
            return Err(("ip", text.to_owned()));
        }
    }
    if let Some(gateway) = get("gw") {
        if gateway.parse::<Ipv4Addr>().is_err() {
            let text = "invalid format - value does not look like a valid ipv4 address\n";
            return Err(("gw", text.to_owned()));
        }
        if get("ip").is_none() {
            return Err(("ip", format!("missing property required by '{name}.gw'")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::pve::wire::read_form;

    const SOME: &[Param] = &[
        integer("cores").min(1),
        flag("onboot"),
        text("net[31]").of(Format::Net),
        text("tags").of(Format::Tags),
        must("newid", Kind::Integer).of(Format::VmId),
        text("checksum").with("checksum-algorithm"),
        text("checksum-algorithm").one_of(&["sha256", "sha512"]),
    ];

    fn said(form: &str) -> String {
        let mut params = read_form(form);
        match check(&mut params, &[SOME]) {
            Ok(()) => String::new(),
            Err(Failure::Parameters(all)) => {
                all.into_iter().map(|(name, text)| format!("{name}: {}", text.trim())).collect()
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_wrong_parameter_is_told_in_proxmox_words() {
        for (form, text) in [
            ("newid=100&cores=0", "cores: value must have a minimum value of 1"),
            ("newid=100&cores=abc", "cores: type check ('integer') failed - got 'abc'"),
            ("newid=100&onboot=true", "onboot: type check ('boolean') failed - got 'true'"),
            ("newid=50", "newid: invalid format - value does not look like a valid VM ID"),
            ("", "newid: property is missing and it is not optional"),
            ("newid=100&checksum=x", "checksum-algorithm: missing property required by 'checksum'"),
            ("newid=100&tags=a%2Fb", "tags: invalid format - invalid characters in tag"),
            ("newid=100&net31=virtio", ""),
        ] {
            assert_eq!(said(form), text, "{form}");
        }
        assert!(said("newid=100&net32=virtio").starts_with("net32: property is not defined"));
        assert!(said("newid=100&net0=foo").contains("net0.model: value 'foo' does not have"));
        assert!(said("newid=100&cores=1&cores=2").contains("type check ('integer')"));
    }

    #[test]
    fn ip_configurations_are_checked_inside() {
        assert!(ip_config("ipconfig0", "ip=10.0.0.3/24,gw=10.0.0.1").is_ok());
        assert!(ip_config("ipconfig0", "ip=dhcp").is_ok());
        for bad in ["ip=10.0.0.300/24", "ip=10.0.0.3", "gw=10.0.0.1"] {
            assert_eq!(ip_config("ipconfig0", bad).unwrap_err().0, "ip", "{bad}");
        }
        let (_, text) = ip_config("ipconfig3", "gw=10.0.0.1").unwrap_err();
        assert_eq!(text, "missing property required by 'ipconfig3.gw'");
    }
}
