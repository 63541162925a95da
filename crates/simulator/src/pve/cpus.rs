//! The CPU types of Proxmox VE 9.2 (qemu-server src/PVE/QemuServer/CPUConfig.pm).

use serde_json::{Value, json};

/// Their names.
const MODELS: &[&str] = &[
    "486",
    "Broadwell",
    "Broadwell-IBRS",
    "Broadwell-noTSX",
    "Broadwell-noTSX-IBRS",
    "Cascadelake-Server",
    "Cascadelake-Server-noTSX",
    "Cascadelake-Server-v2",
    "Cascadelake-Server-v4",
    "Cascadelake-Server-v5",
    "ClearwaterForest",
    "Conroe",
    "Cooperlake",
    "Cooperlake-v2",
    "EPYC",
    "EPYC-Genoa",
    "EPYC-Genoa-v2",
    "EPYC-IBPB",
    "EPYC-Milan",
    "EPYC-Milan-v2",
    "EPYC-Milan-v3",
    "EPYC-Rome",
    "EPYC-Rome-v2",
    "EPYC-Rome-v3",
    "EPYC-Rome-v4",
    "EPYC-Rome-v5",
    "EPYC-Turin",
    "EPYC-v3",
    "EPYC-v4",
    "EPYC-v5",
    "GraniteRapids",
    "GraniteRapids-v2",
    "GraniteRapids-v3",
    "Haswell",
    "Haswell-IBRS",
    "Haswell-noTSX",
    "Haswell-noTSX-IBRS",
    "Icelake-Client",
    "Icelake-Client-noTSX",
    "Icelake-Server",
    "Icelake-Server-noTSX",
    "Icelake-Server-v3",
    "Icelake-Server-v4",
    "Icelake-Server-v5",
    "Icelake-Server-v6",
    "Icelake-Server-v7",
    "IvyBridge",
    "IvyBridge-IBRS",
    "KnightsMill",
    "Nehalem",
    "Nehalem-IBRS",
    "Opteron_G1",
    "Opteron_G2",
    "Opteron_G3",
    "Opteron_G4",
    "Opteron_G5",
    "Penryn",
    "SandyBridge",
    "SandyBridge-IBRS",
    "SapphireRapids",
    "SapphireRapids-v2",
    "SapphireRapids-v3",
    "SapphireRapids-v4",
    "SierraForest",
    "SierraForest-v2",
    "SierraForest-v3",
    "Skylake-Client",
    "Skylake-Client-IBRS",
    "Skylake-Client-noTSX-IBRS",
    "Skylake-Client-v4",
    "Skylake-Server",
    "Skylake-Server-IBRS",
    "Skylake-Server-noTSX-IBRS",
    "Skylake-Server-v4",
    "Skylake-Server-v5",
    "Westmere",
    "Westmere-IBRS",
    "athlon",
    "core2duo",
    "coreduo",
    "host",
    "kvm32",
    "kvm64",
    "max",
    "pentium",
    "pentium2",
    "pentium3",
    "phenom",
    "qemu32",
    "qemu64",
    "x86-64-v2",
    "x86-64-v2-AES",
    "x86-64-v3",
    "x86-64-v4",
];

/// Whether it is a CPU type; there are no custom ones.
pub fn is_known(model: &str) -> bool {
    MODELS.contains(&model)
}

/// The CPU vendor that a guest sees.
fn vendor(model: &str) -> &'static str {
    let is = |families: &[&str]| families.iter().any(|family| model.starts_with(family));
    if is(&["EPYC", "Opteron", "athlon", "phenom"]) {
        "AuthenticAMD"
    } else if is(&["host", "kvm", "max", "qemu", "x86-64"]) {
        "default"
    } else {
        "GenuineIntel"
    }
}

/// `GET /nodes/{node}/capabilities/qemu/cpu`.
pub fn list() -> Value {
    let model = |name: &&str| {
        let mut value = json!({"name": name, "vendor": vendor(name), "custom": 0});
        // A level that many CPUs have is not a CPU model.
        if name.starts_with("x86-64-v") {
            value["abstract"] = json!(1);
        }
        value
    };
    MODELS.iter().map(model).collect()
}

/// The CPU flags that can be set, and the purpose of each.
const FLAGS: [(&str, &str); 13] = [
    (
        "nested-virt",
        "Controls nested virtualization, namely 'svm' for AMD CPUs and 'vmx' for Intel CPUs. Live \
         migration still only works if it's the same flag on both sides. Use a CPU model similar \
         to the host, with the same vendor, not x86-64-vX!",
    ),
    ("aes", "Activate AES instruction set for HW acceleration."),
    ("amd-no-ssb", "Notifies guest OS that host is not vulnerable for Spectre on AMD CPUs."),
    (
        "amd-ssbd",
        "Improves Spectre mitigation performance with AMD CPUs, best used with 'virt-ssbd'.",
    ),
    ("hv-evmcs", "Improve performance for nested virtualization. Only supported on Intel CPUs."),
    (
        "hv-tlbflush",
        "Improve performance in overcommitted Windows guests. May lead to guest bluescreens on old CPUs.",
    ),
    ("ibpb", "Allows improved Spectre mitigation with AMD CPUs."),
    ("md-clear", "Required to let the guest OS know if MDS is mitigated correctly."),
    ("pcid", "Meltdown fix cost reduction on Westmere, Sandy-, and IvyBridge Intel CPUs."),
    ("pdpe1gb", "Allow guest OS to use 1GB size pages, if host HW supports it."),
    ("spec-ctrl", "Allows improved Spectre mitigation with Intel CPUs."),
    ("ssbd", "Protection for 'Speculative Store Bypass' for Intel models."),
    ("virt-ssbd", "Basis for 'Speculative Store Bypass' protection for AMD models."),
];

/// `GET /nodes/{node}/capabilities/qemu/cpu-flags`.
pub fn flags() -> Value {
    let flag = |(name, text): &(&str, &str)| json!({"name": name, "description": text, "supported-on": []});
    FLAGS.iter().map(flag).collect()
}

/// `GET /nodes/{node}/capabilities/qemu/machines`.
pub fn machines() -> Value {
    let versions = ["10.1", "10.0", "9.2", "9.1", "9.0", "8.2"];
    let of = |kind: &'static str, name: &'static str| {
        versions.iter().map(move |version| {
            json!({"id": format!("pc-{name}-{version}"), "type": kind, "version": version})
        })
    };
    of("i440fx", "i440fx").chain(of("q35", "q35")).collect()
}
