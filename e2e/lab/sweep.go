package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Where containerd, runc and agentd keep what is not below a daemon's own folders.
const (
	shimSockets = "/run/containerd/s"
	runcState   = "/run/containerd/runc"
	fifoFolder  = "/run/containerd/fifo"
	agentLocks  = "/run/agentd/locks"
)

// task is one container that a private containerd may have left behind.
type task struct{ namespace, id string }

// SweepContainerd ends all containers of the containerd that lived in dir and
// removes what it keeps elsewhere: shims, sockets, runc's state, cgroups and
// mounts. The daemon itself has to be gone already. Nothing is touched that
// does not belong to the socket in dir or to a namespace used there.
func SweepContainerd(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	address := filepath.Join(dir, "c.sock")
	found, err := leftTasks(dir, address)
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range found {
		root := filepath.Join(runcState, t.namespace)
		if _, err := os.Stat(filepath.Join(root, t.id)); err == nil {
			// Errors are judged by what is left below.
			_, _ = Exec(ctx, "runc", "--root", root, "delete", "--force", t.id)
		}
	}
	errs = append(errs, killAll(ctx, func(p Proc) bool { return isShim(p) && p.flag("-address") == address }))
	for _, t := range found {
		root := filepath.Join(runcState, t.namespace)
		errs = append(errs, os.RemoveAll(filepath.Join(root, t.id)))
		for _, name := range []string{filepath.Join(t.namespace, t.id), filepath.Join(t.namespace, t.id, "debug")} {
			sum := sha256.Sum256([]byte(filepath.Join(address, name)))
			errs = append(errs, removeFile(filepath.Join(shimSockets, fmt.Sprintf("%x", sum))))
		}
	}
	for _, ns := range namespacesOf(dir, found) {
		errs = append(errs, removeIfEmpty(filepath.Join(runcState, ns)), removeCgroups(ctx, ns))
	}
	errs = append(errs, unmountBelow(dir))
	return errors.Join(errs...)
}

func isShim(p Proc) bool { return strings.HasPrefix(p.Base(), "containerd-shim") }

// leftTasks finds tasks by their shims and by the bundles on disk.
func leftTasks(dir, address string) ([]task, error) {
	procs, err := Procs()
	if err != nil {
		return nil, err
	}
	var all []task
	for _, p := range procs {
		if isShim(p) && p.flag("-address") == address {
			all = append(all, task{p.flag("-namespace"), p.flag("-id")})
		}
	}
	bundles, err := filepath.Glob(filepath.Join(dir, "state", "io.containerd.runtime.v2.task", "*", "*"))
	if err != nil {
		return nil, fmt.Errorf("list bundles: %w", err)
	}
	for _, b := range bundles {
		all = append(all, task{filepath.Base(filepath.Dir(b)), filepath.Base(b)})
	}
	slices.SortFunc(all, func(a, b task) int {
		return strings.Compare(a.namespace+"/"+a.id, b.namespace+"/"+b.id)
	})
	return slices.Compact(all), nil
}

// namespacesOf also finds namespaces whose containers are all gone.
func namespacesOf(dir string, tasks []task) []string {
	var all []string
	for _, t := range tasks {
		all = append(all, t.namespace)
	}
	for _, part := range []string{"state", "root"} {
		dirs, _ := filepath.Glob(filepath.Join(dir, part, "io.containerd.runtime.v2.task", "*"))
		for _, d := range dirs {
			all = append(all, filepath.Base(d))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// killAll sends SIGKILL to every process that is meant and waits until they
// are gone. A process is looked at again before every signal.
func killAll(ctx context.Context, meant func(Proc) bool) error {
	self := os.Getpid()
	return Within(ctx, 20*time.Second, func(context.Context) error {
		procs, err := Procs()
		if err != nil {
			return err
		}
		left := 0
		for _, p := range procs {
			if p.PID == self || p.PID == 1 || !meant(p) {
				continue
			}
			left++
			if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("kill process %d (%s): %w", p.PID, p.Base(), err)
			}
		}
		if left > 0 {
			return fmt.Errorf("%d processes are left", left)
		}
		return nil
	})
}

// removeCgroups removes the cgroups that runc made for a containerd
// namespace, in every hierarchy, by the paths that containerd ("/ns/id") and
// agentd ("/agentd/ns/id", "ns.slice") choose.
func removeCgroups(ctx context.Context, ns string) error {
	return Within(ctx, 10*time.Second, func(context.Context) error {
		var errs []error
		for _, pattern := range []string{
			"/sys/fs/cgroup/" + ns, "/sys/fs/cgroup/*/" + ns,
			"/sys/fs/cgroup/agentd/" + ns, "/sys/fs/cgroup/*/agentd/" + ns,
		} {
			tops, err := filepath.Glob(pattern)
			if err != nil {
				return err
			}
			for _, top := range tops {
				errs = append(errs, removeCgroup(top))
				if parent := filepath.Dir(top); filepath.Base(parent) == "agentd" {
					_ = syscall.Rmdir(parent) // another lab may use it
				}
			}
		}
		return errors.Join(errs...)
	})
}

// removeCgroup removes one cgroup with everything below, killing what is in it.
func removeCgroup(top string) error {
	var dirs []string
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range slices.Backward(dirs) {
		if procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs")); err == nil {
			for _, f := range strings.Fields(string(procs)) {
				var pid int
				if _, err := fmt.Sscan(f, &pid); err == nil && pid > 1 {
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
			}
		}
		if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove cgroup %s: %w", dir, err))
		}
	}
	return errors.Join(errs...)
}

// removeLock removes the lock that agentd keeps on the containers of a
// namespace: it never does so itself, since somebody may be waiting for it. The
// name is agent/supervise's: a hash of socket and namespace.
func removeLock(containerd, namespace string) error {
	if real, err := filepath.EvalSymlinks(containerd); err == nil {
		containerd = real
	}
	sum := sha256.Sum256([]byte(filepath.Join(containerd, "c.sock") + "\x00" + namespace))
	return removeFile(filepath.Join(agentLocks, fmt.Sprintf("%x.lock", sum[:12])))
}

// Mounts lists mount points, in the order they were made.
func Mounts() ([]string, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	var all []string
	for line := range bytes.Lines(b) {
		if f := strings.Fields(string(line)); len(f) > 4 {
			all = append(all, strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(f[4]))
		}
	}
	return all, nil
}

// unmountBelow detaches every mount at or below dir, the newest first.
func unmountBelow(dir string) error {
	mounts, err := Mounts()
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range slices.Backward(mounts) {
		if m != dir && !strings.HasPrefix(m, dir+"/") {
			continue
		}
		if err := syscall.Unmount(m, syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", m, err))
		}
	}
	return errors.Join(errs...)
}

// removeTree is os.RemoveAll for folders that processes just killed may still
// have been writing to, and never through a mount.
func removeTree(dir string) error {
	if err := unmountBelow(dir); err != nil {
		return err
	}
	return Within(context.Background(), 5*time.Second, func(context.Context) error { return os.RemoveAll(dir) })
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// removeIfEmpty removes a folder that nobody else has put something into.
func removeIfEmpty(dir string) error {
	err := syscall.Rmdir(dir)
	if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EBUSY) {
		return nil
	}
	return fmt.Errorf("remove %s: %w", dir, err)
}
