package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/agentd/agentd/e2e/lab"
)

// rig is a ring of three with one test image.
type rig struct {
	*lab.Lab
	file string
}

const (
	daemonName = "bench"
	program    = "testd"
	archive    = "testd.tar"
	// resetAfter lets every kill be the first one: the restart is immediate.
	daemonFile = `name  = "bench"
image = "` + lab.TestImageRef + `"
pull  = "never"
[restart]
reset_after = "500ms"
[stop]
grace = "2s"
`
)

// realParts measures with real agents and containerds.
func realParts(ctx context.Context, p plan, stderr io.Writer) (all []result, err error) {
	fmt.Fprintln(stderr, "# starting a ring of three with real containerds")
	r, err := start(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	for _, part := range []struct {
		name    string
		measure func(context.Context, plan, io.Writer) ([]result, error)
	}{
		{"apply", r.apply}, {"killed", r.killed}, {"idle", r.idle},
		{"restart", r.restarted}, {"many", r.many}, {"idle-20", r.idleCrowd},
	} {
		if p.only != "" && p.only != "real" && p.only != part.name {
			continue
		}
		found, err := part.measure(ctx, p, stderr)
		if err != nil {
			return nil, fmt.Errorf("%w\nagentd's log on %s ends:\n%s", err, r.Nodes[0].Name, r.Nodes[0].Agent.Tail())
		}
		all = append(all, found...)
	}
	return all, nil
}

func start(ctx context.Context) (*rig, error) {
	dir, err := lab.TempDir("agb")
	if err != nil {
		return nil, err
	}
	images := filepath.Join(dir, archive)
	l, err := lab.New(ctx, lab.Config{ID: lab.NewID("agb"), Dir: dir, Archives: []string{images}})
	if err != nil {
		return nil, err
	}
	r := &rig{Lab: l, file: filepath.Join(dir, "bench.toml")}
	if err := r.build(ctx, images); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return r, nil
}

func (r *rig) build(ctx context.Context, images string) error {
	if err := os.WriteFile(r.file, []byte(daemonFile), 0o644); err != nil {
		return err
	}
	if _, err := lab.TestImage(ctx, images); err != nil {
		return err
	}
	for _, name := range []string{"n1", "n2", "n3"} {
		n, err := r.AddNode(ctx, name)
		if err != nil {
			return err
		}
		// As the floor has it, also where journald runs.
		n.Extra = "[log]\ncontainers = \"file\"\n"
		if err := r.Enter(ctx, n); err != nil {
			return err
		}
	}
	return r.Agree(ctx, 30*time.Second)
}

// running waits until every node has exactly want processes of the daemon. It
// looks at /proc, because asking ctr takes as long as what is measured.
func (r *rig) running(ctx context.Context, want int) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for _, n := range r.Nodes {
		for {
			count, err := n.Programs(program)
			if err != nil {
				return err
			}
			if count == want {
				break
			}
			if err := lab.Pause(ctx, 2*time.Millisecond); err != nil {
				return fmt.Errorf("wait for %d processes on %s, have %d: %w", want, n.Name, count, err)
			}
		}
	}
	return nil
}

// empty waits until no container is left on any node, by containerd's word.
func (r *rig) empty(ctx context.Context) error {
	for _, n := range r.Nodes {
		err := lab.Within(ctx, 30*time.Second, func(ctx context.Context) error {
			all, err := n.Containers(ctx)
			if err == nil && len(all) > 0 {
				err = fmt.Errorf("%s still has %+v", n.Name, all)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// apply: from typing `agentctl apply` to running on all three, against three
// `ctr run -d` one after the other.
func (r *rig) apply(ctx context.Context, p plan, stderr io.Writer) ([]result, error) {
	fmt.Fprintln(stderr, "# apply to running on all three")
	var measured, floor []time.Duration
	first := r.Nodes[0]
	for range p.repetitions {
		took, err := r.applyFloor(ctx)
		if err != nil {
			return nil, err
		}
		floor = append(floor, took)

		began := time.Now()
		if _, err := first.MustCtl(ctx, "apply", "-f", r.file); err != nil {
			return nil, err
		}
		if err := r.running(ctx, 1); err != nil {
			return nil, err
		}
		measured = append(measured, time.Since(began))
		if _, err := first.MustCtl(ctx, "delete", "--yes", daemonName); err != nil {
			return nil, err
		}
		if err := r.empty(ctx); err != nil {
			return nil, err
		}
	}
	return []result{{"apply-to-running-on-3", ms(measured), ms(floor), 1.2, "ms"}}, nil
}

func (r *rig) applyFloor(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	for _, n := range r.Nodes {
		if err := n.Containerd.Run(ctx, n.Namespace, lab.TestImageRef, "floor"); err != nil {
			return 0, err
		}
	}
	took := time.Since(began)
	for _, n := range r.Nodes {
		if err := n.Containerd.Remove(ctx, n.Namespace, "floor"); err != nil {
			return 0, err
		}
	}
	return took, r.running(ctx, 0)
}

// killed: from SIGKILL to a new process running, against killing, deleting and
// `ctr run -d` by hand.
func (r *rig) killed(ctx context.Context, p plan, stderr io.Writer) ([]result, error) {
	fmt.Fprintln(stderr, "# killed to running again")
	n := r.Nodes[1]
	floorNS := n.Namespace + "-floor" // apart from agentd's
	if err := n.Containerd.Import(ctx, floorNS, filepath.Join(r.Dir, archive)); err != nil {
		return nil, err
	}
	var measured, floor []time.Duration
	if _, err := n.MustCtl(ctx, "apply", "-f", r.file); err != nil {
		return nil, err
	}
	if err := r.running(ctx, 1); err != nil {
		return nil, err
	}
	for range p.repetitions {
		// In turns, so that whatever else this machine does hits both alike.
		took, err := r.killedFloor(ctx, n, floorNS)
		if err != nil {
			return nil, err
		}
		floor = append(floor, took)
		// Longer than reset_after, so that back-off is no part of it.
		if err := lab.Pause(ctx, 1500*time.Millisecond); err != nil {
			return nil, err
		}
		took, err = r.kill(ctx, n, n.Namespace)
		if err != nil {
			return nil, err
		}
		measured = append(measured, took)
	}
	return []result{{"killed-to-running-again", ms(measured), ms(floor), 1.5, "ms"}}, nil
}

func (r *rig) killedFloor(ctx context.Context, n *lab.Node, ns string) (time.Duration, error) {
	c := n.Containerd
	if err := c.Run(ctx, ns, lab.TestImageRef, "floor"); err != nil {
		return 0, err
	}
	old, err := c.Container(ctx, ns, "floor")
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := syscall.Kill(old.PID, syscall.SIGKILL); err != nil {
		return 0, fmt.Errorf("kill the floor's container: %w", err)
	}
	if err := gone(ctx, old); err != nil {
		return 0, err
	}
	if err := c.Remove(ctx, ns, "floor"); err != nil {
		return 0, err
	}
	if err := c.Run(ctx, ns, lab.TestImageRef, "floor"); err != nil {
		return 0, err
	}
	took := time.Since(began)
	return took, c.Remove(ctx, ns, "floor")
}

// gone waits until a killed process has ended.
func gone(ctx context.Context, c lab.Container) error {
	for lab.Alive(c.PID, c.Start) {
		if err := lab.Pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// ms is the median in milliseconds.
func ms(all []time.Duration) float64 {
	slices.Sort(all)
	return float64(all[len(all)/2].Microseconds()) / 1000
}
