package machines

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agentd/agentd/e2e/lab"
)

// The environment carries what all tests of a run share.
const (
	envRun     = "AGENTD_E2E_RUN"     // the run's folder
	envJanitor = "AGENTD_E2E_JANITOR" // set in the child that sweeps
)

// Asked reports whether AGENTD_TEST_REQUIRE names nspawn: machines boot only
// for those who ask.
func Asked() bool { return lab.Asked("nspawn") }

// Main is TestMain: it gives the tests a run, with a janitor that sweeps it
// when this process has ended in whatever way. The value is the exit code.
func Main(m *testing.M) int {
	if os.Getenv(envJanitor) != "" {
		return janitor()
	}
	if !Asked() || os.Geteuid() != 0 {
		return m.Run()
	}
	if err := SweepRuns(); err != nil {
		fmt.Fprintln(os.Stderr, "sweep what an earlier run left:", err)
		return 1
	}
	before, err := lab.TakeSnapshot()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	end, err := begin()
	if err != nil {
		fmt.Fprintln(os.Stderr, "begin a run:", err)
		return 1
	}
	id := filepath.Base(os.Getenv(envRun))
	code := m.Run()
	if err := end(); err != nil {
		fmt.Fprintln(os.Stderr, "sweep the run:", err)
		code = max(code, 1)
	}
	after, err := lab.TakeSnapshot()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if left := after.Since(before).Only(id); len(left) > 0 {
		fmt.Fprintf(os.Stderr, "the run left behind:\n%s\n", strings.Join(left, "\n"))
		code = max(code, 1)
	}
	return code
}

func runs() string { return filepath.Join(Cache(), "run") }

// begin makes the run's folder and starts its janitor, this program once more.
// The janitor's stdin is a pipe that the kernel closes with this process.
func begin() (end func() error, err error) {
	dir := filepath.Join(runs(), lab.NewID("agm"))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "owner"), []byte(fmt.Sprint(os.Getpid())), 0o600); err != nil {
		return nil, err
	}
	if err := os.Setenv(envRun, dir); err != nil {
		return nil, err
	}
	child := exec.Command("/proc/self/exe")
	child.Env = append(os.Environ(), envJanitor+"=1")
	child.Stderr = os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C is for the tests
	pipe, err := child.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := child.Start(); err != nil {
		return nil, err
	}
	return func() error { return errors.Join(pipe.Close(), child.Wait()) }, nil
}

// janitor waits for the end of the test's process and sweeps its run.
func janitor() int {
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := sweepRun(os.Getenv(envRun)); err != nil {
		fmt.Fprintln(os.Stderr, "sweep:", err)
		return 1
	}
	return 0
}

// SweepRuns removes what is left of runs whose process is gone.
func SweepRuns() error {
	found, err := filepath.Glob(filepath.Join(runs(), "*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range found {
		if b, err := os.ReadFile(filepath.Join(dir, "owner")); err == nil {
			var pid int
			if _, err := fmt.Sscan(string(b), &pid); err == nil && syscall.Kill(pid, 0) == nil {
				continue
			}
		}
		errs = append(errs, sweepRun(dir))
	}
	return errors.Join(errs...)
}

// sweepRun removes every world of a run, and its folder.
func sweepRun(dir string) error {
	if filepath.Dir(dir) != runs() || !strings.HasPrefix(filepath.Base(dir), "agm") {
		return fmt.Errorf("%q is no run", dir)
	}
	worlds, err := filepath.Glob(filepath.Join(dir, filepath.Base(dir)+"*"))
	errs := []error{err}
	for _, w := range worlds {
		errs = append(errs, sweepWorld(filepath.Base(w), w))
	}
	// What the tests left half-mounted, they left in worlds.
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// sweepWorld ends the machines of a world and removes everything of it.
func sweepWorld(id, dir string) error {
	locks := nspawnLocks(dir)
	errs := []error{lab.Sweep(id, dir)}
	// Where nspawn keeps a folder for each machine.
	left, err := filepath.Glob("/run/systemd/nspawn/*/" + id + "-*")
	errs = append(errs, err)
	for _, path := range append(left, locks...) {
		_ = syscall.Unmount(path, syscall.MNT_DETACH)
		errs = append(errs, os.RemoveAll(path))
	}
	return errors.Join(errs...)
}

// nspawnLocks are the files that nspawn leaves behind for the roots of a
// world's machines: they are named after the root's device and inode.
func nspawnLocks(dir string) []string {
	var locks []string
	roots, _ := filepath.Glob(filepath.Join(dir, "*", "merged"))
	for _, root := range roots {
		var st syscall.Stat_t
		if syscall.Stat(root, &st) == nil {
			locks = append(locks, fmt.Sprintf("/run/systemd/nspawn/locks/inode-%d:%d", st.Dev, st.Ino))
		}
	}
	return locks
}

// EnvPackages names a folder with packages that were built before, in a folder
// per version.
const EnvPackages = "AGENTD_E2E_PACKAGES"

// Packages is a folder with the packages of this tree under a version, built
// once per run.
func Packages(ctx context.Context, version string) (dir string, err error) {
	if dir := os.Getenv(EnvPackages); dir != "" {
		return filepath.Join(dir, version), nil
	}
	return Made(ctx, "packages-"+version, func(ctx context.Context, path string) error {
		return Build(ctx, path, goruntime.GOARCH, version)
	})
}

// Build makes the packages of this tree into a folder, as `make package` does.
func Build(ctx context.Context, dir, arch, version string) error {
	root, err := lab.Root()
	if err != nil {
		return err
	}
	res, err := lab.ExecEnv(ctx, []string{"ARCHES=" + arch, "OUT=" + dir}, "", "make", "-C", root, "package", "VERSION="+version)
	if err == nil && res.Code != 0 {
		err = fmt.Errorf("make package: exit %d: %s", res.Code, res.Output())
	}
	return err
}

// Made is a file or folder of the run, which is made once.
func Made(ctx context.Context, name string, make func(ctx context.Context, path string) error) (string, error) {
	path := filepath.Join(os.Getenv(envRun), name)
	unlock, err := lock(path + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	began := time.Now()
	if err := make(ctx, path+".new"); err != nil {
		return "", err
	}
	fmt.Fprintf(os.Stderr, "# made %s in %v\n", name, time.Since(began).Round(time.Second))
	return path, os.Rename(path+".new", path)
}
