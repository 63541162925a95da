//! Values whose syntax Proxmox VE defines.

use schemars::{Schema, json_schema};

use crate::profile::at::Written;

words! {
    /// The name of a Proxmox VE node, as Proxmox VE spells it.
    PveNode(String) = node,
        { "type": "string", "pattern": "^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$" };
    /// A Proxmox VE pool, possibly nested.
    PoolName(String) = pool,
        { "type": "string", "pattern": "^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+){0,2}$" };
}

/// The CPU of every VM, as Proxmox's `cpu` option writes it: a model, optionally followed by
/// settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuType {
    /// The whole option, such as `host,flags=+aes`.
    pub option: String,
    /// The model alone, such as `x86-64-v2-AES`.
    pub model: String,
}

/// The settings that may follow the model (qemu-server `src/PVE/QemuServer/CPUConfig.pm`, `$cpu_fmt`).
const CPU_SETTINGS: [&str; 6] =
    ["flags", "guest-phys-bits", "hidden", "hv-vendor-id", "phys-bits", "reported-model"];

impl Written for CpuType {
    fn read(word: &str) -> Result<Self, String> {
        let fault = |why: &str| {
            format!(
                "`{word}` is not a CPU type{why}\nsuch as `x86-64-v2-AES`, `host` or `custom-NAME`"
            )
        };
        let plain = |text: &str, more: &str| {
            let inner = |c: char| c.is_ascii_alphanumeric() || more.contains(c);
            !text.is_empty() && text.chars().all(inner)
        };
        let mut parts = word.split(',');
        let model = parts.next().unwrap_or_default();
        let model = model.strip_prefix("cputype=").unwrap_or(model);
        if !plain(model, "._-") || !model.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(fault(""));
        }
        for part in parts {
            let known = part.split_once('=').filter(|(name, _)| CPU_SETTINGS.contains(name));
            let Some((_, value)) = known else {
                return Err(fault(&format!(": it has no setting `{part}`")));
            };
            if !plain(value, "+;._-") {
                return Err(fault(&format!(
                    ": `{part}` has a value that Proxmox VE does not accept"
                )));
            }
        }
        Ok(CpuType { option: word.to_owned(), model: model.to_owned() })
    }

    fn word_schema() -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*(,[a-z-]+=[A-Za-z0-9+;._-]+)*$",
        })
    }
}

/// Source: pve-common `src/PVE/JSONSchema.pm`, `pve-node`; a node's name is a label of DNS too.
fn node(word: &str) -> Result<String, String> {
    let why = if word.is_empty() || word.len() > 63 {
        "1 to 63 characters"
    } else if word.contains('.') {
        "the short node name, without the domain, as `hostname` prints it on the host"
    } else if !word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        "letters, digits and hyphens, such as `pve1`"
    } else if word.starts_with('-') || word.ends_with('-') {
        "no hyphen at either end"
    } else {
        return Ok(word.to_owned());
    };
    Err(format!("`{word}` is not a Proxmox VE node name\n{why}"))
}

/// Source: pve-access-control `src/PVE/AccessControl.pm`, `pve-poolid`.
fn pool(word: &str) -> Result<String, String> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let sound = |part: &str| !part.is_empty() && part.chars().all(inner);
    if word.split('/').all(sound) && word.split('/').count() <= 3 {
        return Ok(word.to_owned());
    }
    let hint = "letters, digits, `.`, `_` and `-`; at most three parts separated by `/`";
    Err(format!("`{word}` is not a valid Proxmox VE pool name\n{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_and_pools_are_spelled_as_proxmox_does() {
        for word in ["pve1", "PVE1", "1", "Rack-2-A"] {
            assert_eq!(PveNode::read(word).unwrap().0, word);
        }
        for word in ["", "pve_1", "-pve", "pve-", "pve1.lan", "pvé", &"a".repeat(64)] {
            assert!(PveNode::read(word).is_err(), "{word}");
        }
        for word in ["k8s", "2026", "a/b/c"] {
            assert!(PoolName::read(word).is_ok(), "{word}");
        }
        for word in ["", "/a", "a/", "a//b", "a/b/c/d", "a b", "a?"] {
            assert!(PoolName::read(word).is_err(), "{word}");
        }
    }

    #[test]
    fn a_cpu_is_a_model_with_known_settings() {
        for (word, model) in [
            ("host", "host"),
            ("x86-64-v2-AES", "x86-64-v2-AES"),
            ("cputype=kvm64,flags=+aes;+pcid", "kvm64"),
            ("custom-node,hidden=1,phys-bits=host", "custom-node"),
        ] {
            let cpu = CpuType::read(word).unwrap();
            assert_eq!((cpu.option.as_str(), cpu.model.as_str()), (word, model));
        }
        for word in [
            "",
            ",",
            "host,",
            "host,args=-x",
            "host,flags=",
            "host,flags=+a b",
            "ho st",
            "-host",
            "host=1",
        ] {
            assert!(CpuType::read(word).is_err(), "{word}");
        }
    }
}
