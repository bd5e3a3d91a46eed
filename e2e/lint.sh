#!/usr/bin/env bash
# gofmt, go vet, golangci-lint (pinned in e2e/tools/go.mod) and shellcheck.
# LINT=quick leaves golangci-lint out.
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}
failed=0

echo "# gofmt" >&2
unformatted=$(git ls-files -co --exclude-standard '*.go' | while read -r f; do [ -f "$f" ] && echo "$f"; done | xargs -r gofmt -l)
if [ -n "$unformatted" ]; then
	printf 'gofmt would change:\n%s\n' "$unformatted" >&2
	failed=1
fi

echo "# go vet" >&2
"$go" vet ./... || failed=1

if [ "${LINT:-}" != quick ]; then
	echo "# golangci-lint" >&2
	if "$go" build -C e2e/tools -o ../../bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint; then
		bin/golangci-lint run ./... || failed=1
	else
		# Without its sources there is nothing to run: the rest still counts.
		echo "# golangci-lint could not be built (are Go modules reachable?): left out" >&2
		[ "${LINT:-}" != full ] || failed=1
	fi
fi

if command -v shellcheck >/dev/null; then
	echo "# shellcheck" >&2
	shellcheck .ci/run e2e/*.sh e2e/*/*.sh packaging/*.sh packaging/scripts/deb-* || failed=1
	shellcheck -s sh packaging/scripts/rpm-* || failed=1 # rpm adds the first line
fi
exit "$failed"
