//! `uname`, `hostname`, `ip`, `getent`, `cloud-init`.

use super::super::{Guests, cloudinit};
use super::{Call, Output};

/// `uname`, `hostname`, `id`, `whoami`.
pub fn names(call: &Call<'_>, user: &str) -> Output {
    let disk = &call.guest.disk;
    let kernel = call.guest.run.as_ref().map(|run| run.kernel.as_str()).unwrap_or_default();
    let user = if call.root { "root" } else { user };
    let text = match (call.argv[0], call.rest().first().copied()) {
        ("uname", Some("-r")) => kernel.to_owned(),
        ("uname", Some("-m")) => "x86_64".to_owned(),
        ("uname", _) => "Linux".to_owned(),
        ("hostname", Some("-f" | "--fqdn")) => {
            // getaddrinfo's result for the host name: /etc/hosts first.
            let hosts = call.guest.text("/etc/hosts").unwrap_or_default();
            let named = hosts.lines().find_map(|line| {
                let words: Vec<&str> = line.split('#').next()?.split_whitespace().skip(1).collect();
                words.contains(&disk.hostname.as_str()).then(|| words.first().copied()).flatten()
            });
            let domain = disk.network.as_ref().and_then(|network| network.search.first());
            match (named, domain) {
                (Some(name), _) => name.to_owned(),
                (None, Some(domain)) if call.resolve(&disk.hostname).is_some() => {
                    format!("{}.{domain}", disk.hostname)
                }
                _ => {
                    return Output::failed(1, "hostname: Name or service not known");
                }
            }
        }
        ("hostname", _) => disk.hostname.clone(),
        ("id", Some("-u")) => if user == "root" { "0" } else { "1000" }.to_owned(),
        _ => user.to_owned(),
    };
    Output::ok(format!("{text}\n"))
}

/// `cloud-init clean [--logs] [--reboot]`: the next boot is a first boot again.
pub fn cloud_init_clean(guests: &mut Guests, key: &str, words: &[String]) -> Output {
    if let Some(guest) = guests.all.get_mut(key) {
        guest.disk.instance_id = None;
        guest.disk.files.remove(cloudinit::TRUSTED);
        if words.iter().any(|word| word == "--logs") {
            guest.disk.files.remove("/var/log/cloud-init-output.log");
        }
    }
    if words.iter().any(|word| word == "--reboot") {
        return super::systemd::power(guests, key, true);
    }
    Output::ok("")
}

/// `ip -o -4 addr show`.
pub fn ip(call: &Call<'_>) -> Output {
    let mut text =
        "1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever preferred_lft forever\n"
            .to_owned();
    for (name, address, prefix) in call.guests.addresses(call.key, call.guests.now) {
        if name == "lo" {
            continue;
        }
        let broadcast = match prefix {
            32 => String::new(),
            prefix => {
                let host = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
                format!(" brd {}", std::net::Ipv4Addr::from_bits(address.to_bits() | host))
            }
        };
        text.push_str(&format!(
            "2: {name}    inet {address}/{prefix}{broadcast} scope global {name}\\       valid_lft \
             forever preferred_lft forever\n"
        ));
    }
    Output::ok(text)
}

/// `getent ahostsv4 NAME` and `getent hosts NAME`.
pub fn getent(call: &Call<'_>) -> Output {
    let [database, name, ..] = call.rest() else {
        return Output::failed(1, "getent: wrong arguments");
    };
    let Some(address) = call.resolve(name) else { return Output { code: 2, ..Output::ok("") } };
    Output::ok(match *database {
        "ahostsv4" | "ahosts" => {
            format!("{address:<15} STREAM {name}\n{address:<15} DGRAM  \n{address:<15} RAW    \n")
        }
        _ => format!("{address:<15} {name}\n"),
    })
}

/// `cloud-init status [--format json]`.
pub fn cloud_init(call: &Call<'_>) -> Output {
    if call.rest().first() != Some(&"status") {
        return Output::ok("");
    }
    let (value, code) = cloudinit::status(call.guest);
    let text = if call.has("json") {
        serde_json::to_string_pretty(&value).unwrap_or_default()
    } else {
        format!("status: {}", value["status"].as_str().unwrap_or_default())
    };
    Output { code, ..Output::ok(format!("{text}\n")) }
}

/// A command that needs root, run without it.
pub fn unprivileged(call: &Call<'_>) -> Output {
    let name = call.argv[0];
    match name {
        "systemctl" | "systemd-run" => Output::failed(
            1,
            "Failed to start transient service unit: Interactive authentication required.",
        ),
        "kubeadm" => Output::failed(
            1,
            "[preflight] Some fatal errors occurred:\n\t[ERROR IsPrivilegedUser]: \
            user is not running as root",
        ),
        "install" => Output::failed(1, "install: cannot create regular file: Permission denied"),
        "rm" => Output::failed(1, "rm: cannot remove: Permission denied"),
        "echo" | "true" | "sleep" => Output::ok(""),
        _ => Output::failed(1, format!("{name}: Permission denied")),
    }
}
