#!/bin/sh
# Runs one machine of the lab: a system container with its own network namespace, until it powers itself
# off. A reboot of its own is handled in here. FOLDER contains its disk; LOWER are overlayfs's lower
# layers, the first one on top. The mounts are this process's own: the caller gives it a mount namespace,
# and they end with it.
# Usage: machine NAME NAMESPACE FOLDER LOWER
set -eu
name=$1 namespace=$2 folder=$3 lower=$4

root=$folder/root
mkdir -p "$folder/upper" "$folder/work" "$root"
mount --make-rprivate /
mount -t overlay k8sha -o "lowerdir=$lower,upperdir=$folder/upper,workdir=$folder/work" "$root"

# overlayfs cannot be stacked on overlayfs: the data of containerd and the like is on the machine's own
# disk.
set --
for place in var/lib/containerd var/lib/kubelet var/lib/etcd var/log/pods; do
    mkdir -p "$folder/state/$place" "$root/$place"
    set -- "$@" "--bind=$folder/state/$place:/$place"
done
chmod 0700 "$folder/state/var/lib/etcd"
[ ! -e /dev/kmsg ] || set -- "$@" --bind=/dev/kmsg

unified=0
[ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ] || unified=1
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=$unified SYSTEMD_NSPAWN_API_VFS_WRITABLE=1
# The machine must not change the host's clock and modules.
while :; do
    status=0
    systemd-nspawn --quiet --register=no --keep-unit --kill-signal=SIGRTMIN+3 --directory="$root" \
        --machine="$name" --network-namespace-path="/run/netns/$namespace" \
        --capability=all --drop-capability=CAP_SYS_TIME,CAP_SYS_MODULE \
        --system-call-filter='@keyring bpf perf_event_open' --link-journal=no --resolv-conf=off \
        --timezone=off --console=pipe "$@" /usr/lib/k8sha-lab/init || status=$?
    # 133: it requests a restart (systemd-nspawn's EXIT_FORCE_RESTART).
    [ "$status" = 133 ] || exit "$status"
done
