package containerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	client "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"

	"github.com/agentd/agentd/runtime"
)

// downloads is how many layers are fetched at once.
const downloads = 3

// Pull implements runtime.Runtime. The digest it returns is what the reference
// resolves to, so the index's for a multi-platform image. A tag is resolved
// once; everything after goes by digest.
func (r *Runtime) Pull(ctx context.Context, p runtime.Pull) (string, error) {
	d, err := r.pull(quiet(ctx), p)
	if err != nil {
		return "", fmt.Errorf("pull image %q: %w", p.Ref, asImageError(ctx, err))
	}
	return d, nil
}

// quiet keeps containerd's client from writing to our stderr; what matters of
// it is in its errors.
func quiet(ctx context.Context) context.Context {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return log.WithLogger(ctx, logrus.NewEntry(l))
}

func (r *Runtime) pull(ctx context.Context, p runtime.Pull) (string, error) {
	want, err := parseRef(p.Ref, p.Digest)
	if err != nil {
		return "", err
	}
	var here error = errors.New("it is not on this node" + atDigest(want.pin))
	// With "always", only a digest says that what is here is what is meant.
	if p.Policy != "always" || want.pin != "" {
		d, err := r.usePresent(ctx, want)
		if err == nil || errors.Is(err, runtime.ErrUnavailable) {
			return d, err
		}
		if !errors.Is(err, errAbsent) {
			here = err
		}
	}
	if p.Policy == "never" {
		return "", fmt.Errorf("%w, and pull = \"never\"", here)
	}
	return r.download(ctx, want, p.Progress)
}

var errAbsent = errors.New("not here")

// usePresent makes an image that is here ready and returns its digest.
func (r *Runtime) usePresent(ctx context.Context, want ref) (string, error) {
	rec, err := r.find(ctx, want)
	if err != nil {
		return "", err
	}
	if rec == nil {
		return "", errAbsent
	}
	img, err := r.inspect(ctx, *rec)
	if err != nil {
		return "", err
	}
	return img.digest.String(), nil
}

func (r *Runtime) download(ctx context.Context, want ref, progress func(done, total int64)) (string, error) {
	meter := &meter{report: progress}
	guard := newGuard(r.cfg.PullStall, meter)
	hosts, err := r.registryHosts(ctx, guard)
	if err != nil {
		return "", err
	}
	resolver := docker.NewResolver(docker.ResolverOptions{Hosts: hosts})
	if want.pin == "" {
		_, desc, err := resolver.Resolve(ctx, want.repo+":"+want.tag)
		if err != nil {
			return "", guard.explain(registryError(err))
		}
		want.pin = desc.Digest
		// "always" with a tag that did not move downloads nothing.
		if d, err := r.usePresent(ctx, want); err == nil {
			return d, r.tag(ctx, want)
		}
	}
	lctx, done, err := r.withLease(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	fetch := func() error {
		_, err := r.client.Pull(lctx, want.canonical(),
			client.WithResolver(resolver),
			client.WithPullUnpack,
			client.WithPullSnapshotter(r.cfg.Snapshotter),
			client.WithMaxConcurrentDownloads(downloads),
			client.WithImageHandler(meter.handler()),
		)
		return err
	}
	if err = fetch(); err != nil && badPart(err) && ctx.Err() == nil {
		r.dropParts(lctx, meter.descriptors())
		err = fetch()
	}
	if err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		// Was it the registry, or containerd under our feet?
		if r.Ready(ctx) != nil {
			return "", fmt.Errorf("%w: %w", runtime.ErrUnavailable, err)
		}
		return "", guard.explain(registryError(snapshotError(err)))
	}
	meter.finish()
	return want.pin.String(), r.tag(ctx, want)
}

// badPart reports that what an earlier pull fetched of a blob cannot be gone on
// with: the registry refuses the range, or the whole has the wrong digest.
// containerd would resume from it for ever.
func badPart(err error) bool {
	var status remoteerrors.ErrUnexpectedStatus
	return errors.As(err, &status) && status.StatusCode == http.StatusRequestedRangeNotSatisfiable ||
		errdefs.IsFailedPrecondition(err) || strings.Contains(err.Error(), "unexpected commit")
}

// dropParts throws away what was fetched of blobs that are not complete.
func (r *Runtime) dropParts(ctx context.Context, descs []ocispec.Descriptor) {
	ctx, cancel := brief(ctx)
	defer cancel()
	for _, d := range descs {
		err := r.client.ContentStore().Abort(ctx, remotes.MakeRefKey(ctx, d))
		if err != nil && !errdefs.IsNotFound(err) {
			r.log.Debug("an incomplete blob could not be dropped", "digest", d.Digest, "err", err)
		}
	}
}

// tag records the image under its tag too, for pull = "missing" and for people.
func (r *Runtime) tag(ctx context.Context, want ref) error {
	if want.tag == "" {
		return nil
	}
	rec, err := r.find(ctx, want)
	if err != nil || rec == nil {
		return err
	}
	ctx, cancel := brief(ctx)
	defer cancel()
	img := images.Image{Name: want.repo + ":" + want.tag, Target: rec.Target}
	_, err = r.client.ImageService().Create(ctx, img)
	if errdefs.IsAlreadyExists(err) {
		_, err = r.client.ImageService().Update(ctx, img, "target")
	}
	if err != nil {
		return fmt.Errorf("record the tag: %w", translate(err))
	}
	return nil
}

// registryError quotes what the registry said, which containerd leaves out.
func registryError(err error) error {
	var status remoteerrors.ErrUnexpectedStatus
	if !errors.As(err, &status) {
		return err
	}
	var body struct {
		Errors []struct{ Code, Message string }
	}
	var said []string
	if json.Unmarshal(status.Body, &body) == nil {
		for _, e := range body.Errors {
			said = append(said, strings.Trim(e.Code+": "+e.Message, ": "))
		}
	}
	if len(said) == 0 {
		if text := strings.Join(strings.Fields(string(status.Body)), " "); text != "" {
			said = append(said, text[:min(len(text), 200)])
		}
	}
	if len(said) == 0 {
		return err
	}
	return fmt.Errorf("%w; the registry says: %s", err, strings.Join(said, "; "))
}

// meter adds up what a pull fetches; the total grows as manifests become known.
type meter struct {
	report func(done, total int64)

	mu          sync.Mutex // also keeps reports in order
	done, total int64
	seen        []ocispec.Descriptor
}

func (m *meter) handler() images.Handler {
	return images.HandlerFunc(func(_ context.Context, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if !slices.ContainsFunc(m.seen, func(o ocispec.Descriptor) bool { return o.Digest == d.Digest }) {
			m.seen = append(m.seen, d)
			m.total += d.Size
		}
		return nil, nil
	})
}

func (m *meter) descriptors() []ocispec.Descriptor {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.seen)
}

func (m *meter) add(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done += n
	if m.report != nil {
		m.report(min(m.done, m.total), m.total)
	}
}

// finish reports the end: layers that were here already were not fetched.
func (m *meter) finish() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.report != nil {
		m.report(m.total, m.total)
	}
}
