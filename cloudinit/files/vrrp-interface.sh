#!/bin/sh
# Tells keepalived which interface has this address: its name depends on the virtual hardware.
#   vrrp-interface ADDRESS
set -eu
interface=$(ip -o -4 addr show to "$1/32" | sed -n -E '1s/^[0-9]+: ([^ ]+) .*/\1/p')
if [ -z "$interface" ]; then
    echo "k8sha vrrp-interface: no interface has $1" >&2
    exit 1
fi
mkdir -p /etc/keepalived
echo "\$INTERFACE=$interface" > /etc/keepalived/interface.conf
