#!/usr/bin/env bash
# Builds the newest containerd, its shim and ctr, at the version that go.mod
# here pins, and prints the folder that holds them. What is built once is kept
# outside the repository, one folder per version; a cold build takes about
# 90 s and 1.5 GB of Go's own build cache on two cores.
#
#   e2e/newest/build.sh
#
# runc stays the system's: it needs cgo and libseccomp.
set -euo pipefail
cd "$(dirname "$0")"
GO=${GO:-go}

version=$($GO list -m -f '{{.Version}}' github.com/containerd/containerd/v2)
dir=${XDG_CACHE_HOME:-$HOME/.cache}/agentd/containerd-$version-$($GO env GOARCH)
programs=(containerd containerd-shim-runc-v2 ctr)

complete() {
	for p in "${programs[@]}"; do [ -x "$dir/$p" ] || return 1; done
}

if ! complete; then
	mkdir -p "$dir"
	echo "# building containerd $version into $dir" >&2
	part=$(mktemp -d "$dir/.build.XXXXXX")
	trap 'rm -rf "$part"' EXIT
	for p in "${programs[@]}"; do
		# Tags: what needs libraries or is never used here is left out.
		CGO_ENABLED=0 $GO build -trimpath -buildvcs=false \
			-tags no_btrfs,no_devmapper,no_zfs,no_cri \
			-ldflags "-s -w -X github.com/containerd/containerd/v2/version.Version=$version" \
			-o "$part/$p" "github.com/containerd/containerd/v2/cmd/$p"
	done
	mv "$part"/* "$dir/" # only what is complete has its name
fi
echo "$dir"
