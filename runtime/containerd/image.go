package containerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	client "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/agentd/agentd/runtime"
)

// image is an image that is here, complete and unpacked.
type image struct {
	name   string        // of the record that was found
	digest digest.Digest // what the reference resolves to: of the manifest, or of the index of a multi-platform image
	chain  digest.Digest // key of the snapshot that holds its unpacked layers
	config ocispec.ImageConfig
}

// ref is a parsed reference.
type ref struct {
	repo  string // registry and repository, in full
	tag   string // "" when only a digest is given
	pin   digest.Digest
	names []string // how the image may be called here, the likeliest first
}

// parseRef reads a reference; pinned, when not empty, is the digest that it has
// to have.
func parseRef(written, pinned string) (ref, error) {
	named, err := reference.ParseNormalizedNamed(written)
	if err != nil {
		return ref{}, fmt.Errorf("%w: bad reference: %w", runtime.ErrImage, err)
	}
	out := ref{repo: reference.TrimNamed(named).Name()}
	if d, ok := named.(reference.Digested); ok {
		out.pin = d.Digest()
	} else {
		named = reference.TagNameOnly(named)
	}
	if t, ok := named.(reference.Tagged); ok {
		out.tag = t.Tag()
	}
	if pinned != "" {
		d, err := digest.Parse(pinned)
		if err != nil {
			return ref{}, fmt.Errorf("%w: bad digest %q: %w", runtime.ErrImage, pinned, err)
		}
		if out.pin != "" && out.pin != d {
			return ref{}, fmt.Errorf("%w: the reference names digest %s, but %s is asked for", runtime.ErrImage, out.pin, d)
		}
		out.pin = d
	}
	if out.tag != "" {
		out.names = append(out.names, out.repo+":"+out.tag)
	}
	// Imported images may be called anything, the reference as written too.
	if out.tag == "" || written != out.names[0] {
		out.names = append(out.names, written)
	}
	return out, nil
}

// canonical is the name under which what we pull is recorded.
func (r ref) canonical() string { return r.repo + "@" + r.pin.String() }

// find returns the image record for a reference, or nil. A pin decides; names
// matter only without one.
func (r *Runtime) find(ctx context.Context, want ref) (*images.Image, error) {
	ctx, cancel := brief(ctx)
	defer cancel()
	store := r.client.ImageService()
	if want.pin != "" {
		all, err := store.List(ctx, fmt.Sprintf("target.digest==%s", want.pin))
		if err != nil {
			return nil, fmt.Errorf("look up image: %w", translate(err))
		}
		if len(all) == 0 {
			return nil, nil
		}
		return &all[0], nil
	}
	for _, name := range want.names {
		img, err := store.Get(ctx, name)
		if err == nil {
			return &img, nil
		}
		if !errdefs.IsNotFound(err) {
			return nil, fmt.Errorf("look up image: %w", translate(err))
		}
	}
	return nil, nil
}

// errIncomplete: the record is here, some content is not.
var errIncomplete = errors.New("some of its content is missing")

// inspect reads what is needed of an image and unpacks it if that was not done,
// or was undone.
func (r *Runtime) inspect(ctx context.Context, rec images.Image) (image, error) {
	out := image{name: rec.Name, digest: rec.Target.Digest}
	img := client.NewImageWithPlatform(r.client, rec, platforms.Default())
	rctx, cancel := brief(ctx)
	defer cancel()
	manifest, err := images.Manifest(rctx, img.ContentStore(), rec.Target, img.Platform())
	if err != nil {
		return out, imageError(err)
	}
	blob, err := content.ReadBlob(rctx, img.ContentStore(), manifest.Config)
	if err != nil {
		return out, imageError(err)
	}
	var config ocispec.Image
	if err := json.Unmarshal(blob, &config); err != nil {
		return out, fmt.Errorf("read the image's configuration: %w", err)
	}
	out.config = config.Config
	out.chain = identity.ChainID(config.RootFS.DiffIDs)
	_, err = r.snapshots().Stat(rctx, out.chain.String())
	if err == nil {
		return out, nil
	}
	if !errdefs.IsNotFound(err) {
		return out, fmt.Errorf("look for the unpacked image with snapshotter %s: %w", r.cfg.Snapshotter, snapshotError(translate(err)))
	}
	return out, r.unpack(ctx, img)
}

func (r *Runtime) unpack(ctx context.Context, img client.Image) error {
	ctx, done, err := r.withLease(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := img.Unpack(ctx, r.cfg.Snapshotter); err != nil {
		if errdefs.IsNotFound(err) {
			return errIncomplete
		}
		return fmt.Errorf("unpack with snapshotter %s: %w", r.cfg.Snapshotter, snapshotError(translate(err)))
	}
	return nil
}

func imageError(err error) error {
	if errdefs.IsNotFound(err) {
		if strings.Contains(err.Error(), "platform") {
			return fmt.Errorf("it is not made for %s: %w", platforms.DefaultString(), err)
		}
		return errIncomplete
	}
	return fmt.Errorf("read the image: %w", translate(err))
}

// snapshotError adds what to do to an error that is common and unclear.
func snapshotError(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	switch {
	case strings.Contains(text, "not loaded"), strings.Contains(text, "snapshotter not found"), strings.Contains(text, "unknown service"):
		return fmt.Errorf("%w (containerd does not have it, perhaps because its folder's file system cannot do it; see: ctr plugins ls, and set [runtime] snapshotter)", err)
	case strings.Contains(text, "overlay") && (strings.Contains(text, "invalid argument") || strings.Contains(text, "operation not permitted")),
		strings.Contains(text, "failed to convert whiteout"):
		return fmt.Errorf("%w (overlayfs does not work in containerd's folder, which is perhaps an overlay itself: put /var/lib/containerd on another file system, or set [runtime] snapshotter = \"native\")", err)
	case strings.Contains(text, "no space left"):
		return fmt.Errorf("%w (the disk of containerd's folder is full)", err)
	}
	return err
}

// presentImage is the image that Ensure runs.
func (r *Runtime) presentImage(ctx context.Context, s runtime.Spec) (image, error) {
	want, err := parseRef(s.Image, s.Digest)
	if err != nil {
		return image{}, fmt.Errorf("image %q: %w", s.Image, err)
	}
	rec, err := r.find(ctx, want)
	if err != nil {
		return image{}, fmt.Errorf("image %q: %w", s.Image, err)
	}
	if rec == nil {
		return image{}, fmt.Errorf("image %q: %w: not on this node%s", s.Image, runtime.ErrImage, atDigest(want.pin))
	}
	img, err := r.inspect(ctx, *rec)
	if err != nil {
		return image{}, fmt.Errorf("image %q: %w", s.Image, asImageError(ctx, err))
	}
	return img, nil
}

func atDigest(d digest.Digest) string {
	if d == "" {
		return ""
	}
	return " with digest " + d.String()
}

// asImageError makes err runtime.ErrImage, unless it is about containerd or ctx.
func asImageError(ctx context.Context, err error) error {
	switch {
	case err == nil, errors.Is(err, runtime.ErrUnavailable), errors.Is(err, runtime.ErrImage):
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return fmt.Errorf("%w: %w", runtime.ErrImage, err)
}
