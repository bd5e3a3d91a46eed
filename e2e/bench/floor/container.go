package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	client "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// floor is a connection with what it runs.
type floor struct {
	ctx    context.Context // ends with close
	stop   context.CancelFunc
	client *client.Client
	image  client.Image
	config ocispec.ImageConfig
	ns     string
	log    string
	kept   sync.WaitGroup // of keep's goroutines

	mu      sync.Mutex
	running map[*container]bool // guarded by mu
}

// container is one that runs.
type container struct {
	record client.Container
	task   client.Task
	exited <-chan client.ExitStatus
}

func connect(ctx context.Context, address, namespace, image, log string) (*floor, error) {
	c, err := client.New(address)
	if err != nil {
		return nil, fmt.Errorf("connect to containerd: %w", err)
	}
	f := &floor{client: c, ns: namespace, log: log, running: map[*container]bool{}}
	f.ctx, f.stop = context.WithCancel(namespaces.WithNamespace(ctx, namespace))
	if f.image, err = c.GetImage(f.ctx, image); err != nil {
		return nil, errors.Join(fmt.Errorf("look up image: %w", err), c.Close())
	}
	if f.config, err = configOf(f.ctx, f.image); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return f, nil
}

func configOf(ctx context.Context, image client.Image) (ocispec.ImageConfig, error) {
	desc, err := image.Config(ctx)
	if err != nil {
		return ocispec.ImageConfig{}, fmt.Errorf("look up image: %w", err)
	}
	blob, err := content.ReadBlob(ctx, image.ContentStore(), desc)
	if err != nil {
		return ocispec.ImageConfig{}, fmt.Errorf("read image: %w", err)
	}
	var img ocispec.Image
	if err := json.Unmarshal(blob, &img); err != nil {
		return ocispec.ImageConfig{}, fmt.Errorf("read image: %w", err)
	}
	return img.Config, nil
}

func (f *floor) close() {
	f.stop()
	f.kept.Wait()
	_ = f.client.Close()
}

func (f *floor) add(c *container) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.running[c] = true
}

// take reports whether the caller has to remove c: nobody else does.
func (f *floor) take(c *container) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	mine := f.running[c]
	delete(f.running, c)
	return mine
}

// clear removes everything.
func (f *floor) clear() error {
	f.mu.Lock()
	all := f.running
	f.running = map[*container]bool{}
	f.mu.Unlock()
	var errs []error
	for c := range all {
		if err := c.task.Kill(f.ctx, syscall.SIGKILL); err != nil {
			errs = append(errs, err)
			continue
		}
		timer := time.NewTimer(time.Minute)
		select {
		case <-c.exited:
			errs = append(errs, c.remove(f.ctx))
		case <-timer.C:
			errs = append(errs, errors.New("a container did not end"))
		}
		timer.Stop()
	}
	return errors.Join(errs...)
}

func (c *container) remove(ctx context.Context) error {
	if _, err := c.task.Delete(ctx); err != nil {
		return fmt.Errorf("delete task: %w", err)
	}
	if err := c.record.Delete(ctx, client.WithSnapshotCleanup); err != nil {
		return fmt.Errorf("delete container: %w", err)
	}
	return nil
}

// start makes and starts a container.
func (f *floor) start(id string) (*container, error) {
	rec, err := f.client.NewContainer(f.ctx, id,
		client.WithNewSnapshot(id, f.image), client.WithImage(f.image), client.WithNewSpec(f.setup(id)...))
	if err != nil {
		return nil, fmt.Errorf("create container %s: %w", id, err)
	}
	output := cio.NullIO
	if f.log != "" {
		output = logTo(strings.ReplaceAll(f.log, "ID", id))
	}
	task, err := rec.NewTask(f.ctx, output)
	if err != nil {
		return nil, fmt.Errorf("create task %s: %w", id, err)
	}
	exited, err := task.Wait(f.ctx)
	if err != nil {
		return nil, fmt.Errorf("wait for %s: %w", id, err)
	}
	if err := task.Start(f.ctx); err != nil {
		return nil, fmt.Errorf("start %s: %w", id, err)
	}
	return &container{rec, task, exited}, nil
}

// output is a log that somebody else writes.
type output struct{ cfg cio.Config }

func (o output) Config() cio.Config { return o.cfg }
func (o output) Cancel()            {}
func (o output) Wait()              {}
func (o output) Close() error       { return nil }

func logTo(uri string) cio.Creator {
	return func(string) (cio.IO, error) { return output{cio.Config{Stdout: uri, Stderr: uri}}, nil }
}

// setup is what agentd asks of containerd for a daemon whose file names nothing
// but an image: see runtime/containerd.
func (f *floor) setup(id string) []oci.SpecOpts {
	return []oci.SpecOpts{
		oci.WithoutRunMount,
		oci.WithEnv(f.config.Env),
		oci.WithProcessArgs(append(append([]string{}, f.config.Entrypoint...), f.config.Cmd...)...),
		oci.WithProcessCwd("/"),
		oci.WithCgroup("/" + f.ns + "/" + id),
		oci.WithHostNamespace(specs.NetworkNamespace), oci.WithHostNamespace(specs.UTSNamespace),
		oci.WithNoNewPrivileges,
		oci.WithMounts(mounts()),
		func(_ context.Context, _ oci.Client, _ *containers.Container, s *specs.Spec) error {
			zero := 0
			s.Process.OOMScoreAdj, s.Process.Rlimits = &zero, nil
			return nil
		},
		seccomp.WithDefaultProfile(),
	}
}

func mounts() []specs.Mount {
	all := []specs.Mount{{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid", "noexec", "nodev"}}}
	for _, path := range []string{"/etc/hosts", "/etc/resolv.conf"} {
		if _, err := os.Stat(path); err == nil {
			all = append(all, specs.Mount{Destination: path, Type: "bind", Source: path, Options: []string{"rbind", "ro", "rprivate"}})
		}
	}
	return all
}
