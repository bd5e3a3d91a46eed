package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/agentd/agentd/runtime/bundle"
)

const (
	// runcRoot is where containerd's shim tells runc to keep its state, however
	// containerd itself is configured.
	runcRoot = "/run/containerd/runc"
	// bundleAge is how old a bundle has to be before it counts as left over: a
	// younger one may belong to a call that is still under way.
	bundleAge = 2 * time.Second
	// runcLimit bounds one run of runc.
	runcLimit = 30 * time.Second
)

// wedged reports that containerd refuses to create a task because of something
// left over that it does not show, or that it is still taking away: a delete
// that was cut off goes on inside, and removes the bundle from under a create
// that comes too soon.
func wedged(err error) bool {
	if err == nil {
		return false
	}
	text := err.Error()
	return errdefs.IsAlreadyExists(err) || strings.Contains(text, "file exists") || strings.Contains(text, "already exists") ||
		strings.Contains(text, "failed to mount rootfs component") && strings.Contains(text, "no such file or directory")
}

// clearWedge makes containerd forget a task that it holds but does not show.
// The raw call answers NotFound and clears it all the same; the client's
// Task.Delete never gets that far, because it looks the task up first.
func (r *Runtime) clearWedge(ctx context.Context, id string) error {
	ctx, cancel := steady(ctx)
	defer cancel()
	_, err := r.tasks().Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: id})
	if err = translate(err); err != nil && !errdefs.IsNotFound(err) && !lostShim(err) {
		return fmt.Errorf("clear a wedged task: %w", err)
	}
	return nil
}

// mend cleans up after a create that failed with cause, so that the next one
// can succeed. Only what belongs to our namespace and this id is touched, and
// no living task: the caller has seen that there is none.
func (r *Runtime) mend(ctx context.Context, id string, cause error) error {
	if err := r.clearWedge(ctx, id); err != nil {
		return err
	}
	bundles := r.bundles(id, cause)
	if len(bundles) == 0 {
		return nil
	}
	for _, b := range bundles {
		if err := r.waitForAge(ctx, b); err != nil {
			return err
		}
	}
	// The task may have come to life while we waited.
	if p, err := r.process(ctx, id); err != nil || p != nil {
		return err
	}
	r.log.Warn("removing what an interrupted start left behind", "container", id, "bundles", bundles, "err", cause)
	if err := r.killShims(ctx, id); err != nil {
		return err
	}
	if err := r.runcDelete(ctx, id); err != nil {
		return err
	}
	var errs []error
	for _, b := range bundles {
		errs = append(errs, removeBundle(ctx, b))
	}
	return errors.Join(errs...)
}

var existsPath = regexp.MustCompile(`mkdir (/[^:]+): file exists`)

// bundles are the existing folders of id: where containerd's complaint says,
// and where they would be by our configuration. No other id begins with a dot.
func (r *Runtime) bundles(id string, cause error) []string {
	tail := filepath.Join(bundle.Part, r.cfg.Namespace, id)
	found := []string{filepath.Join(r.cfg.StateDir, tail)}
	if m := existsPath.FindStringSubmatch(fmt.Sprint(cause)); m != nil {
		// The complaint may be about a folder in the bundle.
		if i := strings.Index(m[1], "/"+tail); i > 0 && (len(m[1]) == i+1+len(tail) || m[1][i+1+len(tail)] == '/') {
			found = append(found, m[1][:i+1+len(tail)])
		}
	}
	// A bundle is deleted under a hidden name. One whose delete was cut off by
	// containerd's own end stays for ever, and no bundle of that id can be
	// deleted after it.
	for _, dir := range found {
		found = append(found, filepath.Join(filepath.Dir(dir), "."+id))
	}
	slices.Sort(found)
	return slices.DeleteFunc(slices.Compact(found), func(dir string) bool {
		st, err := os.Lstat(dir)
		return err != nil || !st.IsDir()
	})
}

func (r *Runtime) waitForAge(ctx context.Context, dir string) error {
	for {
		st, err := os.Lstat(dir)
		if err != nil {
			return ignoreGone(err)
		}
		left := bundleAge - time.Since(st.ModTime())
		if left <= 0 || left > bundleAge { // the latter: a clock that went back
			return nil
		}
		// Most often containerd is about to delete it itself.
		if err := pause(ctx, min(left, 50*time.Millisecond)); err != nil {
			return err
		}
	}
}

// sweepBundles removes what deletes that were cut off left of a container that
// is gone for good: nobody else would.
func (r *Runtime) sweepBundles(ctx context.Context, id string) error {
	if len(r.bundles(id, nil)) == 0 {
		return nil
	}
	return r.mend(ctx, id, errors.New("its bundle outlived it"))
}

// killShims ends the shims of our namespace and id that serve our containerd.
func (r *Runtime) killShims(ctx context.Context, id string) error {
	for end := time.Now().Add(strayLimit); ; {
		pids, err := r.shims(id)
		if err != nil || len(pids) == 0 {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("shim %d did not end %v after SIGKILL", pids, strayLimit)
		}
		for _, pid := range pids {
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				continue
			}
			// With the pidfd in hand, see that it still is that process.
			if r.isShim(pid, id) {
				err = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
			}
			_ = unix.Close(fd)
			if err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("kill shim %d: %w", pid, err)
			}
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

func (r *Runtime) shims(id string) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("look for shims: %w", err)
	}
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && r.isShim(pid, id) && alive(pid) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

func (r *Runtime) isShim(pid int, id string) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil {
		return false
	}
	args := strings.Split(string(b), "\x00")
	flag := func(name string) string {
		if i := slices.Index(args, name); i >= 0 && i+1 < len(args) {
			return args[i+1]
		}
		return ""
	}
	return strings.HasPrefix(filepath.Base(args[0]), "containerd-shim") &&
		flag("-namespace") == r.cfg.Namespace && flag("-id") == id &&
		(flag("-address") == r.cfg.Address || r.inBundle(pid, id))
}

// inBundle reports whether a process has our containerd's bundle of id as its
// working folder, as a shim does: the same socket may go by several names, such
// as /run and /var/run.
func (r *Runtime) inBundle(pid int, id string) bool {
	cwd, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/cwd")
	if err != nil {
		return false
	}
	dir := filepath.Join(r.cfg.StateDir, bundle.Part, r.cfg.Namespace)
	// The kernel marks a folder that is gone; a hidden one is being deleted.
	cwd = strings.TrimSuffix(cwd, " (deleted)")
	return cwd == filepath.Join(dir, id) || cwd == filepath.Join(dir, "."+id)
}

// runcDelete removes runc's own state of id and kills what runs in it.
func (r *Runtime) runcDelete(ctx context.Context, id string) error {
	root := filepath.Join(runcRoot, r.cfg.Namespace)
	if _, err := os.Lstat(filepath.Join(root, id)); err != nil {
		return ignoreGone(err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), runcLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, "runc", "--root", root, "delete", "--force", id).CombinedOutput()
	if err != nil {
		return fmt.Errorf("runc delete: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
