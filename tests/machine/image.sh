#!/usr/bin/env bash
# Builds a disk image of Debian packages, like a distribution's cloud image: cloud-init, OpenSSH, the
# guest agent, GRUB. Needs root. The packages of a load balancer are in it already: under software
# emulation apt alone would take minutes.
# Usage: image.sh FILE.qcow2
set -euo pipefail

image=$1
suite=trixie
packages=(
  linux-image-cloud-amd64 systemd-sysv systemd-resolved udev dbus initramfs-tools zstd
  cloud-init cloud-guest-utils fdisk e2fsprogs netplan.io iproute2 openssh-server sudo
  qemu-guest-agent chrony curl ca-certificates bind9-dnsutils haproxy keepalived
)
modules=(biosdisk part_msdos ext2 normal linux echo)
grub=/usr/lib/grub/i386-pc

work=$(mktemp -d "$(dirname "$image")/image.XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root
joined=$(IFS=,; echo "${packages[*]}")
mmdebstrap --mode=root --variant=minbase --quiet --include="$joined" "$suite" "$root"

# A machine that was never started: cloud-init gives it its identity.
rm -f "$root"/etc/ssh/ssh_host_* "$root"/etc/hostname
: >"$root/etc/machine-id"
echo 'LABEL=k8sha-root / ext4 defaults 0 1' >"$root/etc/fstab"
echo 'datasource_list: [NoCloud, None]' >"$root/etc/cloud/cloud.cfg.d/90-seed.cfg"
kernel=$(basename "$(find "$root/boot" -name 'vmlinuz-*' | sort -V | tail -n 1)")
mkdir -p "$root/boot/grub"
cp -r "$grub" "$root/boot/grub/i386-pc"
cat >"$root/boot/grub/grub.cfg" <<CFG
linux /boot/$kernel root=LABEL=k8sha-root ro console=ttyS0
initrd /boot/initrd.img-${kernel#vmlinuz-}
boot
CFG

# One partition at 1 MiB; GRUB's two parts before it.
truncate -s 3G "$work/disk"
echo 'start=2048, type=83, bootable' | sfdisk --quiet "$work/disk"
mke2fs -q -t ext4 -L k8sha-root -d "$root" -E offset=1048576 "$work/disk" 3071M
grub-mkimage -O i386-pc -p '(hd0,msdos1)/boot/grub' -o "$work/core" "${modules[@]}"
dd if="$grub/boot.img" of="$work/disk" bs=440 count=1 conv=notrunc status=none
dd if="$work/core" of="$work/disk" bs=512 seek=1 conv=notrunc status=none
qemu-img convert -q -c -o compression_type=zstd -O qcow2 "$work/disk" "$work/disk.qcow2"
mv "$work/disk.qcow2" "$image"
