#!/usr/bin/env bash
# Makes TARGET, a folder with a kernel, its initial RAM disk and the disk of a
# Debian 12 machine for QEMU. At boot the machine runs /e2e/script from its second
# disk, with what that says going to its second serial port, and switches itself
# off.
#
#   e2e/v2/image.sh TARGET
set -euo pipefail
target=$1
here=$(cd "$(dirname "$0")" && pwd)
rm -rf "$target.new" "$target.tree" # what an interrupted run left
trap 'rm -rf "$target.tree" "$target.new"' EXIT

"$here/../machines/tree.sh" linux-image-cloud-amd64 initramfs-tools "$target.tree"

cat >"$target.tree/etc/systemd/system/e2e.service" <<'END'
[Unit]
Description=Run what the second disk says
After=multi-user.target containerd.service
[Service]
Type=oneshot
Environment=HOME=/root
StandardOutput=file:/dev/ttyS1
StandardError=file:/dev/ttyS1
ExecStartPre=/bin/mkdir -p /e2e
ExecStartPre=/bin/mount -o ro /dev/vdb /e2e
ExecStart=/bin/bash /e2e/script
ExecStopPost=/bin/systemctl --no-block poweroff
[Install]
WantedBy=graphical.target
END
ln -sf graphical.target "$target.tree/usr/lib/systemd/system/default.target"
systemctl --quiet --root="$target.tree" enable e2e.service

mkdir "$target.new"
cp -L "$target.tree/vmlinuz" "$target.tree/initrd.img" "$target.new/"
truncate -s 3G "$target.new/root.img"
mkfs.ext4 -q -F -d "$target.tree" "$target.new/root.img"
mv -T "$target.new" "$target"
