#!/bin/sh
# Builds the root file system of the lab's machines from Debian's packages, with nothing of it
# started, no keys and no machine id: each machine gets its own at its first boot.
#   root FOLDER SUITE
set -eu
folder=$1
suite=$2

packages=systemd,systemd-sysv,systemd-resolved,dbus,udev,libpam-systemd,cloud-init,cloud-guest-utils
packages=$packages,netplan.io,python3-jsonschema,openssh-server,sudo,chrony,qemu-guest-agent,curl
packages=$packages,ca-certificates,openssl,bind9-dnsutils,iproute2,iputils-ping,procps,kmod,less,jq
packages=$packages,haproxy,keepalived,dnsmasq-base,etcd-server,etcd-client,containerd,runc
packages=$packages,containernetworking-plugins,iptables,nftables,ipset,conntrack,socat,ethtool,rsync

mmdebstrap --quiet --mode=root --variant=minbase --include="$packages" \
    --aptopt='Acquire::Retries "5"' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    "$suite" "$folder"

# No keys and no identity of this machine.
rm -f "$folder"/etc/ssh/ssh_host_*
: > "$folder/etc/machine-id"
rm -f "$folder/var/lib/dbus/machine-id"
echo localhost > "$folder/etc/hostname"

# On a cloud image nothing of this runs before cloud-init's commands say so.
for unit in haproxy keepalived etcd containerd; do
    rm -f "$folder/etc/systemd/system/multi-user.target.wants/$unit.service"
done
