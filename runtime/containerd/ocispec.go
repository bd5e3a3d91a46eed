package containerd

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/cap"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/agentd/agentd/runtime"
)

// machine is what a spec depends on besides what was asked for.
type machine struct {
	cgroupsPath string
	unit        map[string]string // properties of the systemd scope
	unified     bool              // cgroup version 2
	swapLimit   bool              // the kernel can limit swap
	caps        []string          // what containerd may give at most
	hosts       bool              // /etc/hosts exists
	resolv      bool              // /etc/resolv.conf exists
	// deepReadOnly: a mount can be made read-only with all that is below it.
	deepReadOnly bool
	user         specs.User
}

// buildSpec is the OCI spec of s. Nothing of the image but its configuration's
// command, environment, folder and user goes into it: never its labels.
func (r *Runtime) buildSpec(ctx context.Context, s runtime.Spec, img image) (*specs.Spec, error) {
	who, err := r.processUser(ctx, s.User, img)
	if err != nil {
		return nil, err
	}
	m := machine{
		cgroupsPath: r.cgroupsPath(s.ID), unit: r.unitProperties(), unified: r.cgroups.unified, swapLimit: r.cgroups.swapLimit(),
		hosts: exists("/etc/hosts"), resolv: exists("/etc/resolv.conf"), deepReadOnly: recursiveReadOnly(), user: who,
	}
	if s.Privileged {
		if m.caps, err = r.serverCapabilities(); err != nil {
			return nil, err
		}
	}
	ctx = namespaces.WithNamespace(ctx, r.cfg.Namespace)
	spec, err := ociSpec(ctx, s, img, m)
	if err != nil {
		return nil, fmt.Errorf("OCI spec: %w", err)
	}
	return spec, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// ociSpec puts the options in order. The default seccomp profile comes last,
// because it depends on the capabilities.
func ociSpec(ctx context.Context, s runtime.Spec, img image, m machine) (*specs.Spec, error) {
	args, err := argv(s, img)
	if err != nil {
		return nil, err
	}
	opts := []oci.SpecOpts{
		oci.WithoutRunMount, // /run is the image's, as with Docker and Kubernetes
		oci.WithEnv(environment(img)),
		oci.WithEnv(s.Env),
		oci.WithProcessArgs(args...),
		oci.WithProcessCwd(workingDir(s, img)),
		oci.WithCgroup(m.cgroupsPath),
		oci.WithAnnotations(m.unit),
		withUser(m.user),
		withNamespaces(s),
		withRights(s, m),
		withDevices(s),
		withResources(s.Resources, m),
		withMounts(s, m),
	}
	if s.ReadOnly {
		opts = append(opts, oci.WithRootFSReadonly())
	}
	if !s.Privileged {
		opts = append(opts, seccomp.WithDefaultProfile())
	}
	return oci.GenerateSpec(ctx, nil, &containers.Container{ID: s.ID}, opts...)
}

// argv is the command line: command replaces the image's entrypoint, args its
// CMD; without its entrypoint the image's CMD means nothing, as with Kubernetes.
func argv(s runtime.Spec, img image) ([]string, error) {
	entry, cmd := img.config.Entrypoint, img.config.Cmd
	if s.Command != nil {
		entry, cmd = s.Command, nil
	}
	if s.Args != nil {
		cmd = s.Args
	}
	all := append(append([]string(nil), entry...), cmd...)
	if len(all) == 0 {
		return nil, fmt.Errorf("nothing to run: neither the image %q nor the daemon names a command", img.name)
	}
	return all, nil
}

func environment(img image) []string {
	for _, kv := range img.config.Env {
		if strings.HasPrefix(kv, "PATH=") {
			return img.config.Env
		}
	}
	const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" // Docker's
	return append([]string{path}, img.config.Env...)
}

func workingDir(s runtime.Spec, img image) string {
	switch {
	case s.WorkingDir != "":
		return s.WorkingDir
	case img.config.WorkingDir != "":
		return img.config.WorkingDir
	}
	return "/"
}

func withUser(u specs.User) oci.SpecOpts {
	return func(_ context.Context, _ oci.Client, _ *containers.Container, s *specs.Spec) error {
		s.Process.User = u
		return nil
	}
}

// withNamespaces: all of its own, but for what is shared by wish. A network
// namespace of its own has loopback only, which runc brings up.
func withNamespaces(s runtime.Spec) oci.SpecOpts {
	var opts []oci.SpecOpts
	if s.HostNetwork {
		opts = append(opts, oci.WithHostNamespace(specs.NetworkNamespace))
	}
	if s.HostPID {
		opts = append(opts, oci.WithHostNamespace(specs.PIDNamespace))
	}
	switch {
	case s.Hostname != "":
		opts = append(opts, oci.WithHostname(s.Hostname))
	case s.HostNetwork:
		// Whoever is on the host's network is called as the host is.
		opts = append(opts, oci.WithHostNamespace(specs.UTSNamespace))
	default:
		opts = append(opts, oci.WithHostname(s.ID))
	}
	return oci.Compose(opts...)
}

// withRights: capabilities, privileges, and what of /proc and /sys is hidden.
func withRights(s runtime.Spec, m machine) oci.SpecOpts {
	if s.Privileged {
		return oci.Compose(
			oci.WithCapabilities(m.caps),
			oci.WithDroppedCapabilities(s.CapDrop),
			oci.WithMaskedPaths(nil), oci.WithReadonlyPaths(nil),
			oci.WithWriteableSysfs, oci.WithWriteableCgroupfs,
			oci.WithHostDevices, oci.WithAllDevicesAllowed,
			oci.WithNewPrivileges,
		)
	}
	add, drop := s.CapAdd, s.CapDrop
	opts := []oci.SpecOpts{oci.WithNoNewPrivileges}
	if len(drop) == 1 && drop[0] == "CAP_ALL" {
		opts = append(opts, oci.WithCapabilities(nil))
		drop = nil
	}
	if len(add) == 1 && add[0] == "CAP_ALL" {
		add = cap.Known()
	}
	opts = append(opts, oci.WithAddedCapabilities(add), oci.WithDroppedCapabilities(drop))
	if m.user.UID != 0 && len(add) > 0 {
		// Another user than root loses everything at exec but what is ambient.
		// What is asked for by name is meant to work for it (podman's rule).
		opts = append(opts, oci.WithAmbientCapabilities(without(add, drop)))
	}
	return oci.Compose(opts...)
}

func without(all, gone []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(c string) bool { return slices.Contains(gone, c) })
}

func withDevices(s runtime.Spec) oci.SpecOpts {
	if s.Privileged {
		return oci.Compose() // has them all
	}
	var opts []oci.SpecOpts
	for _, d := range s.Devices {
		path, access, ok := strings.Cut(d, ":")
		if !ok {
			access = "rwm"
		}
		opts = append(opts, func(ctx context.Context, c oci.Client, k *containers.Container, spec *specs.Spec) error {
			if err := oci.WithDevices(path, "", access)(ctx, c, k, spec); err != nil {
				return fmt.Errorf("device %s: %w", path, err)
			}
			return nil
		})
	}
	return oci.Compose(opts...)
}

// serverCapabilities is what containerd itself may do, by its process: nothing
// more can be given away. agentd's own capabilities say nothing, its unit takes
// most of them.
func (r *Runtime) serverCapabilities() ([]string, error) {
	pid, err := peerPID(r.cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("ask containerd's capabilities: %w", err)
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil, fmt.Errorf("ask containerd's capabilities: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if text, ok := strings.CutPrefix(line, "CapEff:"); ok {
			var bits uint64
			if _, err := fmt.Sscanf(text, "%x", &bits); err != nil {
				return nil, fmt.Errorf("ask containerd's capabilities: %w", err)
			}
			known, _ := cap.FromBitmap(bits)
			return known, nil
		}
	}
	return nil, fmt.Errorf("ask containerd's capabilities: process %d does not tell", pid)
}

// peerPID is the process that listens on a unix socket.
func peerPID(address string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open socket: %w", err)
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: address}); err != nil {
		return 0, fmt.Errorf("connect to %s: %w", address, err)
	}
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0, fmt.Errorf("ask who listens on %s: %w", address, err)
	}
	return int(cred.Pid), nil
}
