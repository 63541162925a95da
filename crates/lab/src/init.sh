#!/bin/sh
# The first process of a machine: gives systemd exclusive control groups, and the kubelet its own values
# for settings that belong to the whole host.
set -eu
if [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ]; then
    mount -o remount,rw /sys/fs/cgroup
    for group in /sys/fs/cgroup/*/; do
        mount -o remount,bind,rw "$group" || true
    done
fi
# There is no udev here: networkd does not require it if /sys is read-only.
mount -o remount,bind,ro /sys
cd /usr/lib/k8sha-lab/sysctl
find . -type f | while read -r setting; do
    mkdir -p "/run/k8sha-lab/$(dirname "$setting")"
    cp "$setting" "/run/k8sha-lab/$setting"
    mount --bind "/run/k8sha-lab/$setting" "/proc/sys/$setting" || true
done
cd /
mount --make-rshared /
exec /lib/systemd/systemd
