package containerd

import (
	"context"
	"os"
	"path/filepath"

	"github.com/agentd/agentd/runtime/bundle"
)

// removeBundle unmounts and removes a bundle and the work folder it points to.
// A mount can only be taken away where it was made: from inside a unit's
// sandbox, a helper outside of it has to do it.
func removeBundle(ctx context.Context, dir string) error {
	if bundle.Sandboxed() {
		return bundle.RemoveOutside(ctx, dir)
	}
	return bundle.Remove(dir)
}

// dropHalfDeleted removes the hidden bundle of id, if a delete that was cut off
// left one. It needs no age: whoever else is at it wants it gone, too.
func (r *Runtime) dropHalfDeleted(ctx context.Context, id string) error {
	dir := filepath.Join(r.cfg.StateDir, bundle.Part, r.cfg.Namespace, "."+id)
	if _, err := os.Lstat(dir); err != nil {
		return ignoreGone(err)
	}
	r.log.Warn("removing a half-deleted bundle", "container", id, "bundle", dir)
	return removeBundle(ctx, dir)
}
