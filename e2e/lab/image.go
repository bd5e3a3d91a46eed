package lab

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// TestImageRef is the first of the test images; TestImageRefs all of them, with
// one program and a different /revision each.
const TestImageRef = "agentd.test/testd:1"

// TestImageRefs lists the references in TestImage's archive.
func TestImageRefs() []string {
	return []string{TestImageRef, "agentd.test/testd:2", "agentd.test/testd:3"}
}

// Image is one image of an archive.
type Image struct {
	Ref    string
	Digest string // of the manifest, "sha256:…"
	Image  v1.Image
}

// TestImage builds e2e/testd and writes an OCI archive with the test images to
// path, ready for `ctr images import`.
func TestImage(ctx context.Context, path string) ([]Image, error) {
	images, err := TestImages(ctx)
	if err != nil {
		return nil, err
	}
	return images, WriteArchive(path, images...)
}

// TestImages makes the test images in memory, for a registry in a test.
func TestImages(ctx context.Context) ([]Image, error) {
	dir, err := os.MkdirTemp("", "testd")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the test image: %w", err)
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "testd")
	build := []string{"env", "CGO_ENABLED=0", "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", bin, "github.com/agentd/agentd/e2e/testd"}
	if _, err := Must(ctx, build...); err != nil {
		return nil, fmt.Errorf("build the test image's program: %w", err)
	}
	program, err := os.ReadFile(bin)
	if err != nil {
		return nil, fmt.Errorf("read the test image's program: %w", err)
	}
	base, err := layerOf(map[string]entry{
		"testd":      {Mode: 0o755, Data: program},
		"etc/passwd": {Mode: 0o644, Data: []byte("root:x:0:0::/:/testd\nnobody:x:65534:65534::/:/testd\n")},
		"etc/group":  {Mode: 0o644, Data: []byte("root:x:0:\nnogroup:x:65534:\n")},
		"tmp":        {Mode: fs.ModeDir | 0o777},
	})
	if err != nil {
		return nil, err
	}
	var images []Image
	for _, ref := range TestImageRefs() {
		_, revision, _ := strings.Cut(ref, ":")
		layer, err := layerOf(map[string]entry{"revision": {Mode: 0o644, Data: []byte(revision)}})
		if err != nil {
			return nil, err
		}
		img, err := newImage(ref, v1.Config{
			Entrypoint: []string{"/testd"}, WorkingDir: "/",
			Env: []string{"PATH=/", "IMAGE_REVISION=" + revision},
		}, base, layer)
		if err != nil {
			return nil, err
		}
		images = append(images, img)
	}
	return images, nil
}

// entry is a file, folder (Mode has fs.ModeDir) or symbolic link (Link) of a layer.
type entry struct {
	Mode fs.FileMode
	Data []byte
	Link string
}

// layerOf makes a layer whose bytes depend on nothing but the entries.
func layerOf(files map[string]entry) (v1.Layer, error) {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		e := files[name]
		h := &tar.Header{Name: name, Mode: int64(e.Mode.Perm()), Size: int64(len(e.Data)), Typeflag: tar.TypeReg, ModTime: time.Unix(0, 0)}
		switch {
		case e.Mode.IsDir():
			h.Typeflag, h.Name = tar.TypeDir, name+"/"
		case e.Link != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.Link
		}
		if err := tw.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("write layer: %s: %w", name, err)
		}
		if _, err := tw.Write(e.Data); err != nil {
			return nil, fmt.Errorf("write layer: %s: %w", name, err)
		}
	}
	if err := tw.Close(); err != nil {
		return nil, fmt.Errorf("write layer: %w", err)
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil }
	layer, err := tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, fmt.Errorf("make layer: %w", err)
	}
	return layer, nil
}

// newImage is an OCI image for this machine's architecture.
func newImage(ref string, config v1.Config, layers ...v1.Layer) (Image, error) {
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.AppendLayers(img, layers...)
	if err != nil {
		return Image{}, fmt.Errorf("make image %s: %w", ref, err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		return Image{}, fmt.Errorf("make image %s: %w", ref, err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", goruntime.GOARCH, config
	if img, err = mutate.ConfigFile(img, file); err != nil {
		return Image{}, fmt.Errorf("make image %s: %w", ref, err)
	}
	digest, err := img.Digest()
	if err != nil {
		return Image{}, fmt.Errorf("make image %s: %w", ref, err)
	}
	return Image{Ref: ref, Digest: digest.String(), Image: img}, nil
}

// WriteArchive writes images as one OCI archive: a tar of an OCI layout whose
// index names each image for containerd.
func WriteArchive(path string, images ...Image) error {
	dir, err := os.MkdirTemp(filepath.Dir(path), ".layout")
	if err != nil {
		return fmt.Errorf("write image archive: %w", err)
	}
	defer os.RemoveAll(dir)
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		return fmt.Errorf("write image archive: %w", err)
	}
	for _, img := range images {
		names := map[string]string{
			"io.containerd.image.name":          img.Ref, // containerd's importer
			"org.opencontainers.image.ref.name": img.Ref[strings.LastIndex(img.Ref, ":")+1:],
		}
		if err := l.AppendImage(img.Image, layout.WithAnnotations(names)); err != nil {
			return fmt.Errorf("write image %s: %w", img.Ref, err)
		}
	}
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write image archive: %w", err)
	}
	tw := tar.NewWriter(f)
	if err := tw.AddFS(os.DirFS(dir)); err != nil {
		_ = f.Close()
		return fmt.Errorf("write image archive: %w", err)
	}
	if err := tw.Close(); err != nil {
		_ = f.Close()
		return fmt.Errorf("write image archive: %w", err)
	}
	return f.Close()
}

// String is for messages.
func (i Image) String() string { return i.Ref + "@" + i.Digest }
