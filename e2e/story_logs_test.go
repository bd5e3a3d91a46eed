package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentd/agentd/e2e/lab"
)

// written is how many bytes a process has written so far, by the kernel's word.
func written(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0, err
	}
	var n int64
	for line := range strings.Lines(string(b)) {
		if _, err := fmt.Sscanf(line, "wchar: %d", &n); err == nil {
			return n, nil
		}
	}
	return 0, fmt.Errorf("/proc/%d/io has no wchar", pid)
}

// ticks are the numbers of the lines that testd's -tick printed, in order.
func ticks(path string) ([]int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	text := string(b)
	text = text[:strings.LastIndexByte(text, '\n')+1] // the last one may be half written
	var all []int
	for line := range strings.Lines(text) {
		var n int
		if _, tick, ok := strings.Cut(line, "tick "); ok { // the log has time and stream first
			if _, err := fmt.Sscanf(tick, "%d ", &n); err != nil {
				return nil, fmt.Errorf("read %q: %w", line, err)
			}
			all = append(all, n)
		}
	}
	return all, nil
}

// Whoever follows a log sees every line once while agentd and containerd come
// and go, and the container never waits for somebody to read.
//
// conformance: F1 F2 U9
func TestStoryLogs(t *testing.T) {
	w := newWorld(t)
	n1, err := w.AddNode(w.ctx, "n1")
	w.must(err)
	n1.Extra = "[log]\ncontainers = \"file\"\n"
	w.must(w.Enter(w.ctx, n1))
	w.apply("n1", "web", `args = ["--tick=2ms"]`)
	seen := w.everywhere("web", "n1")

	argv, err := n1.CtlArgs("logs", "-f", "web")
	w.must(err)
	out := filepath.Join(w.Dir, "followed")
	follower, err := lab.StartProcess(lab.ProcessConfig{ID: w.ID, Args: argv, Env: []string{"HOME=" + w.Home()}, Log: out})
	w.must(err)
	// upTo waits until the follower has seen a line that is written from now on.
	upTo := func(what string) {
		t.Helper()
		last := func() (int, error) {
			all, err := ticks(filepath.Join(n1.DataDir(), "logs", "web.log"))
			if err == nil && len(all) == 0 {
				err = fmt.Errorf("the log has no lines")
			}
			if err != nil {
				return 0, err
			}
			return all[len(all)-1], nil
		}
		var want int
		w.eventually(what+": the container writes", func(context.Context) error {
			var err error
			want, err = last()
			return err
		})
		w.eventually(what+": the follower sees it", func(context.Context) error {
			all, err := ticks(out)
			if err == nil && (len(all) == 0 || all[len(all)-1] <= want) {
				err = fmt.Errorf("it has %d lines and not line %d yet", len(all), want+1)
			}
			if err == nil || follower.Running() {
				return err
			}
			return fmt.Errorf("the follower ended: %s", follower.Tail())
		})
	}
	upTo("at first")
	w.must(n1.StopAgent())
	w.must(n1.StartAgent(w.ctx))
	upTo("after agentd's restart")
	w.must(n1.Containerd.Restart(w.ctx))
	upTo("after containerd's restart")

	// Nobody is left but the container and its logger; a pipe holds 64 KiB.
	w.must(n1.KillAgent())
	w.must(n1.Containerd.Kill())
	before, err := written(seen["n1"].PID)
	w.must(err)
	w.eventually("the container goes on alone", func(context.Context) error {
		now, err := written(seen["n1"].PID)
		if err == nil && now < before+256<<10 {
			err = fmt.Errorf("it wrote %d bytes", now-before)
		}
		return err
	})
	w.must(n1.Containerd.Start(w.ctx))
	w.must(n1.StartAgent(w.ctx))
	upTo("after both were killed")
	w.one("n1", "web")
	w.untouched("web", seen, "n1")

	w.must(follower.Kill())
	all, err := ticks(out)
	w.must(err)
	for i, n := range all {
		if n != all[0]+i {
			t.Fatalf("after line %d of %d comes %d: lost or told twice", all[i-1], all[len(all)-1], n)
		}
	}
	if all[0] != 1 {
		t.Errorf("the first line is %d", all[0])
	}
	if tail := strings.Count(w.ok("n1", "logs", "web", "--tail", "5"), "tick "); tail != 5 {
		t.Errorf("--tail 5 tells %d lines", tail)
	}
}
