#!/bin/sh
# Loads the modules that a modules-load.d file lists. One that is built in, or that the host of a
# system container has loaded already, counts as loaded.
#   load-modules FILE
set -eu

while read -r module; do
    case "$module" in '' | '#'*) continue ;; esac
    if [ -d "/sys/module/$module" ] || modprobe --quiet "$module"; then
        continue
    fi
    # A built-in without parameters has no folder in /sys/module.
    if grep -q "^$module " /proc/modules || grep -q "[[:space:]]$module\$" /proc/filesystems; then
        continue
    fi
    if [ "$module" = br_netfilter ] && [ -e /proc/sys/net/bridge/bridge-nf-call-iptables ]; then
        continue
    fi
    echo "k8sha load-modules: kernel $(uname -r) has no module \`$module\`" >&2
    exit 1
done < "$1"
