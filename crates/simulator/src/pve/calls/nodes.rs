//! `/nodes/{node}` (pve-manager PVE/API2/Nodes.pm).

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::cluster::{used_memory, version};
use super::{Answer, Ask, Call, Permit, Run};
use crate::faults::FaultKind;
use crate::pve::cpus;
use crate::pve::wire::Failure;
use crate::world::World;

/// The calls of this module.
pub const CALLS: &[Call] = &[
    Call {
        method: "GET",
        path: "/nodes/{node}/version",
        permit: Permit::User,
        run: Run::Read(|_, _| Ok(version())),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/status",
        permit: Permit::One("/nodes/{node}", &["Sys.Audit"]),
        run: Run::Read(status),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/capabilities/qemu/cpu",
        permit: Permit::User,
        run: Run::Read(|_, _| Ok(cpus::list())),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/time",
        permit: Permit::One("/nodes/{node}", &["Sys.Audit"]),
        run: Run::Read(|world, _| {
            Ok(json!({"timezone": "UTC", "time": world.unix(), "localtime": world.unix()}))
        }),
    },
    Call {
        method: "PUT",
        path: "/nodes/{node}/time",
        permit: Permit::One("/nodes/{node}", &["Sys.Modify"]),
        run: Run::Read(|_, ask| match ask.text("timezone") {
            "UTC" => Ok(Value::Null),
            zone => Err(Failure::Die(format!("a simulated node has no time zone '{zone}'"))),
        }),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/certificates/info",
        permit: Permit::User,
        run: Run::Read(certificates),
    },
];

fn status(world: &World, ask: &Ask) -> Answer {
    let dc = ask.dc(world);
    let Some(host) = dc.hosts.get(&ask.node) else { return Ok(Value::Null) };
    let total = host.memory_mib << 20;
    let used = (total / 10 + used_memory(dc, &ask.node)).min(total);
    let disk = 100u64 << 30;
    Ok(json!({
        "pveversion": "pve-manager/9.2.11/14a22df35955d97d",
        "kversion": "Linux 6.17.4-2-pve #1 SMP PREEMPT_DYNAMIC PMX 6.17.4-2",
        "current-kernel": {"sysname": "Linux", "release": "6.17.4-2-pve", "machine": "x86_64",
                           "version": "#1 SMP PREEMPT_DYNAMIC PMX 6.17.4-2"},
        "boot-info": {"mode": "legacy-bios"},
        "uptime": 3600 + world.now.0 / 1000, "cpu": 0.05, "wait": 0, "idle": 0,
        "loadavg": ["0.12", "0.10", "0.08"], "ksm": {"shared": 0},
        "cpuinfo": {"cpus": host.cpus, "cores": host.cpus, "sockets": 1, "mhz": "3000.000",
                    "model": "Simulated", "family": "6", "vendor": "GenuineIntel", "hvm": "1",
                    "flags": "fpu tsc msr pae cx8 apic sep mmx fxsr sse sse2 ht syscall nx lm pni ssse3 \
                              fma cx16 sse4_1 sse4_2 movbe popcnt aes xsave avx f16c abm bmi1 avx2 \
                              bmi2 vmx",
                    "user_hz": 100},
        "memory": {"total": total, "used": used, "free": total - used, "available": total - used},
        "swap": {"total": 0, "used": 0, "free": 0},
        "rootfs": {"total": disk, "used": disk / 10, "free": disk - disk / 10,
                   "avail": disk - disk / 10},
    }))
}

/// A host's address: from the name servers, or one of the lower addresses in the gateway's network.
pub fn address(world: &World, node: &str, number: u32) -> Ipv4Addr {
    let name = format!("{node}.{}", world.site.domain);
    let known = world.site.records.iter().find(|(known, _)| *known == name);
    let made = || Ipv4Addr::from((u32::from(world.site.gateway) & !0xff) + 10 + number);
    known.map_or_else(made, |(_, address)| *address)
}

fn certificates(world: &World, ask: &Ask) -> Answer {
    let dc = ask.dc(world);
    let Some(host) = dc.hosts.get(&ask.node) else { return Ok(Value::Null) };
    let made = world.epoch - 86_400;
    let info = |file: &str, pair: &crate::pve::tls::Pair, days: i64| {
        json!({"filename": file, "pem": pair.cert, "fingerprint": pair.fingerprint,
               "notbefore": made, "notafter": world.epoch + days * 86_400,
               "public-key-type": "id-ecPublicKey", "public-key-bits": 256,
               "subject": pair.subject, "issuer": dc.ca.subject})
    };
    let mut ca = info("pve-root-ca.pem", &dc.ca, 3650);
    ca["san"] = json!([]);
    let mut leaf = info("pve-ssl.pem", &host.pair, 730);
    if world.faults.active(FaultKind::CertificateExpired, &ask.node) {
        leaf["notbefore"] = json!(made - 730 * 86_400);
        leaf["notafter"] = json!(made - 2 * 86_400);
    }
    let fqdn = format!("{}.{}", ask.node, world.site.domain);
    leaf["san"] = json!(["127.0.0.1", "::1", "localhost", ask.node, fqdn]);
    Ok(json!([ca, leaf]))
}
