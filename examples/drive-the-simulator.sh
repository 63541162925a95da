#!/usr/bin/env bash
# Drives the simulated Proxmox VE with curl only: does by hand what k8sha does.
#
#   cargo build && examples/drive-the-simulator.sh
#
# The simulator serves on loopback. Its certificate is verified with its own CA, and everything started
# is stopped.
set -euo pipefail
cd "$(git rev-parse --show-toplevel)"
k8sha=${K8SHA:-target/debug/k8sha}
[ -x "$k8sha" ] || { echo "$k8sha is missing: run cargo build first" >&2; exit 1; }

work=$(mktemp -d)
"$k8sha" sim --quiet >"$work/endpoints.json" &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
until [ -s "$work/endpoints.json" ]; do
  kill -0 "$server" 2>/dev/null || { echo 'the simulator did not start' >&2; exit 1; }
  sleep 0.1
done

# Prints the value in a JSON document under the given keys.
at() {
  python3 -c 'import functools, json, sys
print(functools.reduce(lambda part, key: part[key], sys.argv[1:], json.load(sys.stdin)))' "$@"
}
pve1() { at hosts pve1 "$1" <"$work/endpoints.json"; }

api=$(pve1 url)/api2/json
pve1 ca >"$work/ca.pem"
# The token is passed in a file: on a command line every process of the machine could read it.
printf 'header = "Authorization: PVEAPIToken=%s"\n' "$(pve1 token)" >"$work/curlrc"
pve() { curl --silent --show-error --cacert "$work/ca.pem" --config "$work/curlrc" "$@"; }

# Makes a request whose answer is a task, waits until the task has ended, and prints its log.
task() {
  local upid
  upid=$(pve "$@" | at data)
  echo "$upid"
  until [ "$(pve "$api/nodes/pve1/tasks/$upid/status" | at data status)" = stopped ]; do
    sleep 0.1
  done
  pve "$api/nodes/pve1/tasks/$upid/log"
  echo
}

echo '== the version'
pve "$api/version"

printf '\n\n== create a VM: the answer is the id of a task, which is followed to its end\n'
task --data vmid=100 --data name=by-hand --data memory=512 --data scsi0=local-lvm:4 \
  --data net0=virtio,bridge=vmbr0 "$api/nodes/pve1/qemu"

printf '\n== its configuration: Proxmox VE has created a disk and a MAC address\n'
pve "$api/nodes/pve1/qemu/100/config"

printf '\n\n== start, list, stop and remove it\n'
task --request POST "$api/nodes/pve1/qemu/100/status/start"
pve "$api/nodes/pve1/qemu"
echo
task --request POST "$api/nodes/pve1/qemu/100/status/stop"
task --request DELETE "$api/nodes/pve1/qemu/100?purge=1"

printf '\n== an unknown parameter is refused as by a real Proxmox VE\n'
pve --data vmid=101 --data colour=blue "$api/nodes/pve1/qemu"

printf '\n\n== the error for a missing VM is in the reason phrase\n'
pve --dump-header - "$api/nodes/pve1/qemu/999/config"
echo
