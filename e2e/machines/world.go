package machines

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/e2e/lab"
)

// World is a network with machines on it.
type World struct {
	ID       string
	Dir      string
	Net      *lab.Net
	Machines []*Machine
	tree     string
}

// NewWorld makes a network in the run that Main began.
func NewWorld(ctx context.Context) (*World, error) {
	run := os.Getenv(envRun)
	if run == "" {
		return nil, errors.New("make a world: there is no run, which Main begins")
	}
	tree, err := Tree(ctx)
	if err != nil {
		return nil, err
	}
	id := lab.NewID(filepath.Base(run))
	w := &World{ID: id, Dir: filepath.Join(run, id), tree: tree}
	if err := os.Mkdir(w.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make a world: %w", err)
	}
	if w.Net, err = lab.NewNet(ctx, id); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// Close ends all machines and removes everything.
func (w *World) Close() error { return sweepWorld(w.ID, w.Dir) }

// Add plugs a machine in and boots it.
func (w *World) Add(ctx context.Context, name string) (*Machine, error) {
	m, err := w.Plug(ctx, name)
	if err != nil {
		return nil, err
	}
	return m, m.Boot(ctx)
}

// Plug makes a machine with a network, and leaves it off.
func (w *World) Plug(ctx context.Context, name string) (*Machine, error) {
	where, err := w.Net.AddNode(ctx, name)
	if err != nil {
		return nil, err
	}
	m := &Machine{NetNode: where, Dir: filepath.Join(w.Dir, name), world: w}
	w.Machines = append(w.Machines, m)
	return m, nil
}

// Machine finds a machine by name; nil when there is none.
func (w *World) Machine(name string) *Machine {
	for _, m := range w.Machines {
		if m.Name == name {
			return m
		}
	}
	return nil
}

// Install installs a package of Packages' folder with the machine's own tools.
func (m *Machine) Install(ctx context.Context, dir string) (said string, err error) {
	debs, err := filepath.Glob(filepath.Join(dir, "agentd_*.deb"))
	if err != nil || len(debs) != 1 {
		return "", fmt.Errorf("look for one deb in %s: there are %d", dir, len(debs))
	}
	if err := m.Copy(debs[0], "/root/agentd.deb"); err != nil {
		return "", err
	}
	return m.Must(ctx, "dpkg", "--install", "/root/agentd.deb")
}

// Status asks the machine's agent.
func (m *Machine) Status(ctx context.Context) (api.Status, error) {
	var s api.Status
	return s, m.ask(ctx, &s, "status", "--all", "-o", "json")
}

// Nodes are the members of the ring as the machine's agent knows them.
func (m *Machine) Nodes(ctx context.Context) (api.Nodes, error) {
	var n api.Nodes
	return n, m.ask(ctx, &n, "nodes", "-o", "json")
}

func (m *Machine) ask(ctx context.Context, into any, args ...string) error {
	res, err := m.Exec(ctx, append([]string{"agentctl"}, args...)...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(res.Stdout), into); err != nil {
		return fmt.Errorf("agentctl %s on %s: exit %d: %s", args[0], m.Name, res.Code, res.Output())
	}
	return nil
}

// Join has the machine join the ring of another, by a token.
func (m *Machine) Join(ctx context.Context, ring *Machine, args ...string) (said string, err error) {
	token, err := ring.Must(ctx, "agentctl", "token")
	if err != nil {
		return "", err
	}
	res, err := m.ExecInput(ctx, token, append([]string{"agentctl", "join", "-"}, args...)...)
	if err == nil && res.Code != 0 {
		err = fmt.Errorf("agentctl join on %s: exit %d: %s", m.Name, res.Code, res.Output())
	}
	return res.Output(), err
}

// Apply applies a daemon's file with the operator key of this machine.
func (m *Machine) Apply(ctx context.Context, toml string) error {
	res, err := m.ExecInput(ctx, toml, "agentctl", "apply", "--yes", "-f", "-")
	if err == nil && res.Code != 0 {
		err = fmt.Errorf("agentctl apply on %s: exit %d: %s", m.Name, res.Code, strings.TrimSpace(res.Output()))
	}
	return err
}
