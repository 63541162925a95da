#!/usr/bin/env bash
# Drives the simulated Proxmox VE with nothing but curl: what k8sha does, by hand.
#
#   cargo build && examples/drive-the-simulator.sh
#
# It serves on loopback, trusts the simulator's own CA, and ends what it started.
set -euo pipefail
cd "$(git rev-parse --show-toplevel)"
k8sha=${K8SHA:-target/debug/k8sha}

work=$(mktemp -d)
"$k8sha" sim --quiet >"$work/endpoints.json" &
server=$!
trap 'kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
until [ -s "$work/endpoints.json" ]; do
  kill -0 "$server" || { echo 'the simulator did not start' >&2; exit 1; }
  sleep 0.1
done

field() { python3 -c "import json, sys; print(eval('json.load(sys.stdin)' + sys.argv[1]))" "$1" <"$work/endpoints.json"; }
url=$(field "['hosts']['pve1']['url']")
field "['hosts']['pve1']['ca']" >"$work/ca.pem"
# The token goes through a file: on a command line every process of the machine could read it.
printf 'header = "Authorization: PVEAPIToken=%s"\n' "$(field "['hosts']['pve1']['token']")" >"$work/curlrc"
pve() { curl --silent --show-error --cacert "$work/ca.pem" --config "$work/curlrc" "$@"; echo; }

echo '== the version'
pve "$url/api2/json/version"

echo '== a VM is made: the answer is the id of a task'
pve --data vmid=100 --data name=by-hand --data memory=512 --data scsi0=local-lvm:4 \
  "$url/api2/json/nodes/pve1/qemu"

echo '== and is listed'
pve "$url/api2/json/nodes/pve1/qemu"

echo '== an unknown parameter is refused as the real one refuses it'
pve --data vmid=101 --data colour=blue "$url/api2/json/nodes/pve1/qemu"

echo '== the error text of a VM that is not there stands in the reason phrase'
pve --dump-header - "$url/api2/json/nodes/pve1/qemu/999/config"
