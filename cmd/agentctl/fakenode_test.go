package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec/record"
)

// fakeLocal is what a scenario says of the containers of this node.
type fakeLocal struct {
	Lines   []fakeLine        `json:"lines"` // of every daemon
	Events  []api.Event       `json:"events"`
	Top     []api.TopDaemon   `json:"top"` // each look finds half a second of CPU more
	Volumes []api.Volume      `json:"volumes"`
	Stuck   map[string]string `json:"stuck"`  // volumes that can't be removed, with the reason
	Meddle  string            `json:"meddle"` // a node that somebody else labels before the next PUT
}

type fakeLine struct {
	Stream string `json:"stream"`
	Line   string `json:"line"`
}

// lineTime is when the fake's line i was printed.
func lineTime(i int) time.Time {
	return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(time.Duration(i/2) * time.Second)
}

func (f *fakeRing) known(name string) error {
	if _, ok := f.daemon(name); !ok {
		return &api.Problem{Status: 404, Detail: fmt.Sprintf("there is no daemon %q on %s", name, f.cfg.Node.Name)}
	}
	return nil
}

// local calls look with what the scenario says, again and again with follow.
func (f *fakeRing) local(ctx context.Context, follow bool, look func(fakeLocal) error) error {
	for {
		f.mu.Lock()
		s := f.s.Local
		f.mu.Unlock()
		if err := look(s); err != nil || !follow {
			return err
		}
		if !wait(ctx, 20*time.Millisecond) {
			return ctx.Err()
		}
	}
}

func (f *fakeRing) Logs(ctx context.Context, q api.LogQuery, emit func(api.LogLine) error) error {
	f.mu.Lock()
	err := f.known(q.Daemon)
	f.mu.Unlock()
	if err != nil {
		return err
	}
	next := -1
	return f.local(ctx, q.Follow, func(s fakeLocal) error {
		if next < 0 {
			next = 0
			if q.Tail >= 0 {
				next = max(0, len(s.Lines)-q.Tail)
			}
		}
		for ; next < len(s.Lines); next++ {
			if lineTime(next).Before(q.Since) {
				continue
			}
			if err := emit(api.LogLine{Time: lineTime(next), Stream: s.Lines[next].Stream, Line: s.Lines[next].Line}); err != nil {
				return err
			}
		}
		return nil
	})
}

// Exec knows a few commands.
func (f *fakeRing) Exec(ctx context.Context, name string, req api.ExecRequest, s api.ExecStreams) (int, error) {
	f.mu.Lock()
	err := f.known(name)
	f.mu.Unlock()
	if err != nil {
		return 0, err
	}
	switch req.Argv[0] {
	case "echo":
		fmt.Fprintf(s.Stdout, "%s\n", strings.Join(req.Argv[1:], " "))
	case "trouble":
		fmt.Fprintln(s.Stderr, "trouble")
		return 7, nil
	case "exit":
		return strconv.Atoi(req.Argv[1])
	case "cat":
		if s.Stdin == nil {
			fmt.Fprintln(s.Stdout, "no input")
			return 0, nil
		}
		if _, err := io.Copy(s.Stdout, s.Stdin); err != nil {
			return 0, err
		}
	case "where":
		fmt.Fprintf(s.Stdout, "user %q dir %q env %q tty %t size %v\r\n", req.User, req.Cwd, req.Env, req.TTY, req.Size)
	case "ask": // a line from a terminal, which is raw
		var line []byte
		for b := make([]byte, 1); ; line = append(line, b[0]) {
			if n, _ := s.Stdin.Read(b); n == 0 || b[0] == '\r' || b[0] == '\n' {
				break
			}
		}
		fmt.Fprintf(s.Stdout, "got %q\r\n", line)
		return 5, nil
	case "sleep":
		<-ctx.Done()
		return 0, ctx.Err()
	default:
		return 0, &api.Problem{Status: 400, Detail: fmt.Sprintf("%q: executable file not found in $PATH", req.Argv[0])}
	}
	return 0, nil
}

func (f *fakeRing) Restart(_ context.Context, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.known(name)
}

func (f *fakeRing) Events(ctx context.Context, since time.Time, follow bool, emit func(api.Event) error) error {
	next := 0
	return f.local(ctx, follow, func(s fakeLocal) error {
		for ; next < len(s.Events); next++ {
			if s.Events[next].Time.Before(since) {
				continue
			}
			if err := emit(s.Events[next]); err != nil {
				return err
			}
		}
		return nil
	})
}

func (f *fakeRing) Top(context.Context) (api.Top, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := api.Top{Schema: api.Schema, Node: f.cfg.Node.Name, Daemons: slices.Clone(f.s.Local.Top)}
	f.looks++
	for i := range t.Daemons {
		d := &t.Daemons[i]
		d.StartedAt = f.ago("2m30s")
		if d.Error == "" {
			at := lineTime(2 * f.looks) // a second later each time
			d.At = &at
			d.CPUSeconds += 0.5 * float64(f.looks)
		}
	}
	return t, nil
}

func (f *fakeRing) Volumes(context.Context) (api.Volumes, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return api.Volumes{Schema: api.Schema, Node: f.cfg.Node.Name, Volumes: f.s.Local.Volumes}, nil
}

func (f *fakeRing) PruneVolumes(_ context.Context, names []string) (api.Pruned, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := api.Pruned{Schema: api.Schema, Removed: []api.Volume{}, Kept: map[string]string{}}
	f.s.Local.Volumes = slices.DeleteFunc(slices.Clone(f.s.Local.Volumes), func(v api.Volume) bool {
		if !slices.Contains(names, v.Name) {
			return false
		}
		if why, stuck := f.s.Local.Stuck[v.Name]; stuck {
			p.Kept[v.Name] = why
			return false
		}
		p.Removed = append(p.Removed, v)
		return true
	})
	return p, nil
}

// said is what records say of a node, over its labels.
func (f *fakeRing) said(n fakeNode) (record.NodeBody, map[string]string, []string) {
	body, err := nodeBody(f.set.Entry(record.NodeKey(n.Name)))
	if err != nil {
		panic(err)
	}
	labels, taints := body.Over(n.Labels, n.Taints)
	return body, labels, taints
}

// meddleNode is another operator, who labels a node between a read and a write.
func (f *fakeRing) meddleNode(name string) {
	f.s.Local.Meddle = ""
	bob := "bob"
	body, err := nodeBody(f.set.Entry(record.NodeKey(name)))
	if err != nil {
		panic(err)
	}
	if body.Labels == nil {
		body.Labels = map[string]*string{}
	}
	body.Labels["owner"] = &bob
	raw, err := record.EncodeNode(body)
	if err != nil {
		panic(err)
	}
	f.writeAsBob(record.NodeKey(name), raw)
}
