//! Checks that Proxmox VE knows the CPU type and that the workloads can run on it.

use super::Notes;
use crate::profile::at::At;
use crate::profile::complaint::Complaint;
use crate::profile::fault::closest;
use crate::profile::raw::{Cni, CpuType, Profile};

/// The models of Proxmox VE 9.2 (qemu-server `src/PVE/QemuServer/CPUConfig.pm`) with 64 bits and at
/// least x86-64-v2. A host with custom models or another version is queried at run time.
const MODELS: &[&str] = &[
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
    "Opteron_G4",
    "Opteron_G5",
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
    "host",
    "max",
    "x86-64-v2",
    "x86-64-v2-AES",
    "x86-64-v3",
    "x86-64-v4",
];
/// 64-bit models without SSE4.2 or POPCNT, which x86-64-v2 requires (the x86-64 psABI, 3.1.1).
const BEFORE_V2: [&str; 9] = [
    "Conroe",
    "Opteron_G1",
    "Opteron_G2",
    "Opteron_G3",
    "Penryn",
    "core2duo",
    "kvm64",
    "phenom",
    "qemu64",
];
/// 32-bit models (`$cputypes_32bit` there): no kernel of the supported images boots on them.
const OF_32_BITS: [&str; 8] =
    ["486", "athlon", "coreduo", "kvm32", "pentium", "pentium2", "pentium3", "qemu32"];

/// Reports an unsuitable CPU type.
pub(super) fn check(cpu: &At<CpuType>, profile: &Profile, notes: &mut Notes) {
    let model = cpu.value.model.as_str();
    let such =
        "`x86-64-v2-AES` is the usual choice; `host` is the fastest if all hosts have the same CPU";
    if model.starts_with("custom-") || MODELS.contains(&model) {
        return;
    }
    if OF_32_BITS.contains(&model) {
        let text = format!("`{model}` is a 32-bit CPU: cloud images do not boot on it");
        notes.push(Complaint::error(text).at(cpu.span.clone(), "").help(such));
        return;
    }
    if BEFORE_V2.contains(&model) {
        notes.push(old(cpu, profile).help(such));
        return;
    }
    let hint = match closest(model, MODELS) {
        Some(meant) => {
            format!(
                "did you mean `{meant}`? k8sha checks with the hosts before it creates anything"
            )
        }
        None => format!("k8sha checks with the hosts before it creates anything; {such}"),
    };
    let text = format!("`{model}` is not a CPU type of Proxmox VE 9.2");
    notes.push(Complaint::warning(text).at(cpu.span.clone(), "").help(hint));
}

/// Programs that are built for x86-64-v2 exit immediately on such a CPU. Calico's are
/// (projectcalico/calico#11352), and so is everything that uses the base images of RHEL 9.
fn old(cpu: &At<CpuType>, profile: &Profile) -> Complaint {
    let model = &cpu.value.model;
    let cni = profile.kubernetes.as_ref().and_then(|kubernetes| kubernetes.value.cni.as_ref());
    if let Some(Cni::Calico(calico)) = cni {
        return Complaint::error(format!("Calico does not run on `{model}`: it lacks x86-64-v2"))
            .at(cpu.span.clone(), "the CPU type")
            .at(calico.span.clone(), "Calico");
    }
    let text = format!("`{model}` lacks x86-64-v2: container images based on RHEL 9 crash on it");
    Complaint::warning(text).at(cpu.span.clone(), "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_has_one_place() {
        for model in MODELS {
            assert!(!BEFORE_V2.contains(model) && !OF_32_BITS.contains(model), "{model}");
        }
        // The list of a Proxmox VE 9.2 host.
        assert_eq!(MODELS.len() + BEFORE_V2.len() + OF_32_BITS.len(), 94);
    }
}
