#!/usr/bin/env bash
# Runs every fuzz target for a while: e2e/fuzz.sh 10s
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}
grep -rlE '^func Fuzz' --include='*_test.go' . | xargs -r -n1 dirname | sort -u | while read -r dir; do
	grep -hoE '^func Fuzz[A-Za-z0-9_]*' "$dir"/*_test.go | sed 's/^func //' | sort -u | while read -r target; do
		echo "# $dir $target" >&2
		"$go" test -run '^$' -fuzz "^$target\$" -fuzztime "${1:-10s}" "$dir" </dev/null
	done
done
