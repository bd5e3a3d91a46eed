package lab

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// The Prometheus node exporter as Debian packages it.
const (
	exporterPackage = "prometheus-node-exporter"
	exporterBinary  = "usr/bin/prometheus-node-exporter"
)

// NodeExporterRef is the name of NodeExporterImage's image.
const NodeExporterRef = "agentd.demo/node-exporter:debian"

// NodeExporterImage fetches Debian's prometheus-node-exporter with apt, makes
// an image of its program and the libraries it is linked to, and writes an OCI
// archive to path, ready for `ctr images import`. Nothing is installed; it
// works in a folder beside path.
func NodeExporterImage(ctx context.Context, path string) (Image, error) {
	dir, err := os.MkdirTemp(filepath.Dir(path), ".deb")
	if err != nil {
		return Image{}, fmt.Errorf("make a folder for the package: %w", err)
	}
	defer os.RemoveAll(dir)
	// The child does the cd: apt-get download knows no target folder.
	if _, err := Must(ctx, "sh", "-c", `cd "$1" && apt-get -qq -o APT::Sandbox::User=root download "$2"`, "sh", dir, exporterPackage); err != nil {
		return Image{}, fmt.Errorf("download %s (has apt-get update been run?): %w", exporterPackage, err)
	}
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(debs) != 1 {
		return Image{}, fmt.Errorf("download %s: got %d packages, want 1", exporterPackage, len(debs))
	}
	tree := filepath.Join(dir, "tree")
	if _, err := Must(ctx, "dpkg-deb", "-x", debs[0], tree); err != nil {
		return Image{}, err
	}
	files := map[string]entry{
		"etc/passwd": {Mode: 0o644, Data: []byte("root:x:0:0::/:/\nnobody:x:65534:65534::/:/\n")},
		"etc/group":  {Mode: 0o644, Data: []byte("root:x:0:\nnogroup:x:65534:\n")},
	}
	program := filepath.Join(tree, exporterBinary)
	libraries, err := linkedTo(ctx, program)
	if err != nil {
		return Image{}, err
	}
	for name, from := range libraries {
		if err := addFile(files, name, from); err != nil {
			return Image{}, err
		}
	}
	if err := addFile(files, exporterBinary, program); err != nil {
		return Image{}, err
	}
	layer, err := layerOf(files)
	if err != nil {
		return Image{}, err
	}
	img, err := newImage(NodeExporterRef, v1.Config{
		Entrypoint: []string{"/" + exporterBinary},
		User:       "65534:65534",
		WorkingDir: "/",
	}, layer)
	if err != nil {
		return Image{}, err
	}
	return img, WriteArchive(path, img)
}

// linkedTo lists what the dynamic linker loads for a program: path in the
// image (without leading slash) to path here. A static program needs nothing.
func linkedTo(ctx context.Context, program string) (map[string]string, error) {
	res, err := Exec(ctx, "ldd", program)
	if err != nil {
		return nil, err
	}
	out := strings.TrimSpace(res.Output())
	if strings.Contains(out, "not a dynamic executable") || strings.Contains(out, "statically linked") {
		return nil, nil
	}
	if res.Code != 0 {
		return nil, fmt.Errorf("find the libraries of %s: %s", program, out)
	}
	found := map[string]string{}
	for line := range strings.Lines(out) {
		// "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)" or "/lib64/ld-linux-x86-64.so.2 (0x…)"
		for _, f := range strings.Fields(line) {
			if strings.HasPrefix(f, "/") {
				found[strings.TrimPrefix(f, "/")] = f
			}
		}
		if strings.Contains(line, "not found") {
			return nil, fmt.Errorf("find the libraries of %s: %s", program, strings.TrimSpace(line))
		}
	}
	return found, nil
}

func addFile(files map[string]entry, name, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("add to image: %w", err)
	}
	files[name] = entry{Mode: fs.FileMode(0o755), Data: data}
	return nil
}
