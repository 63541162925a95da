#!/bin/sh
# Runs a program of the root file system as one of the site's services: in the lab's network, with
# its files at /mnt. The mounts are this process's own.
#   service NAMESPACE ROOT FILES PROGRAM…
set -eu
namespace=$1 root=$2 files=$3
shift 3
mount --make-rprivate /
mount --bind "$root" "$root"
mount --bind "$files" "$root/mnt"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
exec nsenter --net="/run/netns/$namespace" chroot "$root" "$@"
