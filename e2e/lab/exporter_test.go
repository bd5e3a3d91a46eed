package lab_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agentd/agentd/e2e/lab"
)

// Debian's exporter runs out of the image made of it.
func TestNodeExporterImage(t *testing.T) {
	lab.Require(t, "root", "containerd", "exporter")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := lab.TestContainerd(t)
	archive := filepath.Join(c.Dir, "exporter.tar")
	img, err := lab.NodeExporterImage(ctx, archive)
	if err != nil {
		t.Fatal(err)
	}
	ns := lab.TestNamespace()
	if err := c.Import(ctx, ns, archive); err != nil {
		t.Fatal(err)
	}
	out, err := c.Ctr(ctx, ns, "run", "--rm", img.Ref, "version", "/usr/bin/prometheus-node-exporter", "--version")
	if err != nil || !strings.Contains(out, "node_exporter, version") {
		t.Fatalf("run --version: %v\n%s", err, out)
	}
}
