package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/agentd/agentd/agent/supervise"
	"github.com/agentd/agentd/e2e/lab"
	"github.com/agentd/agentd/runtime/containerd"
	"github.com/agentd/agentd/spec"
)

// daemons is how many a busy node has.
const daemons = 20

// supervised measures the supervisor alone, in this process, on one node's
// containerd and next to a bare client: what agentd adds to a container's start.
func (r *rig) supervised(ctx context.Context, p plan, stderr io.Writer) ([]result, error) {
	fmt.Fprintf(stderr, "# a supervisor and a bare client, %d daemons\n", daemons)
	node := r.Nodes[2]
	address, archive := node.Containerd.Address, filepath.Join(r.Dir, "testd.tar")
	var namespaces [2]string
	for i, what := range []string{"bare", "super"} {
		namespaces[i] = node.Namespace + "-" + what
		if err := node.Containerd.Import(ctx, namespaces[i], archive); err != nil {
			return nil, err
		}
	}
	floor, err := newBare(ctx, address, namespaces[0])
	if err != nil {
		return nil, err
	}
	defer floor.client.Close()
	rt, err := containerd.New(containerd.Config{
		Address: address, Namespace: namespaces[1], Node: "bench", StateDir: filepath.Join(node.Containerd.Dir, "state"),
	})
	if err != nil {
		return nil, err
	}
	defer rt.Close()
	data := filepath.Join(r.Dir, "bench-data")
	if err := os.MkdirAll(data, 0o755); err != nil {
		return nil, err
	}
	s := supervise.New(supervise.Config{
		Node: spec.Node{Name: "bench"}, Runtime: rt, DataDir: data,
		LogPath: func(d string) string { return filepath.Join(data, "logs", d+".log") },
	})
	sctx, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- s.Run(sctx) }()
	found, err := measureSupervisor(ctx, p, s, floor)
	s.Set(nil)
	leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	err = errors.Join(err, s.StopAll(leave))
	stop()
	return found, errors.Join(err, <-done)
}

func measureSupervisor(ctx context.Context, p plan, s *supervise.Supervisor, floor *bare) ([]result, error) {
	var many, again, manyFloor, againFloor []time.Duration
	want := wantedDaemons(daemons)
	for i := range max(1, p.repetitions/3) {
		took, err := floor.many(ctx, daemons)
		if err != nil {
			return nil, err
		}
		manyFloor = append(manyFloor, took)
		began := time.Now()
		s.Set(want)
		if err := awaitReports(ctx, s, daemons, running); err != nil {
			return nil, err
		}
		many = append(many, time.Since(began))
		for j := range want {
			want[j].Delete, want[j].Generation = true, uint64(2*i+2)
		}
		s.Set(want)
		if err := awaitReports(ctx, s, daemons, func(r supervise.Report) bool { return r.Container == "" && r.PID == 0 }); err != nil {
			return nil, err
		}
		want = wantedDaemons(daemons)
		for j := range want {
			want[j].Generation = uint64(2*i + 3)
		}
	}
	one := want[:1]
	s.Set(one)
	for range p.repetitions {
		took, err := floor.again(ctx)
		if err != nil {
			return nil, err
		}
		againFloor = append(againFloor, took)
		// Longer than reset_after, so that back-off is no part of it.
		if err := awaitReports(ctx, s, 1, running); err != nil {
			return nil, err
		}
		if err := lab.Pause(ctx, 1500*time.Millisecond); err != nil {
			return nil, err
		}
		old := s.Reports()[0].PID
		began := time.Now()
		if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
			return nil, fmt.Errorf("kill the container: %w", err)
		}
		if err := awaitReports(ctx, s, 1, func(r supervise.Report) bool { return running(r) && r.PID != old }); err != nil {
			return nil, err
		}
		again = append(again, time.Since(began))
	}
	return []result{
		{fmt.Sprintf("%d-daemons-from-nothing", daemons), ms(many), ms(manyFloor), 1.2, "ms"},
		{"killed-to-running-supervised", ms(again), ms(againFloor), 1.3, "ms"},
	}, nil
}

func running(r supervise.Report) bool {
	return r.State == string(supervise.Running) && r.PID != 0
}

// awaitReports waits until there are n reports and all are as they have to be.
func awaitReports(ctx context.Context, s *supervise.Supervisor, n int, ok func(supervise.Report) bool) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		reports, wrong := s.Reports(), ""
		for _, r := range reports {
			if !ok(r) {
				wrong = fmt.Sprintf("%s: %s: %s", r.Name, r.State, r.Reason)
			}
		}
		if len(reports) >= n && wrong == "" {
			return nil
		}
		if err := lab.Pause(ctx, time.Millisecond); err != nil {
			return fmt.Errorf("%w; last seen: %s", err, wrong)
		}
	}
}

func wantedDaemons(n int) []supervise.Desired {
	all := make([]supervise.Desired, n)
	for i := range all {
		d := spec.Daemon{Name: fmt.Sprintf("d%02d", i), Image: lab.TestImageRef, Pull: spec.PullNever}
		d.Restart.ResetAfter = spec.Duration(500 * time.Millisecond)
		d = d.WithDefaults()
		all[i] = supervise.Desired{Daemon: d, Digest: d.Digest(), Generation: 1, Revision: 1}
	}
	return all
}

// idleProbed: memory and processor time of an agent that has twenty daemons and
// probes each by http every ten seconds.
func (r *rig) idleProbed(ctx context.Context, p plan, stderr io.Writer) ([]result, error) {
	fmt.Fprintf(stderr, "# an agent with %d probed daemons, idle for %v\n", daemons, p.window)
	node := r.Nodes[2]
	var toml strings.Builder
	for i := range daemons {
		fmt.Fprintf(&toml, `[[daemon]]
name = "idle%02[1]d"
image = %[2]q
pull = "never"
nodes = [%[3]q]
args = ["--listen=127.0.0.1:%[4]d"]
stop.grace = "2s"
[daemon.health.readiness]
http = "http://127.0.0.1:%[4]d/"
interval = "10s"
`, i, lab.TestImageRef, node.Name, 9300+i)
	}
	file := filepath.Join(r.Dir, "idle.toml")
	if err := os.WriteFile(file, []byte(toml.String()), 0o644); err != nil {
		return nil, err
	}
	if _, err := node.MustCtl(ctx, "apply", "-f", file); err != nil {
		return nil, err
	}
	ready := func(ctx context.Context) error {
		st, err := node.Status(ctx)
		if err != nil {
			return err
		}
		n := 0
		for _, d := range st.Daemons {
			if strings.HasPrefix(d.Name, "idle") && d.Ready == 1 {
				n++
			}
		}
		if n < daemons {
			return fmt.Errorf("%d of %d are ready", n, daemons)
		}
		return nil
	}
	if err := lab.Within(ctx, time.Minute, ready); err != nil {
		return nil, err
	}
	if err := lab.Pause(ctx, p.settle); err != nil {
		return nil, err
	}
	before, err := cpuTime(node.Agent.PID)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := lab.Pause(ctx, p.window); err != nil {
		return nil, err
	}
	used, err := cpuTime(node.Agent.PID)
	if err != nil {
		return nil, err
	}
	window := time.Since(began)
	bytes, err := lab.RSS(node.Agent.PID)
	if err != nil {
		return nil, err
	}
	return []result{
		{name: fmt.Sprintf("idle-%d-probed-memory", daemons), measured: float64(bytes) / 1e6, limit: 60, unit: "MB"},
		{name: fmt.Sprintf("idle-%d-probed-cpu", daemons), measured: 100 * float64(used-before) / float64(window), limit: 1, unit: "%"},
	}, nil
}
