#!/usr/bin/env bash
# Builds the packages of the commit that this tree has to get along with in one
# ring, as version 0.0.9:
#
#   e2e/machines/older.sh TARGET
#   e2e/machines/older.sh -check    # is the commit in this clone?
#
# A release takes its place as soon as there is one.
set -euo pipefail
commit=d35467a
target=$1
cd "$(dirname "$0")/../.."
git() { command git -c 'safe.directory=*' "$@"; } # whoever owns the clone

if ! git cat-file -e "$commit^{commit}" 2>/dev/null; then
	echo "commit $commit is not in this clone, which is probably shallow; get it with: git fetch --unshallow" >&2
	exit 1
fi
if [[ $target == -check ]]; then
	exit 0
fi

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
git archive "$commit" | tar -x -C "$tree"
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct "$commit")
export SOURCE_DATE_EPOCH OUT=$target.new ARCHES=${ARCHES:-amd64}
rm -rf "$target.new"
make -C "$tree" package VERSION=0.0.9 COMMIT="$commit"
mv -T "$target.new" "$target"
