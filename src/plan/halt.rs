//! VMs that are powered on but do not run: the state that QEMU reports, and the fix. Pure.
//!
//! Proxmox VE calls such a VM `running`; only `qmpstatus` shows the difference. Source: QEMU
//! qapi/run-state.json, `RunState`.

use crate::cluster::{HostName, VmId};

/// The fix for a VM that QEMU has halted.
pub fn fix(vmid: VmId, host: &HostName, state: &str) -> String {
    match state {
        "paused" | "suspended" => format!("qm resume {vmid}     (on {host})"),
        "prelaunch" => {
            format!(
                "qm resume {vmid}     (on {host}; a backup that is starting resumes it by \
                 itself)"
            )
        }
        "io-error" => format!(
            "pvesm status     (on {host}: a write to its disk failed, usually because the storage \
             is full; free space first)\nqm resume {vmid}"
        ),
        "internal-error" | "guest-panicked" | "watchdog" => format!(
            "qm reset {vmid}     (on {host}: its guest has crashed; `qm terminal` and `journalctl` \
             there may show why)"
        ),
        "shutdown" => format!("qm stop {vmid} && qm start {vmid}     (on {host})"),
        _ => format!("qm status {vmid} --verbose     (on {host}: it may resolve by itself)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_a_command_that_fits_it() {
        let host = HostName("pve1".to_owned());
        for (state, command) in [
            ("paused", "qm resume 1101 "),
            ("prelaunch", "qm resume 1101 "),
            ("io-error", "pvesm status "),
            ("internal-error", "qm reset 1101 "),
            ("shutdown", "qm stop 1101 && qm start 1101 "),
            ("inmigrate", "qm status 1101 --verbose "),
        ] {
            let fix = fix(VmId(1101), &host, state);
            assert!(fix.starts_with(command), "{state}: {fix}");
        }
        assert!(fix(VmId(1101), &host, "io-error").ends_with("\nqm resume 1101"));
    }
}
