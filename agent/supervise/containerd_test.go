package supervise

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agentd/agentd/agent/config"
	"github.com/agentd/agentd/agent/policy"
	"github.com/agentd/agentd/e2e/lab"
	"github.com/agentd/agentd/spec"
)

// The whole of it on a real containerd: start, kill, agent restart, containerd
// restart, a new revision, what a mount of the host shows, and delete.
//
// conformance: A1
// conformance: F1
// conformance: F2
func TestRealContainers(t *testing.T) {
	r := newReal(t)
	ctx, server, dir, rt := r.ctx, r.server, r.dir, r.runtime
	data := filepath.Join(dir, "data")
	for _, d := range []string{data, filepath.Join(dir, "plain")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d, "secret"), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	pol, err := policy.New(config.Default().Policy, data)
	if err != nil {
		t.Fatal(err)
	}
	begin := func() (*Supervisor, func()) { return r.begin(data, func(c *Config) { c.Policy = pol }) }
	running := func(r Report) bool { return r.State == string(Running) && r.Ready }
	d := want("web", 1, func(d *spec.Daemon) {
		d.Image, d.Env = lab.TestImageRef, map[string]string{"REV": "1"}
		d.Mounts = []spec.Mount{{Source: dir, Target: "/host", Options: []string{"ro", "rslave"}}, {Volume: "v", Target: "/v"}}
		d.Files = []spec.File{{Target: "/etc/app.conf", Content: "hello"}}
	})
	s, end := begin()
	s.Set([]Desired{d})
	first := until(t, s, "web", "running", running)

	// What the mount of a parent shows: all but data_dir.
	root := fmt.Sprintf("/proc/%d/root", first.PID)
	if b, err := os.ReadFile(root + "/etc/app.conf"); err != nil || string(b) != "hello" {
		t.Errorf("the spec's file holds %q, %v", b, err)
	}
	if _, err := os.Stat(root + "/host/plain/secret"); err != nil {
		t.Errorf("the mount does not show the host: %v", err)
	}
	if entries, err := os.ReadDir(root + "/host/data"); err != nil || len(entries) != 0 {
		t.Errorf("data_dir is not masked: %v, %v", entries, err)
	}
	if _, err := os.Stat(filepath.Join(data, "secret")); err != nil {
		t.Errorf("the mask spread to the host: %v", err)
	}

	// Killed, and back.
	if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	second := until(t, s, "web", "running again", func(r Report) bool { return running(r) && r.PID != first.PID })
	t.Logf("killed and running again after %v", time.Since(killed))
	if second.Restarts != 1 || second.ExitCode == nil || *second.ExitCode != 137 {
		t.Errorf("report after the kill: %+v", second)
	}

	// Neither an agent's nor containerd's restart restarts anything.
	end()
	s, end = begin()
	s.Set([]Desired{d})
	if r := until(t, s, "web", "adopted", running); r.PID != second.PID || r.Restarts != 1 {
		t.Errorf("report after an agent restart: %+v", r)
	}
	if err := server.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	_ = lab.Pause(ctx, 3*time.Second)
	if r := until(t, s, "web", "running", running); r.PID != second.PID || r.Restarts != 1 {
		t.Errorf("report after a containerd restart: %+v", r)
	}

	// A new revision, whose image comes later.
	d2 := want("web", 2, func(d *spec.Daemon) { d.Image, d.Pull = "agentd.test/none:1", spec.PullNever })
	s.Set([]Desired{d2})
	waits := until(t, s, "web", "waiting for its image", func(r Report) bool { return strings.Contains(r.Reason, "keeps running") })
	if waits.PID != second.PID || waits.State != string(Running) {
		t.Errorf("report while the image is missing: %+v", waits)
	}
	t.Log(waits.Reason)
	d3 := want("web", 3, func(d *spec.Daemon) { d.Image = lab.TestImageRefs()[1] })
	s.Set([]Desired{d3})
	third := until(t, s, "web", "updated", func(r Report) bool { return running(r) && r.Revision == 3 })
	if third.Restarts != 0 || third.Digest != d3.Digest || third.ImageDigest == second.ImageDigest {
		t.Errorf("report after the update: %+v", third)
	}

	// Ended while nobody was there.
	end()
	if err := syscall.Kill(third.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s, end = begin()
	defer func() { end() }()
	s.Set([]Desired{d3})
	again := func(r Report) bool { return running(r) && r.PID != third.PID }
	if r := until(t, s, "web", "running again", again); r.Restarts != 1 || !strings.Contains(r.Reason, "SIGKILL") {
		t.Errorf("report after an exit while away: %+v", r)
	}

	s.Set([]Desired{gone("web", 4), want("other", 1, func(d *spec.Daemon) { d.Image = lab.TestImageRef })})
	until(t, s, "web", "gone", func(r Report) bool { return r.State == string(Stopped) && r.Container == "" })
	until(t, s, "other", "running", running)
	if err := s.StopAll(ctx); err != nil {
		t.Fatal(err)
	}
	left, err := rt.List(ctx)
	if err != nil || len(left) != 0 {
		t.Fatalf("left are %+v, %v", left, err)
	}
	if _, err := os.Stat(filepath.Join(data, "volumes", "v")); err != nil {
		t.Errorf("the volume is gone: %v", err)
	}
}
