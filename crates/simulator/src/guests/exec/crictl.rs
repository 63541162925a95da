//! `crictl`: the container of a master's etcd and its log. The guests run no other containers.

use sha2::{Digest as _, Sha256};

use super::super::pki::hex;
use super::super::stacked::{LOG, MANIFEST};
use super::{Call, Output};

/// `crictl ps -a --latest --quiet --name ^etcd$` and `crictl logs --tail N ID`.
pub fn crictl(call: &Call<'_>) -> Output {
    if !call.root {
        let text = "validate CRI v1 runtime API for endpoint \"unix:///run/containerd/containerd.sock\": rpc \
                    error: code = Unavailable desc = connection error: desc = \"transport: Error while \
                    dialing: dial unix /run/containerd/containerd.sock: connect: permission denied\"";
        return Output::failed(1, text);
    }
    let id = call.guest.disk.files.contains_key(MANIFEST).then(|| {
        let seed = format!("{}/etcd", call.guest.disk.machine_id);
        hex(&Sha256::digest(seed.as_bytes()))
    });
    match call.rest() {
        ["ps", "-a", "--latest", "--quiet", "--name", "^etcd$"] => {
            Output::ok(id.map_or(String::new(), |id| format!("{id}\n")))
        }
        ["logs", "--tail", count, asked] => {
            if id.as_deref() != Some(asked) {
                let text = format!(
                    "rpc error: code = NotFound desc = an error occurred when try to find container \
                     \"{asked}\": not found"
                );
                return Output::failed(1, text);
            }
            let text = call.guest.text(LOG).unwrap_or_default();
            let lines: Vec<&str> = text.split_inclusive('\n').collect();
            let count = count.parse().unwrap_or(lines.len());
            let last = lines.get(lines.len().saturating_sub(count)..).unwrap_or_default();
            // etcd writes its log to standard error.
            Output { stderr: last.concat(), ..Output::ok("") }
        }
        other => Output::failed(1, format!("crictl: {}: not simulated", other.join(" "))),
    }
}
