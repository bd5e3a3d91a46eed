#!/usr/bin/env bash
# Makes a Debian 12 tree that systemd-nspawn can boot, with containerd and rpm,
# from the packages that apt is configured for on this machine:
#
#   e2e/machines/tree.sh [PACKAGE…] TARGET
#
# The tree's place in the cache is named after a hash of this file.
set -euo pipefail
target=${*: -1}
suite=bookworm

# shellcheck disable=SC2016 # apt's variables, not the shell's
find_mirror() {
	apt-get indextargets --format '$(CREATED_BY) $(CODENAME) $(COMPONENT) $(REPO_URI)' |
		awk -v suite="$suite" '$1 == "Packages" && $2 == suite && $3 == "main" { print $4; exit }'
}
mirror=$(find_mirror)
if [ -z "$mirror" ]; then
	apt-get -qq update
	mirror=$(find_mirror)
fi
if [ -z "$mirror" ]; then
	echo "tree.sh: apt is not configured for Debian's suite $suite" >&2
	exit 1
fi

rm -rf --one-file-system "$target.new"
mkdir -p "$target.new"
packages=(systemd systemd-sysv dbus iproute2 procps ca-certificates containerd runc rpm "${@:1:$#-1}")
include=$(IFS=, && echo "${packages[*]}")
# What is written here is thrown away when it is not complete: no fsync.
DPKG_FORCE=unsafe-io debootstrap --variant=minbase --include="$include" "$suite" "$target.new" "$mirror" >"$target.log" 2>&1 || {
	tail -n 20 "$target.log" >&2
	exit 1
}
rm -rf "$target.new"/var/cache/apt/archives/*.deb "$target.new"/var/lib/apt/lists/* "$target.log"

# nspawn mounts cgroup v1 hierarchies read-only, where containers are to be
# made. (A plain remount says busy.)
cat >"$target.new/etc/systemd/system/cgroups-writable.service" <<'END'
[Unit]
Description=Make the cgroup hierarchies writable for containers
DefaultDependencies=no
Before=sysinit.target containerd.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'for c in /sys/fs/cgroup/*; do mountpoint -q $$c && mount -o remount,bind,rw $$c; done; true'
[Install]
WantedBy=sysinit.target
END
# The network is made from outside, and the journal is to outlive a power cut.
mkdir -p "$target.new/var/log/journal"
rm -f "$target.new/etc/resolv.conf" "$target.new/etc/hostname" "$target.new/etc/machine-id"
: >"$target.new/etc/machine-id"
for unit in cgroups-writable containerd; do
	systemctl --quiet --root="$target.new" enable "$unit.service"
done
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer; do
	systemctl --quiet --root="$target.new" mask "$unit"
done
mv -T "$target.new" "$target"
