#!/usr/bin/env bash
# Makes dist/*.deb, dist/*.rpm, a list of what is in the programs
# (agentd_VERSION.cdx.json, CycloneDX) and SHA256SUMS of all of these; run by
# `make package`. The same commit gives the same bytes: all times are
# SOURCE_DATE_EPOCH's, the last commit's unless set. ARCHES and FORMATS choose
# fewer, OUT another folder.
set -euo pipefail
cd "$(dirname "$0")/.."

go=${GO:-go}
out=${OUT:-dist}
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct)}"
export SOURCE_DATE_EPOCH LC_ALL=C
umask 022

# What dpkg and rpm sort: a pre-release with ~ before its release, and what came
# after a tag with + behind it. Without a tag, the sources say the version.
version=${VERSION:-}
if [ -z "$version" ]; then
	version=$(sed -n 's/^\tversion = "\(.*\)"$/\1/p' cmd/agentd/run.go)
	version=${version/-/\~}+$(git rev-list --count HEAD).g$(git rev-parse --short=12 HEAD)
	git diff --quiet HEAD || version+=.dirty
elif [[ $version =~ ^(.+)-([0-9]+)-(g[0-9a-f]+)(-dirty)?$ ]]; then
	base=${BASH_REMATCH[1]} after=${BASH_REMATCH[2]}.${BASH_REMATCH[3]}${BASH_REMATCH[4]/-/.}
	version=${base/-/\~}+$after
elif [[ $version == *-dirty ]]; then
	version=${version%-dirty}
	version=${version/-/\~}+dirty
else
	version=${version/-/\~}
fi
version=${version//-/.}
export PKG_VERSION=$version

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$out" "$stage/out" "$stage/tools" "$stage/man" "$stage/completion"

"$go" build -C packaging/tools -o "$stage/tools/nfpm" github.com/goreleaser/nfpm/v2/cmd/nfpm
CGO_ENABLED=0 "$go" build -trimpath -buildvcs=false -ldflags "${LDFLAGS:-}" -o "$stage/tools/agentctl" ./cmd/agentctl
"$go" build -trimpath -buildvcs=false -o "$stage/tools/sbom" ./packaging/sbom

for shell in bash zsh fish; do
	"$stage/tools/agentctl" completion "$shell" >"$stage/completion/$shell"
done
for page in docs/man/*.[158]; do
	gzip -n -9 <"$page" >"$stage/man/${page##*/}.gz"
done
gzip -n -9 <CHANGELOG.md >"$stage/changelog.gz"

for arch in ${ARCHES:-amd64 arm64}; do
	export ARCH=$arch STAGE=$stage/$arch
	mkdir -p "$STAGE/bin"
	cp -r "$stage/man" "$stage/completion" "$stage/changelog.gz" "$STAGE/"
	GOOS=linux GOARCH=$arch CGO_ENABLED=0 "$go" build -trimpath -buildvcs=false -ldflags "${LDFLAGS:-}" \
		-o "$STAGE/bin/" ./cmd/agentd ./cmd/agentctl ./cmd/agentd-log ./cmd/agentd-mend
	for format in ${FORMATS:-deb rpm}; do
		# nfpm takes variables in few places only, sources of contents not among them.
		sed -e "s|\${STAGE}|$STAGE|g" packaging/nfpm.yaml | while IFS= read -r line; do
			case $line in
			*src:*@EXAMPLE@*)
				for example in configs/examples/*.toml; do
					named=${line//@EXAMPLE@/$example}
					printf '%s\n' "${named//@NAME@/${example##*/}}"
				done
				;;
			*) printf '%s\n' "$line" ;;
			esac
		done >"$stage/nfpm.yaml"
		"$stage/tools/nfpm" package --config "$stage/nfpm.yaml" --packager "$format" --target "$stage/out/" >"$stage/said" || {
			cat "$stage/said" >&2
			exit 1
		}
	done
done
"$stage/tools/sbom" "$version" "$stage"/*/bin/* >"$stage/out/agentd_$version.cdx.json"
(cd "$stage/out" && sha256sum -- * >"$stage/SHA256SUMS")
mv "$stage/SHA256SUMS" "$stage/out/"
mv -f "$stage/out"/* "$out/"
(cd "$out" && sha256sum --quiet --check SHA256SUMS)
awk -v out="$out" '{ print out "/" $2 } END { print out "/SHA256SUMS" }' "$out/SHA256SUMS"
