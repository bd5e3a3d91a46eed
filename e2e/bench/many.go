package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/agentd/agentd/e2e/lab"
)

// crowd is how many daemons one node has in these measurements.
const crowd = 20

// crowdFile writes a file of daemons for one node, and returns their names.
func (r *rig) crowdFile(n *lab.Node, more func(i int) string) (path string, names []string, err error) {
	var b strings.Builder
	for i := range crowd {
		names = append(names, fmt.Sprintf("many-%d", i))
		fmt.Fprintf(&b, "[[daemon]]\nname = %q\nimage = %q\npull = \"never\"\nnodes = [%q]\n", names[i], lab.TestImageRef, n.Name)
		if more != nil {
			b.WriteString(more(i))
		}
	}
	path = filepath.Join(r.Dir, "many.toml")
	return path, names, os.WriteFile(path, []byte(b.String()), 0o644)
}

// many: 20 daemons from nothing, against a bare client that starts as many
// containers four at a time. Ours begins with an operator who takes back a
// drain, which is one record; so what agentctl needs to sign twenty is not in
// it, and all that the agent needs to notice, decide and start them is.
func (r *rig) many(ctx context.Context, p plan, stderr io.Writer) (all []result, err error) {
	fmt.Fprintln(stderr, "# 20 daemons from nothing, against a bare client")
	n := r.Nodes[1]
	same, err := r.bare(ctx, n, "many", true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, same.close()) }()
	file, names, err := r.crowdFile(n, nil)
	if err != nil {
		return nil, err
	}
	drain := func() error {
		_, err := n.MustCtl(ctx, "drain", "--yes", "--wait=1m", n.Name)
		return errors.Join(err, r.nodeRuns(ctx, n, 0))
	}
	if err := drain(); err != nil {
		return nil, err
	}
	if _, err := n.MustCtl(ctx, "apply", "-f", file); err != nil {
		return nil, err
	}
	// took measures one way of starting them.
	took := func(begin func() error) (time.Duration, error) {
		w, err := newWitness(n)
		if err != nil {
			return 0, err
		}
		began := time.Now()
		if err := begin(); err != nil {
			return 0, err
		}
		err = w.started(ctx, crowd)
		return time.Since(began), err
	}
	var measured, floor []time.Duration
	for range (p.repetitions + 1) / 2 {
		d, err := took(func() error { return same.do("start %d 4", crowd) })
		if err != nil {
			return nil, err
		}
		floor = append(floor, d)
		if err := errors.Join(same.do("clear"), r.nodeRuns(ctx, n, 0)); err != nil {
			return nil, err
		}
		d, err = took(func() error { _, err := n.MustCtl(ctx, "uncordon", n.Name); return err })
		if err != nil {
			return nil, err
		}
		measured = append(measured, d)
		if err := drain(); err != nil {
			return nil, err
		}
	}
	if err := r.drop(ctx, n, names...); err != nil {
		return nil, err
	}
	if _, err := n.MustCtl(ctx, "uncordon", n.Name); err != nil {
		return nil, err
	}
	return []result{{"20-daemons-from-nothing", ms(measured), ms(floor), 1.2, "ms"}}, nil
}

// idleCrowd: memory and processor time of an agent with 20 daemons that are
// each asked by http every 10 s and otherwise left alone.
func (r *rig) idleCrowd(ctx context.Context, p plan, stderr io.Writer) ([]result, error) {
	fmt.Fprintf(stderr, "# an agent with 20 probed daemons for %v\n", p.window)
	n := r.Nodes[1]
	file, names, err := r.crowdFile(n, func(i int) string {
		return fmt.Sprintf("args = [\"--listen=127.0.0.1:%d\"]\n[daemon.health.readiness]\nhttp = \"http://127.0.0.1:%[1]d/\"\ninterval = \"10s\"\n", 8200+i)
	})
	if err != nil {
		return nil, err
	}
	if _, err := n.MustCtl(ctx, "apply", "-f", file); err != nil {
		return nil, err
	}
	err = lab.Within(ctx, time.Minute, func(ctx context.Context) error { // so the probes do get through
		st, err := n.Status(ctx)
		ready := 0
		for _, d := range st.Daemons {
			ready += d.Ready
		}
		if err == nil && ready != crowd {
			err = fmt.Errorf("%d of %d are ready", ready, crowd)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	rss, cpu, err := r.use(ctx, p, n)
	if err != nil {
		return nil, err
	}
	return []result{
		{name: "20-probed-daemons-memory", measured: rss, limit: 60, unit: "MB"},
		{name: "20-probed-daemons-cpu", measured: cpu, limit: 1, unit: "%"},
	}, r.drop(ctx, n, names...)
}
