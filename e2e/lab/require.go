package lab

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"
)

// EnvRequire lists, separated by commas, what this machine has to have: a test
// that needs such a thing fails without it, instead of being skipped.
const EnvRequire = "AGENTD_TEST_REQUIRE"

// Asked reports whether AGENTD_TEST_REQUIRE names a thing: what is large or slow
// is tried only for those who ask for it.
func Asked(thing string) bool {
	for required := range strings.SplitSeq(os.Getenv(EnvRequire), ",") {
		if strings.TrimSpace(required) == thing {
			return true
		}
	}
	return false
}

// Require skips the test when the machine lacks one of the things (see
// Missing), or fails it when AGENTD_TEST_REQUIRE names that thing.
func Require(tb testing.TB, things ...string) {
	tb.Helper()
	for _, thing := range things {
		reason := Missing(tb.Context(), thing)
		if reason == "" {
			continue
		}
		if Asked(thing) {
			tb.Fatalf("%s is required here (%s): %s", thing, EnvRequire, reason)
		}
		tb.Skipf("needs %s: %s", thing, reason)
	}
}

// TestDir is a short-named temporary folder on a real file system, removed at
// the end of the test, with everything mounted in it.
func TestDir(tb testing.TB) string {
	tb.Helper()
	dir, err := TempDir("agt")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := removeTree(dir); err != nil {
			tb.Errorf("remove %s: %v", dir, err)
		}
	})
	return dir
}

// TestContainerd is a private containerd for one test.
func TestContainerd(tb testing.TB) *Containerd {
	tb.Helper()
	Require(tb, "root", "containerd")
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	c, err := StartContainerd(ctx, ContainerdConfig{Dir: TestDir(tb)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("containerd's log ends:\n%s", c.proc.Tail())
		}
		if err := c.Stop(); err != nil {
			tb.Errorf("stop containerd: %v", err)
		}
	})
	return c
}

// TestNamespace is a containerd namespace that nobody else uses: parallel
// containerds share runc's state and the cgroups of a namespace.
func TestNamespace() string { return NewID("agt") }
