package containerd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/moby/sys/user"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Users are resolved here and not by containerd's WithUser or WithImageConfig:
// those mount the root file system into our own mount namespace, for which
// agentd would need CAP_SYS_ADMIN, only to read two small files. Docker's rules
// hold:
//
//	"uid:gid"      taken as it is, no file is read
//	"uid"          group and further groups from the image's passwd and group
//	               files; gid 0 when the uid is not in them, or when they cannot
//	               be read
//	names          looked up; not finding or not reading them is an error
//	"" (nor in the image)  0:0
//
// Ids beyond MaxInt32 are refused (CVE-2024-40635, CVE-2026-46680).

// processUser resolves the user of a container.
func (r *Runtime) processUser(ctx context.Context, asked string, img image) (specs.User, error) {
	who := asked
	if who == "" {
		who = img.config.User
	}
	if who == "" {
		return specs.User{}, nil
	}
	u, complete, err := numericUser(who)
	if err != nil || complete {
		return u, err
	}
	numeric := isNumber(strings.SplitN(who, ":", 2)[0]) && !strings.Contains(who, ":")
	passwd, group, err := r.readAccounts(ctx, img)
	if err != nil {
		if ctx.Err() != nil {
			return specs.User{}, ctx.Err()
		}
		if numeric {
			r.log.Debug("the image's accounts cannot be read; the group is 0", "image", img.name, "err", err)
			return u, nil
		}
		return specs.User{}, fmt.Errorf("user %q: the image's accounts cannot be read, so set user = \"uid:gid\": %w", who, err)
	}
	return lookupUser(who, passwd, group)
}

// numericUser reads "uid" and "uid:gid"; complete means that nothing has to be
// looked up.
func numericUser(who string) (u specs.User, complete bool, err error) {
	uid, gid, both := strings.Cut(who, ":")
	for _, part := range []struct {
		text string
		to   *uint32
	}{{uid, &u.UID}, {gid, &u.GID}} {
		if !isNumber(part.text) {
			continue
		}
		n, err := strconv.ParseUint(part.text, 10, 64)
		if err != nil || n > math.MaxInt32 {
			return specs.User{}, false, fmt.Errorf("user %q: %s is more than %d, the most that runc takes", who, part.text, math.MaxInt32)
		}
		*part.to = uint32(n)
	}
	return u, both && isNumber(uid) && isNumber(gid), nil
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// lookupUser resolves by the contents of passwd and group.
func lookupUser(who, passwd, group string) (specs.User, error) {
	found, err := user.GetExecUser(who, &user.ExecUser{}, strings.NewReader(passwd), strings.NewReader(group))
	if err != nil {
		return specs.User{}, fmt.Errorf("user %q: %w", who, err)
	}
	u := specs.User{UID: uint32(found.Uid), GID: uint32(found.Gid)}
	for _, g := range found.Sgids {
		u.AdditionalGids = append(u.AdditionalGids, uint32(g))
	}
	return u, nil
}

// maxAccounts bounds what is read of a file out of an image.
const maxAccounts = 1 << 20

// readAccounts reads passwd and group out of the unpacked layers, in place.
func (r *Runtime) readAccounts(ctx context.Context, img image) (passwd, group string, err error) {
	ctx, done, err := r.withLease(ctx)
	if err != nil {
		return "", "", err
	}
	defer done()
	key := "agentd-view-" + rand.Text()
	sctx, cancel := steady(ctx)
	defer cancel()
	mounts, err := r.snapshots().View(sctx, key, img.chain.String())
	if err != nil {
		return "", "", fmt.Errorf("look at the image's files: %w", translate(err))
	}
	defer func() {
		if err := r.snapshots().Remove(sctx, key); err != nil {
			r.log.Warn("a view of an image could not be removed", "image", img.name, "err", err)
		}
	}()
	layers, err := layerDirs(mounts)
	if err != nil {
		return "", "", err
	}
	if passwd, err = readLayered(layers, "etc", "passwd"); err != nil {
		return "", "", err
	}
	group, err = readLayered(layers, "etc", "group")
	return passwd, group, err
}

// layerDirs are the folders of a view's layers, the topmost first.
func layerDirs(mounts []mount.Mount) ([]string, error) {
	if len(mounts) != 1 {
		return nil, fmt.Errorf("the snapshotter answers with %d mounts", len(mounts))
	}
	switch m := mounts[0]; m.Type {
	case "bind":
		return []string{m.Source}, nil
	case "overlay":
		for _, o := range m.Options {
			if dirs, ok := strings.CutPrefix(o, "lowerdir="); ok {
				return strings.Split(dirs, ":"), nil
			}
		}
	}
	return nil, fmt.Errorf("layers of the kind %q cannot be read in place", mounts[0].Type)
}

// readLayered reads dir/name as an overlay of layers would show it; a file that
// is not there is empty. Nothing in an image leads out of its layer: links are
// not followed beyond it.
func readLayered(layers []string, dir, name string) (string, error) {
	for _, layer := range layers {
		text, last, err := readFromLayer(layer, dir, name)
		if err != nil || last {
			return text, err
		}
	}
	return "", nil
}

// readFromLayer reports last when layers below do not show through.
func readFromLayer(layer, dir, name string) (text string, last bool, err error) {
	root, err := os.OpenRoot(layer)
	if err != nil {
		return "", false, fmt.Errorf("open layer: %w", err)
	}
	defer root.Close() //nolint:errcheck // only read
	st, err := root.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("look into layer: %w", err)
	}
	if !st.IsDir() { // a whiteout, or a link that the layers below cannot share
		if whiteout(st) {
			return "", true, nil
		}
		return "", true, fmt.Errorf("/%s is not a folder", dir)
	}
	path := filepath.Join(dir, name)
	st, err = root.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", opaque(filepath.Join(layer, dir)), nil
	}
	if err != nil {
		return "", false, fmt.Errorf("look into layer: %w", err)
	}
	if whiteout(st) {
		return "", true, nil
	}
	if !st.Mode().IsRegular() {
		return "", true, fmt.Errorf("/%s is not a plain file", path)
	}
	f, err := root.Open(path)
	if err != nil {
		return "", true, fmt.Errorf("open /%s: %w", path, err)
	}
	defer f.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(io.LimitReader(f, maxAccounts))
	if err != nil {
		return "", true, fmt.Errorf("read /%s: %w", path, err)
	}
	return string(b), true, nil
}

// whiteout is overlayfs's mark for "deleted here": a character device 0:0.
func whiteout(st fs.FileInfo) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && st.Mode()&fs.ModeCharDevice != 0 && sys.Rdev == 0
}

// opaque is overlayfs's mark for a folder that hides those below.
func opaque(dir string) bool {
	var v [1]byte
	n, err := unix.Lgetxattr(dir, "trusted.overlay.opaque", v[:])
	return err == nil && n == 1 && v[0] == 'y'
}
