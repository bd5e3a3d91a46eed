// Package bundle removes the bundle of a container: the folder that containerd
// keeps for a task, with the container's root file system mounted in it. It is
// for what an interrupted start or delete left behind; whether anything still
// lives in it, the caller has to know.
//
// It never deletes through a mount, and never anything but a bundle: see Check.
// Its functions hold no state and may be called at once for different bundles.
package bundle

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Part is the folder of bundles below containerd's state, and of their work
// folders below its root. Below it come namespace and id.
const Part = "io.containerd.runtime.v2.task"

// Check says what is wrong with dir as the name of a bundle: it has to be
// absolute, clean and …/Part/NAMESPACE/ID.
func Check(dir string) error {
	namespaces := filepath.Dir(filepath.Dir(dir))
	if !filepath.IsAbs(dir) || filepath.Clean(dir) != dir || filepath.Base(namespaces) != Part || filepath.Dir(namespaces) == "/" {
		return fmt.Errorf("%q is not the folder of a bundle: want /…/%s/NAMESPACE/ID", dir, Part)
	}
	return nil
}

// Remove unmounts and removes a bundle and the work folder that it points to.
// One that is gone already is no error.
func Remove(dir string) error {
	if err := Check(dir); err != nil {
		return err
	}
	// A hidden bundle is one half-deleted; its work folder has the plain name.
	tail := filepath.Join(Part, filepath.Base(filepath.Dir(dir)), strings.TrimPrefix(filepath.Base(dir), "."))
	doomed := []string{dir}
	if work, err := os.Readlink(filepath.Join(dir, "work")); err == nil && strings.HasSuffix(work, "/"+tail) {
		doomed = append(doomed, work)
	}
	for _, d := range doomed {
		if err := removeUnmounted(d); err != nil {
			return fmt.Errorf("remove left-over bundle: %w", err)
		}
	}
	return nil
}

// removeUnmounted removes a folder after it took away every mount in it, and
// never deletes through one. The root file system's folder in a bundle need not
// be empty below its mount: a runc whose shim was killed goes on for a moment,
// and makes /dev and mount points in what was unmounted under it.
func removeUnmounted(dir string) error {
	for range 100 { // there may be several on top of each other, and in each other
		mounts, err := mountsBelow(dir)
		if err != nil {
			return err
		}
		if len(mounts) == 0 {
			return os.RemoveAll(dir)
		}
		for _, m := range slices.Backward(mounts) {
			if err := unix.Unmount(m, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
				return fmt.Errorf("unmount %s: %w", m, err)
			}
		}
	}
	return fmt.Errorf("%s is mounted again and again", dir)
}

// mountsBelow lists the mount points at and below dir, in the order they were
// made.
func mountsBelow(dir string) ([]string, error) {
	real, err := filepath.EvalSymlinks(dir) // the kernel knows no symbolic links
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("look for mounts: %w", err)
	}
	return pointsBelow(real, string(b)), nil
}

// unescape undoes what proc(5) does to mount points.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

func pointsBelow(dir, mountinfo string) []string {
	var all []string
	for line := range strings.Lines(mountinfo) {
		f := strings.Fields(line)
		if len(f) < 5 {
			continue
		}
		if m := unescape.Replace(f[4]); m == dir || strings.HasPrefix(m, dir+"/") {
			all = append(all, m)
		}
	}
	return all
}
