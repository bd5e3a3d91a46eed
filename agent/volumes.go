package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec"
)

// Volumes lists the folders under data_dir/volumes and who mounts them.
func (a *Agent) Volumes(ctx context.Context) (api.Volumes, error) {
	out := api.Volumes{Schema: api.Schema, Node: a.cfg.Node.Name, Volumes: []api.Volume{}}
	dir := filepath.Join(a.cfg.Node.DataDir, "volumes")
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return out, err
	}
	users := a.volumeUsers()
	for _, e := range entries {
		if !e.IsDir() || ctx.Err() != nil {
			continue
		}
		v := api.Volume{Name: e.Name(), Path: filepath.Join(dir, e.Name()), Daemons: users[e.Name()]}
		if v.Daemons == nil {
			v.Daemons = []string{}
		}
		if info, err := e.Info(); err == nil {
			v.ModifiedAt = timePtr(info.ModTime())
		}
		v.Bytes = diskUsage(ctx, v.Path)
		out.Volumes = append(out.Volumes, v)
	}
	return out, ctx.Err()
}

// volumeUsers names the daemons that mount each volume: by the ring's word, or
// by a container that is still here.
func (a *Agent) volumeUsers() map[string][]string {
	users := map[string][]string{}
	add := func(d spec.Daemon) {
		for _, m := range d.Mounts {
			if m.Volume != "" && !slices.Contains(users[m.Volume], d.Name) {
				users[m.Volume] = append(users[m.Volume], d.Name)
			}
		}
	}
	a.mu.Lock()
	views := slices.Clone(a.view)
	a.mu.Unlock()
	containers := map[string]bool{}
	for _, r := range a.super.Reports() {
		containers[r.Name] = r.Container != ""
	}
	for _, v := range views {
		if !v.deleted {
			add(v.spec)
		}
		if !containers[v.name] {
			continue
		}
		// What runs may be an older revision than what is wanted.
		for _, r := range a.store.History(v.name) {
			if old, err := understand(r); err == nil {
				add(old.spec)
			}
		}
	}
	for _, list := range users {
		slices.Sort(list)
	}
	return users
}

// PruneVolumes removes volumes that no daemon uses.
func (a *Agent) PruneVolumes(ctx context.Context, only []string) (api.Pruned, error) {
	out := api.Pruned{Schema: api.Schema, Removed: []api.Volume{}, Kept: map[string]string{}}
	if !a.fed.Load() {
		return out, problem(http.StatusConflict, "this node does not know yet which daemons it runs", "try again in a few seconds")
	}
	all, err := a.Volumes(ctx)
	if err != nil {
		return out, err
	}
	for _, name := range only {
		if !slices.ContainsFunc(all.Volumes, func(v api.Volume) bool { return v.Name == name }) {
			out.Kept[name] = "there is no such volume"
		}
	}
	for _, v := range all.Volumes {
		if len(only) > 0 && !slices.Contains(only, v.Name) {
			continue
		}
		if len(v.Daemons) > 0 {
			if len(only) > 0 {
				out.Kept[v.Name] = fmt.Sprintf("%s uses it", names(v.Daemons))
			}
			continue
		}
		if err := os.RemoveAll(v.Path); err != nil {
			out.Kept[v.Name] = err.Error()
			continue
		}
		a.log.Info("volume removed", "volume", v.Name)
		out.Removed = append(out.Removed, v)
	}
	return out, nil
}

// diskUsage sums the blocks below dir; what can't be read counts as nothing.
func diskUsage(ctx context.Context, dir string) (bytes uint64) {
	_ = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return filepath.SkipAll
		}
		var st unix.Stat_t
		if err == nil && unix.Lstat(path, &st) == nil {
			bytes += uint64(st.Blocks) * 512 // as stat(2) counts blocks
		}
		return nil
	})
	return bytes
}
