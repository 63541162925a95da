#!/bin/sh
# Runs a program of the root file system as one of the site's services: in the lab's network, with its
# files at /mnt. The mounts are this process's own. LOWER are overlayfs's lower layers, the first one on
# top.
# Usage: service NAMESPACE LOWER FILES PROGRAM…
set -eu
namespace=$1 lower=$2 files=$3
shift 3
root=$files/root
mkdir -p "$root"
mount --make-rprivate /
mount -t overlay k8sha -o "lowerdir=$lower" "$root"
mount --bind "$files" "$root/mnt"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
exec nsenter --net="/run/netns/$namespace" chroot "$root" "$@"
