package containerd

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// removeBundle unmounts and removes a bundle and the work folder it points to.
func removeBundle(dir string) error {
	// A hidden bundle is one half-deleted; its work folder has the plain name.
	tail := filepath.Join(bundlePart, filepath.Base(filepath.Dir(dir)), strings.TrimPrefix(filepath.Base(dir), "."))
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
	if err != nil {
		return nil, ignoreGone(err)
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

// dropHalfDeleted removes the hidden bundle of id, if a delete that was cut off
// left one. It needs no age: whoever else is at it wants it gone, too.
func (r *Runtime) dropHalfDeleted(id string) error {
	dir := filepath.Join(r.cfg.StateDir, bundlePart, r.cfg.Namespace, "."+id)
	if _, err := os.Lstat(dir); err != nil {
		return ignoreGone(err)
	}
	r.log.Warn("removing a half-deleted bundle", "container", id, "bundle", dir)
	return removeBundle(dir)
}
