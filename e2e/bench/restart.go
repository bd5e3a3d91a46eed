package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/agentd/agentd/e2e/lab"
)

// restarted: from SIGKILL of a container's process to its successor running,
// against a bare client that waits for the end, deletes, creates and starts.
// Both do it alone, with the connection open, and are killed and watched from
// outside in the same way; the limit is against containers with the same
// logger, and the line after it tells what the logger is worth.
func (r *rig) restarted(ctx context.Context, p plan, stderr io.Writer) (all []result, err error) {
	fmt.Fprintln(stderr, "# killed to running again, against a bare client")
	n := r.Nodes[1]
	same, err := r.bare(ctx, n, "same", true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, same.close()) }()
	mute, err := r.bare(ctx, n, "mute", false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, mute.close()) }()
	for _, b := range []*bare{same, mute} {
		if err := b.do("keep bench"); err != nil {
			return nil, err
		}
	}
	if _, err := n.MustCtl(ctx, "apply", "-f", r.file); err != nil {
		return nil, err
	}
	if err := r.nodeRuns(ctx, n, 3); err != nil {
		return nil, err
	}
	times := map[string][]time.Duration{}
	for range p.repetitions {
		// In turns, so that whatever else this machine does hits all alike.
		for _, ns := range []string{n.Namespace, n.Namespace + "-same", n.Namespace + "-mute"} {
			// Longer than reset_after, so that back-off is no part of it.
			if err := lab.Pause(ctx, 700*time.Millisecond); err != nil {
				return nil, err
			}
			took, err := r.kill(ctx, n, ns)
			if err != nil {
				return nil, err
			}
			times[ns] = append(times[ns], took)
		}
	}
	if err := r.drop(ctx, n, daemonName); err != nil {
		return nil, err
	}
	measured := ms(times[n.Namespace])
	return []result{
		{"restart", measured, ms(times[n.Namespace+"-same"]), 1.3, "ms"},
		{"restart-floor-without-logger", measured, ms(times[n.Namespace+"-mute"]), 0, "ms"},
	}, nil
}

// kill ends the container of a namespace and waits for the next process.
func (r *rig) kill(ctx context.Context, n *lab.Node, ns string) (time.Duration, error) {
	old, err := n.Containerd.Container(ctx, ns, daemonName)
	if err != nil {
		return 0, err
	}
	if !old.Running() {
		return 0, fmt.Errorf("the container to kill in %s does not run: %+v", ns, old)
	}
	w, err := newWitness(n)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := syscall.Kill(old.PID, syscall.SIGKILL); err != nil {
		return 0, fmt.Errorf("kill the container in %s: %w", ns, err)
	}
	err = w.started(ctx, 1)
	return time.Since(began), err
}

// nodeRuns waits until a node has exactly so many of the test program's processes.
func (r *rig) nodeRuns(ctx context.Context, n *lab.Node, want int) error {
	return lab.Within(ctx, time.Minute, func(context.Context) error {
		count, err := n.Programs(program)
		if err == nil && count != want {
			err = fmt.Errorf("%s has %d processes, not %d", n.Name, count, want)
		}
		return err
	})
}

// drop deletes daemons and waits until the ring has no container of them.
func (r *rig) drop(ctx context.Context, n *lab.Node, names ...string) error {
	if _, err := n.MustCtl(ctx, append([]string{"delete", "--yes"}, names...)...); err != nil {
		return err
	}
	return r.empty(ctx)
}
