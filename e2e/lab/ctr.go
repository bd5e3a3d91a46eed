package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Container is what containerd and /proc together say about one container.
type Container struct {
	ID      string
	Status  string // RUNNING, STOPPED, CREATED, PAUSED; "" when there is no task
	PID     int    // 0 without a task
	Start   uint64 // of PID, in clock ticks after boot; 0 when no such process runs
	Command string // of PID, arguments joined by spaces
}

// Running reports whether containerd calls it running and the process exists.
func (c Container) Running() bool { return c.Status == "RUNNING" && c.Start != 0 }

// Same reports whether both are one and the same process: nothing restarted it.
func (c Container) Same(other Container) bool {
	return c.ID == other.ID && c.PID == other.PID && c.Start == other.Start && c.Start != 0
}

// CtrArgs is the ctr command line against this containerd; namespace may be "".
func (c *Containerd) CtrArgs(namespace string, args ...string) []string {
	argv := []string{"ctr", "--address", c.Address}
	if namespace != "" {
		argv = append(argv, "--namespace", namespace)
	}
	return append(argv, args...)
}

// Ctr runs ctr and returns its stdout; a non-zero exit is an error.
func (c *Containerd) Ctr(ctx context.Context, namespace string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return Must(ctx, c.CtrArgs(namespace, args...)...)
}

// Import puts the images of an archive into a namespace and unpacks them.
func (c *Containerd) Import(ctx context.Context, namespace, archive string) error {
	args := []string{"images", "import"}
	if c.cfg.Snapshotter != "" {
		args = append(args, "--snapshotter", c.cfg.Snapshotter)
	}
	_, err := c.Ctr(ctx, namespace, append(args, archive)...)
	return err
}

// Containers lists the containers of a namespace, sorted by id.
func (c *Containerd) Containers(ctx context.Context, namespace string) ([]Container, error) {
	ids, err := c.Ctr(ctx, namespace, "containers", "ls", "-q")
	if err != nil {
		return nil, err
	}
	tasks, err := c.Ctr(ctx, namespace, "tasks", "ls")
	if err != nil {
		return nil, err
	}
	byID := map[string]Container{}
	for _, id := range strings.Fields(ids) {
		byID[id] = Container{ID: id}
	}
	for i, line := range strings.Split(strings.TrimSpace(tasks), "\n") {
		f := strings.Fields(line)
		if i == 0 || len(f) != 3 {
			continue
		}
		t := Container{ID: f[0], Status: f[2]}
		if t.PID, err = strconv.Atoi(f[1]); err != nil {
			return nil, fmt.Errorf("read ctr's task list: line %q: %w", line, err)
		}
		if p, err := ReadProcIn(cmp.Or(c.Proc, "/proc"), t.PID); err == nil && p.State != "Z" {
			t.Start, t.Command = p.Start, strings.Join(p.Args, " ")
		} else if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		byID[t.ID] = t
	}
	all := make([]Container, 0, len(byID))
	for _, t := range byID {
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b Container) int { return strings.Compare(a.ID, b.ID) })
	return all, nil
}

// Container returns one container; without it, a zero value with that id.
func (c *Containerd) Container(ctx context.Context, namespace, id string) (Container, error) {
	all, err := c.Containers(ctx, namespace)
	if err != nil {
		return Container{}, err
	}
	for _, one := range all {
		if one.ID == id {
			return one, nil
		}
	}
	return Container{ID: id}, nil
}

// RunArgs are the arguments of `ctr run -d` for a container on the host's
// network, without fifos, so that ctr may go away.
func (c *Containerd) RunArgs(image, id string, args ...string) []string {
	argv := []string{"run", "--detach", "--net-host", "--log-uri", "file://" + filepath.Join(c.Dir, id+".log")}
	if c.cfg.Snapshotter != "" {
		argv = append(argv, "--snapshotter", c.cfg.Snapshotter)
	}
	return append(append(argv, image, id), args...)
}

// Run starts a container with `ctr run -d`.
func (c *Containerd) Run(ctx context.Context, namespace, image, id string, args ...string) error {
	_, err := c.Ctr(ctx, namespace, c.RunArgs(image, id, args...)...)
	return err
}

// Remove kills and deletes a container that was made with Run.
func (c *Containerd) Remove(ctx context.Context, namespace, id string) error {
	_, _ = c.Ctr(ctx, namespace, "tasks", "delete", "--force", id) // there may be no task
	_, err := c.Ctr(ctx, namespace, "containers", "rm", id)
	return err
}
