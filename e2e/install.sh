#!/usr/bin/env bash
# Installs what a target needs and this machine lacks, from the system's own
# packages. It runs apt-get only when something is missing and we are root.
#
#   e2e/install.sh test|bench|demo|machines|qemu
set -euo pipefail

# program:package
needs=(
	containerd:containerd ctr:containerd runc:runc
	ip:iproute2 nsenter:util-linux unshare:util-linux nft:nftables ps:procps ldd:libc-bin
)
case ${1:-} in
test) ;;
bench) ;;
demo) needs+=(curl:curl dpkg-deb:dpkg) ;;
machines) needs+=(systemd-nspawn:systemd-container debootstrap:debootstrap dpkg-deb:dpkg make:make git:git) ;;
qemu) needs+=(qemu-system-x86_64:qemu-system-x86 mkfs.ext4:e2fsprogs debootstrap:debootstrap dpkg-deb:dpkg make:make git:git) ;;
*)
	echo "usage: e2e/install.sh test|bench|demo|machines|qemu" >&2
	exit 2
	;;
esac

missing=()
for need in "${needs[@]}"; do
	PATH=$PATH:/usr/sbin:/sbin command -v "${need%%:*}" >/dev/null || missing+=("${need#*:}")
done
mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u | sed '/^$/d')

if [ "$1" != test ] && [ "$(id -u)" != 0 ]; then
	echo "this makes network namespaces and runs containers, so it has to be root (sudo)" >&2
	exit 1
fi
if [ ${#missing[@]} -gt 0 ]; then
	if [ "$(id -u)" != 0 ]; then
		echo "# not root: tests that need ${missing[*]} are skipped" >&2
		exit 0
	fi
	if ! command -v apt-get >/dev/null; then
		echo "please install: ${missing[*]} (there is no apt-get here to do it)" >&2
		exit 1
	fi
	echo "# installing ${missing[*]}" >&2
	export DEBIAN_FRONTEND=noninteractive
	apt-get -qq update
	apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
fi

# Test images and the demo use packages from apt without installing them: its
# lists have to be there.
if [ "$(id -u)" = 0 ] && command -v apt-cache >/dev/null &&
	! apt-cache show prometheus-node-exporter >/dev/null 2>&1; then
	apt-get -qq update
fi
