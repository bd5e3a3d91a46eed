package lab_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agentd/agentd/e2e/lab"
)

// A private containerd runs the test image, survives the loss of its daemon
// and leaves nothing behind.
func TestContainerd(t *testing.T) {
	lab.Require(t, "root", "containerd")
	before, err := lab.TakeSnapshot()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	dir := lab.TestDir(t)
	archive := filepath.Join(dir, "testd.tar")
	images, err := lab.TestImage(ctx, archive)
	if err != nil {
		t.Fatal(err)
	}
	if len(images) != 3 || images[0].Digest == images[1].Digest {
		t.Fatalf("images: %v, want three that differ", images)
	}
	c, err := lab.StartContainerd(ctx, lab.ContainerdConfig{Dir: filepath.Join(dir, "c"), ID: filepath.Base(dir)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	ns := lab.TestNamespace()
	if err := c.Import(ctx, ns, archive); err != nil {
		t.Fatal(err)
	}
	names, err := c.Ctr(ctx, ns, "images", "ls")
	if err != nil {
		t.Fatal(err)
	}
	for _, img := range images {
		if !strings.Contains(names, img.Ref) || !strings.Contains(names, img.Digest) {
			t.Errorf("images ls lacks %s:\n%s", img, names)
		}
	}
	if err := c.Run(ctx, ns, lab.TestImageRef, "one"); err != nil {
		t.Fatal(err)
	}
	first, err := c.Container(ctx, ns, "one")
	if err != nil || !first.Running() || !strings.Contains(first.Command, "testd") {
		t.Fatalf("container: %+v, %v; want it running testd", first, err)
	}
	if err := c.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	again, err := c.Container(ctx, ns, "one")
	if err != nil || !again.Same(first) {
		t.Fatalf("after a restart of containerd: %+v, %v; want the same as %+v", again, err, first)
	}
	if err := c.Run(ctx, ns, "agentd.test/testd:2", "two"); err != nil {
		t.Fatal(err)
	}
	if err := c.Remove(ctx, ns, "two"); err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	if lab.Alive(first.PID, first.Start) {
		t.Error("the container outlived Stop")
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	after, err := lab.TakeSnapshot()
	if err != nil {
		t.Fatal(err)
	}
	if left := after.Since(before).Only(ns, dir); len(left) > 0 {
		t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
}
