//! How haproxy and keepalived parse their configuration files.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

/// haproxy's file.
pub const HAPROXY: &str = "/etc/haproxy/haproxy.cfg";
/// keepalived's file.
pub const KEEPALIVED: &str = "/etc/keepalived/keepalived.conf";

/// The address and port of a frontend, and its servers.
#[derive(Clone, Debug, PartialEq)]
pub struct Frontend {
    /// The address that it binds; `None` for all.
    pub address: Option<Ipv4Addr>,
    /// The port.
    pub port: u16,
    /// The servers behind it.
    pub servers: Vec<SocketAddrV4>,
}

/// A VRRP instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Vrrp {
    /// The addresses that its master holds.
    pub addresses: Vec<Ipv4Addr>,
    /// Its priority.
    pub priority: u8,
    /// Whether it tracks a script (k8sha's script checks haproxy).
    pub tracks: bool,
}

/// Parses haproxy's configuration from the file `path`.
///
/// # Errors
/// haproxy's messages about it.
pub fn haproxy(path: &str, text: &str) -> Result<Vec<Frontend>, String> {
    #[derive(Default)]
    struct Section {
        binds: Vec<(Option<Ipv4Addr>, u16)>,
        leads: Option<(String, usize)>,
        servers: Vec<SocketAddrV4>,
    }
    let mut sections: BTreeMap<String, Section> = BTreeMap::new();
    let mut name = String::new();
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line)) {
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        let complaint = |what: String| format!("config : parsing [{path}:{number}] : {what}");
        match words.as_slice() {
            [] => {}
            [kind @ ("global" | "defaults" | "frontend" | "backend" | "listen"), rest @ ..]
                if !line.starts_with([' ', '\t']) =>
            {
                name = match (*kind, rest.first()) {
                    ("frontend" | "backend" | "listen", None) => {
                        return Err(complaint(format!("'{kind}' expects an <id> as argument.")));
                    }
                    (_, first) => format!("{kind} {}", first.copied().unwrap_or_default()),
                };
                sections.entry(name.clone()).or_default();
            }
            [word, ..] if name.is_empty() => {
                return Err(complaint(format!("unknown keyword '{word}' out of section.")));
            }
            ["bind", to, ..] => {
                let bound = to.rsplit_once(':').and_then(|(address, port)| {
                    let port = port.parse().ok()?;
                    match address {
                        "" | "*" | "::" | "[::]" | "0.0.0.0" => Some((None, port)),
                        address => Some((Some(address.parse().ok()?), port)),
                    }
                });
                let bound = bound.ok_or_else(|| {
                    complaint(format!("'bind' : invalid address: '{to}' in '{to}'"))
                })?;
                sections.entry(name.clone()).or_default().binds.push(bound);
            }
            ["default_backend" | "use_backend", to, ..] => {
                sections.entry(name.clone()).or_default().leads = Some(((*to).to_owned(), number));
            }
            ["server", id, to, ..] => {
                let to = to.parse().map_err(|_| {
                    complaint(format!("'server {id}' : could not resolve address '{to}'."))
                })?;
                sections.entry(name.clone()).or_default().servers.push(to);
            }
            ["server", ..] => {
                return Err(format!(
                    "config : [{path}:{number}] : 'server' expects <name> and <addr>[:<port>] as \
                     arguments."
                ));
            }
            _ => {}
        }
    }
    let mut frontends = Vec::new();
    for (name, section) in &sections {
        let servers = match &section.leads {
            Some((backend, _)) => match sections.get(&format!("backend {backend}")) {
                Some(found) => found.servers.clone(),
                None => {
                    return Err(format!(
                        "config : Proxy '{}': unable to find required default_backend: '{backend}'.",
                        name.split_once(' ').map_or(name.as_str(), |(_, id)| id)
                    ));
                }
            },
            None => section.servers.clone(),
        };
        for (address, port) in &section.binds {
            let servers = servers.clone();
            frontends.push(Frontend { address: *address, port: *port, servers });
        }
    }
    Ok(frontends)
}

/// keepalived's error about its configuration: unbalanced braces.
pub fn keepalived_fault(text: &str) -> Option<String> {
    let lines = text.lines().map(|line| line.split(['#', '!']).next().unwrap_or_default());
    let (open, closed) = lines.fold((0i32, 0i32), |(open, closed), line| {
        let count = |brace| line.matches(brace).count() as i32;
        (open + count('{'), closed + count('}'))
    });
    match open - closed {
        0 => None,
        more @ 1.. => Some(format!("There are {more} missing '}}'s or extra '{{'s")),
        fewer => Some(format!("There are {} missing '{{'s or extra '}}'s", -fewer)),
    }
}

/// Parses keepalived's configuration.
pub fn keepalived(text: &str) -> Vec<Vrrp> {
    let mut instances = Vec::new();
    let mut blocks: Vec<String> = Vec::new();
    for line in text.lines() {
        let line = line.split(['#', '!']).next().unwrap_or_default().trim();
        let Some(first) = line.split_whitespace().next() else { continue };
        let inside = blocks.last().map(String::as_str).unwrap_or_default();
        if line.ends_with('{') {
            if first == "vrrp_instance" {
                instances.push(Vrrp { addresses: Vec::new(), priority: 100, tracks: false });
            }
            blocks.push(first.trim_end_matches('{').to_owned());
        } else if line == "}" {
            blocks.pop();
        } else if let Some(instance) = instances.last_mut() {
            match inside {
                "virtual_ipaddress" => {
                    let address = first.split('/').next().unwrap_or_default();
                    instance.addresses.extend(address.parse::<Ipv4Addr>());
                }
                "track_script" => instance.tracks = true,
                "vrrp_instance" if first == "priority" => {
                    let value = line.split_whitespace().nth(1).and_then(|word| word.parse().ok());
                    instance.priority = value.unwrap_or(instance.priority);
                }
                _ => {}
            }
        }
    }
    instances
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frontend_leads_to_its_backends_servers() {
        let text = "global\n  daemon\ndefaults\n  mode tcp\nfrontend api\n  bind *:6443\n  \
            default_backend masters\nbackend masters\n  option httpchk\n  \
            server m1 10.101.1.101:6443 check check-ssl verify none\n";
        let frontends = haproxy(HAPROXY, text).unwrap();
        assert_eq!(frontends[0].port, 6443);
        assert_eq!(frontends[0].servers, ["10.101.1.101:6443".parse().unwrap()]);
    }

    #[test]
    fn a_missing_backend_is_a_fatal_error_of_haproxy() {
        let text = "frontend api\n bind *:6443\n default_backend missing\n";
        assert!(
            haproxy(HAPROXY, text).unwrap_err().contains("unable to find required default_backend")
        );
    }

    #[test]
    fn a_vrrp_instance_is_read() {
        let text = "global_defs {\n  vrrp_version 3\n}\nvrrp_script haproxy {\n  interval 1\n}\n\
            vrrp_instance k8s1 {\n  state BACKUP\n  priority 101\n  unicast_peer {\n    10.101.1.12\n\
            }\n  virtual_ipaddress {\n    10.101.1.10/32 dev eth0\n  }\n  track_script {\n    \
            haproxy\n  }\n}\n";
        let wanted =
            Vrrp { addresses: vec![Ipv4Addr::new(10, 101, 1, 10)], priority: 101, tracks: true };
        assert_eq!(keepalived(text), [wanted]);
    }
}
