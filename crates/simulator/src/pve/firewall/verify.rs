//! Validates rules (pve-firewall src/PVE/Firewall.pm, `verify_rule`).

use super::Fields;
use super::spec::{self, Wrong};
use crate::pve::wire::Failure;

/// The owner of the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Env {
    /// A node's.
    Host,
    /// A VM's.
    Vm,
}

impl Env {
    fn name(self) -> &'static str {
        match self {
            Env::Host => "host",
            Env::Vm => "vm",
        }
    }
}

/// The error in a parameter.
fn refusal(name: &str, start: &str, wrong: Wrong) -> Failure {
    match wrong {
        Wrong::Said(text) => Failure::parameter(name, format!("{start}{text}")),
        Wrong::Unknown(text) => Failure::Die(text),
    }
}

/// Checks the parameters of a call that creates or changes a rule, each by itself.
///
/// # Errors
/// 400, or 500 for names that a simulated host has no file for.
pub fn formats(given: &Fields) -> Result<(), Failure> {
    for (name, text) in given.iter().filter(|(_, text)| !text.is_empty()) {
        let found = match name.as_str() {
            "source" | "dest" => spec::addresses(text).map(|_| ()),
            "sport" | "dport" => spec::ports(text),
            "proto" => spec::protocol(text),
            "icmp-type" if !spec::is_icmp_type(text, None) => {
                Err(Wrong::Said(format!("invalid icmp-type value '{text}'\n")))
            }
            _ => Ok(()),
        };
        found.map_err(|wrong| refusal(name, "invalid format - ", wrong))?;
    }
    Ok(())
}

/// Checks a whole rule, and records its IP version if the rule determines one.
///
/// # Errors
/// 400, or 500 for names that a simulated host has no file for.
pub fn verify(rule: &mut Fields, env: Env, has_set: impl Fn(&str) -> bool) -> Result<(), Failure> {
    let wrong = |name: &str, text: String| Err(Failure::parameter(name, text));
    let get = |name: &str| rule.get(name).map(String::as_str).filter(|text| !text.is_empty());
    let (Some(kind), Some(action)) = (get("type"), get("action")) else {
        let name = if get("type").is_none() { "type" } else { "action" };
        return wrong(name, "missing property".to_owned());
    };
    if kind == "forward" && env == Env::Vm {
        return wrong("type", format!("invalid rule type '{kind}' for rule_env '{}'", env.name()));
    }
    if kind == "forward" && action == "REJECT" {
        return wrong("action", "cannot define REJECT rules on forward chain".to_owned());
    }
    if kind != "group" && !["ACCEPT", "DROP", "REJECT"].contains(&action) {
        return wrong("action", format!("unknown action '{action}'"));
    }
    let net = |iface: &str| {
        let digits = iface.strip_prefix("net").unwrap_or_default();
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    if get("iface").is_some_and(|iface| env == Env::Vm && !net(iface)) {
        return wrong("iface", "value does not match the regex pattern 'net\\d+'".to_owned());
    }
    if let Some(name) = get("macro") {
        return Err(Failure::Die(format!("the simulator knows no firewall macro '{name}'")));
    }
    let protocol = get("proto").unwrap_or_default();
    let icmp = spec::is_icmp(protocol);
    let mut version = match protocol {
        "icmp" => Some(4),
        "icmpv6" | "ipv6-icmp" => Some(6),
        _ => None,
    };
    for name in ["dport", "sport"] {
        if get(name).is_none() {
            continue;
        }
        if protocol.is_empty() {
            return wrong("proto", format!("missing property - '{name}' requires this property"));
        }
        if !(spec::has_ports(protocol) || icmp && name == "dport") {
            return wrong(name, format!("protocol '{protocol}' does not support ports"));
        }
        // The ICMP type comes between the two.
        if name == "dport"
            && let Some(icmp_type) = get("icmp-type")
        {
            icmp_fits(icmp_type, protocol, true)?;
        }
    }
    if let Some(icmp_type) = get("icmp-type") {
        icmp_fits(icmp_type, protocol, get("dport").is_some())?;
    }
    for name in ["source", "dest"] {
        let Some(text) = get(name) else { continue };
        let of = spec::addresses(text).map_err(|wrong| refusal(name, "", wrong))?;
        if let (Some(one), Some(other)) = (version, of)
            && one != other
        {
            return wrong(name, "detected mixed ipv4/ipv6 addresses in rule".to_owned());
        }
        version = version.or(of);
        if text.starts_with('+') {
            match spec::set_of(text) {
                None => return wrong(name, format!("invalid ipset name '{text}'")),
                Some(set) if !has_set(set) => {
                    return wrong(name, format!("no such ipset '{set}'"));
                }
                Some(_) => {}
            }
        } else if spec::is_alias(text) {
            // The simulator has no call that creates one.
            return wrong(name, format!("no such alias '{text}'"));
        }
    }
    match version {
        Some(version) => drop(rule.insert("ipversion".to_owned(), version.to_string())),
        None => drop(rule.remove("ipversion")),
    }
    Ok(())
}

fn icmp_fits(icmp_type: &str, protocol: &str, with_port: bool) -> Result<(), Failure> {
    if !spec::is_icmp(protocol) {
        let text = "missing property - 'icmp-type' requires this property";
        return Err(Failure::parameter("proto", text));
    }
    if with_port {
        let text = "'icmp-type' cannot be specified together with 'dport'";
        return Err(Failure::parameter("icmp-type", text));
    }
    if !spec::is_icmp_type(icmp_type, Some(protocol)) {
        let text = format!("invalid icmp-type '{icmp_type}' for proto '{protocol}'");
        return Err(Failure::parameter("icmp-type", text));
    }
    Ok(())
}
