package containerd

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/oci"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/agentd/agentd/runtime"
)

// withMounts adds the mounts of s over the standard ones. They are made in the
// order of their depth, so that none hides another that lies below it.
func withMounts(s runtime.Spec, m machine) oci.SpecOpts {
	return func(_ context.Context, _ oci.Client, _ *containers.Container, spec *specs.Spec) error {
		mine := make([]specs.Mount, 0, len(s.Mounts)+3)
		access := "ro"
		if s.Privileged {
			access = "rw"
		}
		mine = append(mine, specs.Mount{
			Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup",
			Options: []string{access, "nosuid", "noexec", "nodev"},
		})
		if s.HostNetwork {
			// On the host's network names mean what they mean to the host.
			for path, there := range map[string]bool{"/etc/hosts": m.hosts, "/etc/resolv.conf": m.resolv} {
				if there {
					mine = append(mine, specs.Mount{Destination: path, Type: "bind", Source: path, Options: []string{"rbind", "ro", "rprivate"}})
				}
			}
		}
		for _, w := range s.Mounts {
			one, err := ociMount(w, m)
			if err != nil {
				return err
			}
			// A mount of the user's replaces a standard one.
			same := func(o specs.Mount) bool { return filepath.Clean(o.Destination) == one.Destination }
			mine = slices.DeleteFunc(mine, same)
			spec.Mounts = slices.DeleteFunc(spec.Mounts, same)
			mine = append(mine, one)
			if root := rootPropagation(one.Options); root != "" && spec.Linux.RootfsPropagation != "rshared" {
				spec.Linux.RootfsPropagation = root
			}
		}
		slices.SortStableFunc(mine, func(a, b specs.Mount) int {
			return cmp.Or(cmp.Compare(depth(a.Destination), depth(b.Destination)), strings.Compare(a.Destination, b.Destination))
		})
		spec.Mounts = append(spec.Mounts, mine...)
		return nil
	}
}

func depth(path string) int { return strings.Count(filepath.Clean(path), "/") }

func ociMount(m runtime.Mount, on machine) (specs.Mount, error) {
	if !filepath.IsAbs(m.Target) || filepath.Clean(m.Target) == "/" {
		return specs.Mount{}, fmt.Errorf("mount target %q: has to be an absolute path below /", m.Target)
	}
	out := specs.Mount{Destination: filepath.Clean(m.Target), Type: m.Type, Source: m.Source, Options: slices.Clone(m.Options)}
	has := func(words ...string) bool {
		return slices.ContainsFunc(out.Options, func(o string) bool { return slices.Contains(words, o) })
	}
	switch m.Type {
	case "bind":
		if !filepath.IsAbs(m.Source) {
			return specs.Mount{}, fmt.Errorf("mount source %q: has to be an absolute path", m.Source)
		}
		if !has("bind", "rbind") {
			out.Options = append(out.Options, "rbind")
		}
		if !has("ro", "rw", "rro") {
			out.Options = append(out.Options, "rw")
		}
		if !has("private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable") {
			out.Options = append(out.Options, "rprivate")
		}
		if has("rbind") && readOnly(out.Options) && on.deepReadOnly {
			out.Options = append(out.Options, "rro")
		}
	case "tmpfs":
		out.Source = "tmpfs"
		for _, o := range []string{"nosuid", "nodev"} {
			if !has(o, o[2:]) {
				out.Options = append(out.Options, o)
			}
		}
		if !slices.ContainsFunc(out.Options, func(o string) bool { return strings.HasPrefix(o, "mode=") }) {
			out.Options = append(out.Options, "mode=1777")
		}
	default:
		return specs.Mount{}, fmt.Errorf("mount %q: type %q is neither bind nor tmpfs", m.Target, m.Type)
	}
	return out, nil
}

// readOnly reports whether the last word on writing is no.
func readOnly(options []string) (ro bool) {
	for _, o := range options {
		switch o {
		case "ro", "rro":
			ro = true
		case "rw":
			ro = false
		}
	}
	return ro
}

// recursiveReadOnly reports whether "rro" works: "ro" makes only the mount
// itself read-only, and leaves what is mounted below it (/run, /dev/shm)
// writable. It wants mount_setattr(2), Linux 5.12, and runc 1.1, which every
// containerd that we support ships. On an older kernel such a mount protects
// only its own file system. What the host mounts later below an rslave mount
// arrives as the host has it, on any kernel.
func recursiveReadOnly() bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor); err != nil {
		return false
	}
	return major > 5 || major == 5 && minor >= 12
}

// rootPropagation is what the root needs for a mount's propagation to work.
func rootPropagation(options []string) string {
	switch {
	case slices.Contains(options, "rshared"), slices.Contains(options, "shared"):
		return "rshared"
	case slices.Contains(options, "rslave"), slices.Contains(options, "slave"):
		return "rslave"
	}
	return ""
}
