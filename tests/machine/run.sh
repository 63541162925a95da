#!/usr/bin/env bash
# Boots one real machine from an image of Debian packages, with k8sha's seed ISO as its CD-ROM, and
# checks what no container can show: GRUB and the kernel policy, growpart, the guest agent on its port,
# sshd with the host key from the seed, and a restart that changes nothing. Not part of .ci/run: under
# software emulation it takes a quarter of an hour. docs/machine.md has the last result.
#
#   sudo tests/machine/run.sh [--no-restart]
#
# Debian packages: qemu-system-x86 qemu-utils mmdebstrap grub-pc-bin grub-common fdisk e2fsprogs
# openssh-client python3.
# SC2016: text in single quotes is for the guest. SC2317: some functions run by name only.
# shellcheck disable=SC2016,SC2317
set -euo pipefail
cd "$(git rev-parse --show-toplevel)"

here=tests/machine
node=lb1
address=10.30.0.11
user=keeper
cache=${XDG_CACHE_HOME:-$HOME/.cache}/k8sha/machine
# Every step of the guest may take this long, in seconds.
limit=${LIMIT:-1500}

for program in qemu-system-x86_64 qemu-img mmdebstrap grub-mkimage sfdisk mke2fs ssh python3; do
  command -v "$program" >/dev/null || { echo "$program is missing; the packages are in $0" >&2; exit 1; }
done
[ "$(id -u)" = 0 ] || { echo "the image is built as root" >&2; exit 1; }

work=$(mktemp -d)
vm=
finish() {
  [ -z "$vm" ] || kill "$vm" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
began=$SECONDS
failed=0
tell() { printf '%-7s %-64s %s\n' "$1" "$2" "$3"; }
# check WHAT WANTED FOUND
check() {
  if [ "$2" = "$3" ]; then
    tell ok "$1" "$3"
  else
    tell FAILED "$1" "wanted \`$2\`, found \`$3\`"
    failed=1
  fi
}

mkdir -p "$cache"
image=$cache/$(sha256sum "$here/image.sh" | cut -c 1-16).qcow2
if [ ! -e "$image" ]; then
  nice "$here/image.sh" "$image"
  tell built "$(basename "$image")" "$((SECONDS - began)) s, $(($(stat -c %s "$image") >> 20)) MiB"
fi
if [ -z "${K8SHA:-}" ]; then
  cargo build --locked --quiet
  K8SHA=${CARGO_TARGET_DIR:-target}/debug/k8sha
fi
"$K8SHA" render "$node" --profile "$here/machine.yaml" --quiet --state "$work/state" --seed "$work/seed.iso"
# The seed is for the card with this address, which k8sha gives to the VM.
mac=$(grep -a -o 'macaddress: "[0-9a-f:]*"' "$work/seed.iso" | cut -d '"' -f 2)
qemu-img create -q -f qcow2 -F qcow2 -b "$image" "$work/disk.qcow2" 6G

boot() {
  # Proxmox's default machine: i440fx, the seed on its IDE bus, the disk behind virtio-scsi.
  qemu-system-x86_64 -nodefaults -display none -M pc -m 1024 -smp 2 "$@" \
    -device virtio-scsi-pci -drive "if=none,id=disk,file=$work/disk.qcow2" -device scsi-hd,drive=disk \
    -drive "if=ide,index=2,media=cdrom,readonly=on,format=raw,file=$work/seed.iso" \
    -netdev "user,id=net,net=10.30.0.0/24,host=10.30.0.1,dns=10.30.0.3,hostfwd=tcp:127.0.0.1:$port-$address:22" \
    -device "virtio-net-pci,netdev=net,mac=$mac" -device virtio-rng-pci \
    -device virtio-serial-pci -chardev "socket,id=agent,path=$work/agent,server=on,wait=off" \
    -device virtserialport,chardev=agent,name=org.qemu.guest_agent.0 \
    -serial "file:$work/console" 2>"$work/qemu" &
  vm=$!
}
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')

# The existence of /dev/kvm does not show that a stock kernel runs on it: its first line does.
accelerator=tcg
if [ -w /dev/kvm ]; then
  boot -accel kvm -cpu host
  for _ in $(seq 20); do
    sleep 1
    ! grep -q 'Linux version' "$work/console" 2>/dev/null || { accelerator=kvm; break; }
    kill -0 "$vm" 2>/dev/null || break
  done
  [ "$accelerator" = kvm ] || { kill "$vm" 2>/dev/null || true; wait "$vm" || true; vm=; }
fi
if [ -z "$vm" ]; then
  qemu-img create -q -f qcow2 -F qcow2 -b "$image" "$work/disk.qcow2" 6G
  boot -accel tcg,tb-size=256 -cpu max
fi
tell info 'runs by' "$accelerator"

echo "[127.0.0.1]:$port $(cut -d ' ' -f 1,2 "$work/state/ssh/host-$node.pub")" >"$work/known"
on() {
  ssh -F /dev/null -i "$work/state/ssh/operator" -p "$port" -o BatchMode=yes -o ConnectTimeout=20 \
    -o "UserKnownHostsFile=$work/known" -o StrictHostKeyChecking=yes "$user@127.0.0.1" "$@"
}
# until_done WHAT COMMAND...: runs it until it succeeds
until_done() {
  local what=$1 from=$SECONDS
  shift
  while ! "$@" >/dev/null 2>"$work/said"; do
    if ! kill -0 "$vm" 2>/dev/null || [ $((SECONDS - from)) -gt "$limit" ]; then
      tell FAILED "$what" "$(tail -n 1 "$work/said"); console:"
      tail -n 20 "$work/console"
      cat "$work/qemu"
      exit 1
    fi
    sleep 2
  done
  tell ok "$what" "after $((SECONDS - from)) s"
}
agent() {
  python3 - "$work/agent" "$1" <<'PY'
import json, socket, sys
port = socket.socket(socket.AF_UNIX)
port.settimeout(60)
port.connect(sys.argv[1])
port.sendall(json.dumps({"execute": sys.argv[2]}).encode() + b"\n")
print(json.dumps(json.loads(port.makefile().readline())["return"]))
PY
}
over() { on 'cloud-init status --format json' | grep -q -E '"status": "(done|error)"'; }
seen() {
  on 'echo "$(cat /etc/machine-id) $(sha256sum < /etc/ssh/ssh_host_ed25519_key.pub) $(cat /var/lib/cloud/data/instance-id) $(stat -c %Y /var/lib/cloud/instance/sem/config_scripts_user)"'
}

until_done 'sshd answers with the planted host key' on true
until_done 'cloud-init has ended' over
check 'cloud-init' 'status: done' "$(on 'cloud-init status' | tail -n 1 || true)"
[ "$failed" = 0 ] || on 'sudo tail -n 40 /var/log/cloud-init-output.log; cloud-init status --long' || true
check 'kernel policy: stock' "$(on 'basename /boot/vmlinuz-*' | sed 's/vmlinuz-//')" "$(on uname -r)"
check 'growpart: the root file system has grown' yes \
  "$(on 'df --output=size -BM / | tail -n 1' | awk '{ print ($1 + 0 > 5000) ? "yes" : "no, " $1 }')"
check 'guest agent: ping' '{}' "$(agent guest-ping)"
check 'guest agent: the address' "$address" \
  "$(agent guest-network-get-interfaces | grep -o "\"$address\"" | head -n 1 | tr -d '"')"
check 'guest agent: the host name' '{"host-name": "'$node'"}' "$(agent guest-get-host-name)"
check 'haproxy and keepalived' 'active active' "$(on 'systemctl is-active haproxy keepalived' | xargs)"
# keepalived first listens for others, and then waits for a master that does not exist.
has_vip() { [ -n "$(on 'ip -o -4 addr show to 10.30.0.10/32')" ]; }
until_done 'the VIP is taken' has_vip
check 'the VIP' 10.30.0.10/32 "$(on "ip -o -4 addr show to 10.30.0.10/32" | awk '{ print $4 }')"
before=$(seen)
boot_id=$(on 'cat /proc/sys/kernel/random/boot_id')

if [ "${1:-}" != --no-restart ]; then
  on 'sudo systemctl reboot' 2>/dev/null || true
  again() { [ "$(on 'cat /proc/sys/kernel/random/boot_id')" != "$boot_id" ]; }
  until_done 'restarted' again
  until_done 'cloud-init has ended again' over
  # Last: when cloud-init ran k8sha's commands.
  check 'machine id, host key, instance: the same; nothing ran twice' "$before" "$(seen)"
  check 'haproxy and keepalived' 'active active' "$(on 'systemctl is-active haproxy keepalived' | xargs)"
fi
tell info 'guest' "$(on '. /etc/os-release; echo "$PRETTY_NAME, $(uname -r), $(cloud-init --version 2>&1)"')"
tell info 'wall time' "$((SECONDS - began)) s"
exit "$failed"
