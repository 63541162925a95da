//! A node's information besides its status: names, hardware, figures over time (pve-manager
//! PVE/API2/Nodes.pm and the modules below it).

use serde_json::{Value, json};

use super::cluster::used_memory;
use super::membership::NO_CEPH;
use super::nodes::address;
use super::{Answer, Ask, Call, Permit, Run};
use crate::pve::internet::{self, Found};
use crate::pve::nic;
use crate::pve::pace;
use crate::pve::resolver::Resolver;
use crate::pve::wire::{Body, Failure};
use crate::pve::work::Work;
use crate::store::Store;
use crate::world::World;

const AUDIT: Permit = Permit::One("/nodes/{node}", &["Sys.Audit"]);

/// The calls of this module.
pub const CALLS: &[Call] = &[
    Call {
        method: "GET",
        path: "/nodes/{node}/dns",
        permit: AUDIT,
        run: Run::Read(|world, ask| {
            let found = Resolver::of(ask.dc(world).hosts.get(&ask.node), &world.site);
            let servers = (1..=3).zip(found.servers);
            let mut value: serde_json::Map<_, _> =
                servers.map(|(place, server)| (format!("dns{place}"), json!(server))).collect();
            // The first of several domains.
            if let Some(search) = found.search.split_whitespace().next() {
                value.insert("search".to_owned(), json!(search));
            }
            Ok(value.into())
        }),
    },
    Call {
        method: "PUT",
        path: "/nodes/{node}/dns",
        permit: Permit::One("/nodes/{node}", &["Sys.Modify"]),
        run: Run::Write(set_resolver),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/hosts",
        permit: AUDIT,
        run: Run::Read(|world, ask| {
            let line = |(name, host): (&String, &crate::pve::state::Host)| {
                let domain = &world.site.domain;
                format!("{} {name}.{domain} {name}\n", address(world, name, host.number))
            };
            let lines: String = ask.dc(world).hosts.iter().map(line).collect();
            let text = format!("127.0.0.1 localhost\n{lines}");
            Ok(json!({"data": text, "digest": super::digest_of(&text)}))
        }),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/sdn/zones/{zone}/bridges",
        permit: Permit::One("/sdn/zones/{zone}", &["SDN.Audit"]),
        run: Run::Read(|world, ask| {
            let Some(host) = ask.dc(world).hosts.get(&ask.node) else { return Ok(Value::Null) };
            let bridge = |(place, name): (usize, &String)| {
                let written = host.interfaces.as_ref().and_then(|all| all.get(name));
                let aware = written.is_some_and(|one| one.contains_key("bridge_vlan_aware"));
                let own = written.map(|one| one["bridge_ports"].as_str().unwrap_or_default());
                let ports = own.map_or_else(|| host.port(place), str::to_owned);
                let ports = ports.split_whitespace().map(|port| json!({"name": port}));
                json!({"name": name, "vlan_filtering": u8::from(aware),
                       "ports": ports.collect::<Vec<_>>()})
            };
            Ok(host.bridges.iter().enumerate().map(bridge).collect())
        }),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/capabilities/qemu/cpu-flags",
        permit: Permit::User,
        run: Run::Read(|_, _| Ok(crate::pve::cpus::flags())),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/capabilities/qemu/machines",
        permit: Permit::User,
        run: Run::Read(|_, _| Ok(crate::pve::cpus::machines())),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/capabilities/qemu/migration",
        permit: AUDIT,
        run: Run::Read(|_, _| Ok(json!({"has-dbus-vmstate": 1}))),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/apt/versions",
        permit: AUDIT,
        run: Run::Read(|_, _| {
            Ok(Value::Array(vec![
                package("pve-manager", "9.2.11"),
                package("qemu-server", "9.2.6"),
                package("pve-qemu-kvm", "10.1.2-1"),
            ]))
        }),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/subscription",
        permit: Permit::User,
        run: Run::Read(|_, _| {
            Ok(json!({"status": "notfound", "message": "There is no subscription key",
                      "url": "https://www.proxmox.com/en/proxmox-virtual-environment/pricing"}))
        }),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/config",
        permit: AUDIT,
        run: Run::Read(|_, _| Ok(json!({}))),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/disks/list",
        permit: Permit::One("/", &["Sys.Audit"]),
        run: Run::Read(|_, _| {
            Ok(json!([{"devpath": "/dev/sda", "type": "ssd", "used": "LVM", "size": 256u64 << 30,
                       "model": "Simulated", "serial": "unknown", "vendor": "QEMU", "gpt": 1,
                       "rpm": 0, "wwn": "unknown", "health": "PASSED", "wearout": "N/A",
                       "osdid": -1, "osdid-list": null}]))
        }),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/hardware/pci",
        permit: Permit::User,
        run: Run::Read(|_, _| {
            Ok(json!([{"id": "0000:00:01.0", "class": "0x020000", "device": "0x1041",
                       "device_name": "Virtio 1.0 network device", "vendor": "0x1af4",
                       "vendor_name": "Red Hat, Inc.", "subsystem_device": "0x1041",
                       "subsystem_vendor": "0x1af4", "subsystem_vendor_name": "Red Hat, Inc.",
                       "iommugroup": -1}]))
        }),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/scan/lvm",
        permit: Permit::One("/storage", &["Datastore.Allocate"]),
        run: Run::Read(|world, ask| {
            let (there, _) = volume_group(world, ask);
            Ok(there.then(|| json!({"vg": "pve"})).into_iter().collect())
        }),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/scan/lvmthin",
        permit: Permit::One("/storage", &["Datastore.Allocate"]),
        run: Run::Read(|world, ask| {
            let there = ask.text("vg") == "pve" && volume_group(world, ask).1;
            Ok(there.then(|| json!({"lv": "data"})).into_iter().collect())
        }),
    },
    Call { method: "GET", path: "/nodes/{node}/netstat", permit: AUDIT, run: Run::Read(netstat) },
    Call {
        method: "GET",
        path: "/nodes/{node}/rrddata",
        permit: AUDIT,
        run: Run::Read(|world, ask| {
            let dc = ask.dc(world);
            let Some(host) = dc.hosts.get(&ask.node) else { return Ok(Value::Null) };
            let (total, used) = (host.memory_mib << 20, used_memory(dc, &ask.node));
            Ok(over_time(world, ask, |time| {
                json!({"time": time, "cpu": 0.05, "maxcpu": host.cpus, "iowait": 0, "loadavg": 0.1,
                       "memtotal": total, "memused": total / 10 + used,
                       "memavailable": total - total / 10 - used, "swaptotal": 0, "swapused": 0,
                       "roottotal": 100u64 << 30, "rootused": 10u64 << 30, "netin": 0, "netout": 0,
                       "arcsize": 0, "pressurecpusome": 0, "pressureiofull": 0,
                       "pressureiosome": 0, "pressurememoryfull": 0, "pressurememorysome": 0})
            }))
        }),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/qemu/{vmid}/rrddata",
        permit: Permit::One("/vms/{vmid}", &["VM.Audit"]),
        run: Run::Read(|world, ask| {
            let vm = super::vms::vm(world, ask)?;
            let cpus = ask.dc(world).shown_vcpus(vm);
            Ok(over_time(world, ask, |time| {
                json!({"time": time, "cpu": 0, "maxcpu": cpus, "mem": 0, "memhost": 0,
                       "maxmem": vm.memory_mib() << 20, "disk": 0, "diskread": 0, "diskwrite": 0,
                       "maxdisk": super::cluster::boot_disk_bytes(vm), "netin": 0, "netout": 0})
            }))
        }),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/syslog",
        permit: Permit::One("/nodes/{node}", &["Sys.Syslog"]),
        run: Run::List(|_, _| {
            Ok(Body {
                data: json!([{"n": 1, "t": "-- No entries --"}]),
                total: Some(1),
                file: None,
            })
        }),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/ceph/status",
        permit: AUDIT,
        run: Run::Read(|_, _| Err(Failure::die(NO_CEPH))),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/vzdump/defaults",
        permit: Permit::User,
        run: Run::Read(|_, ask| {
            let id = ask.params.text("storage").unwrap_or("local");
            let text = format!("can't use storage '{id}' for backups - wrong content type");
            Err(Failure::Die(text))
        }),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/query-url-metadata",
        permit: Permit::Check(may_reach_out),
        run: Run::Read(url_metadata),
    },
    Call {
        method: "POST",
        path: "/nodes/{node}/vzdump",
        permit: Permit::User,
        run: Run::Write(vzdump),
    },
];

/// Whether a node has the volume group that contains every simulated LVM storage, and its thin pool.
fn volume_group(world: &World, ask: &Ask) -> (bool, bool) {
    let here = |kind: &str| {
        let mut all = ask.dc(world).storages.values();
        all.any(|storage| storage.kind == kind && storage.size.contains_key(&ask.node))
    };
    (here("lvm") || here("lvmthin"), here("lvmthin"))
}

fn package(name: &str, version: &str) -> Value {
    json!({"Package": name, "Title": name, "Description": name, "Version": version,
           "OldVersion": version, "Arch": "amd64", "Section": "admin", "Priority": "optional",
           "Origin": "Proxmox", "CurrentState": "Installed"})
}

/// A setting that is not sent again is removed.
fn set_resolver(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    let mut servers: Vec<String> = Vec::new();
    for name in ["dns1", "dns2", "dns3"] {
        let server = ask.text(name);
        if !["", "0.0.0.0"].contains(&server) && !servers.iter().any(|known| known == server) {
            servers.push(server.to_owned());
        }
    }
    let resolver = Resolver { search: ask.text("search").to_owned(), servers };
    if let Some(host) = ask.dc_mut(world).hosts.get_mut(&ask.node) {
        host.resolver = Some(resolver);
    }
    Ok(Value::Null)
}

fn netstat(world: &World, ask: &Ask) -> Answer {
    let running =
        ask.dc(world).vms.iter().filter(|(_, vm)| vm.host == ask.node && vm.running.is_some());
    Ok(running
        .flat_map(|(vmid, vm)| {
            let nets = vm.config.keys().filter(|key| nic::is_net(key));
            nets.map(
                move |net| json!({"vmid": vmid.to_string(), "dev": net, "in": "0", "out": "0"}),
            )
        })
        .collect())
}

/// Figures for each minute of the last hour, or for as many steps of a longer period.
fn over_time(world: &World, ask: &Ask, at: impl Fn(i64) -> Value) -> Value {
    let step = match ask.text("timeframe") {
        "hour" => 60,
        "day" => 1800,
        "week" => 10_800,
        "month" => 43_200,
        _ => 604_800,
    };
    let last = world.unix() / step * step;
    (0..70).rev().map(|back| at(last - back * step)).collect()
}

/// Privileges to make a node connect to other hosts.
pub fn may_reach_out(world: &World, ask: &Ask) -> Result<(), Failure> {
    let network = ask.may(world, &format!("/nodes/{}", ask.node), &["Sys.AccessNetwork"])
        || ask.may(world, "/", &["Sys.Audit"]) && ask.may(world, "/", &["Sys.Modify"]);
    // Alternative checks fail with the bare text.
    let refused = || Failure::Forbidden("Permission check failed".to_owned());
    if network { Ok(()) } else { Err(refused()) }
}

fn url_metadata(world: &World, ask: &Ask) -> Answer {
    let url = ask.text("url");
    let failed = |text: String| Err(Failure::Die(format!("invalid server response: '{text}'")));
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default();
    let (size, kind) = match internet::visit(url) {
        Found::NoName(host) => {
            let port = if url.starts_with("https:") { 443 } else { 80 };
            let why = Resolver::unknown(world, ask.dc(world).hosts.get(&ask.node));
            return failed(format!("500 Can't connect to {host}:{port} ({why})"));
        }
        Found::Refused(place) => {
            return failed(format!("500 Can't connect to {place} (Connection refused)"));
        }
        Found::Plain(place) => {
            return failed(format!(
                "500 Can't connect to {place} (SSL connect attempt failed error:0A00010B:SSL \
                 routines::wrong version number)"
            ));
        }
        Found::Missing(_) => return failed("404 File not found".to_owned()),
        Found::Iso(_) => (internet::ISO_BYTES as u64, "application/x-iso9660-image"),
        Found::Image(_) => (pace::IMAGE_BYTES, "application/octet-stream"),
    };
    Ok(json!({"filename": name, "size": size, "mimetype": kind}))
}

/// Backups are not simulated: a backup task fails.
fn vzdump(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    let vmid = ask.text("vmid").to_owned();
    ask.require(world, &format!("/vms/{vmid}"), &["VM.Backup"])?;
    let storage = ask.params.text("storage").unwrap_or("local");
    let text = format!("storage '{storage}' does not support backups");
    ask.spawn(world, "vzdump", &vmid, Work::Refuse(text))
}
