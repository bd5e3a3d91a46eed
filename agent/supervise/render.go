package supervise

import (
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/spec"
)

// Host is what rendering needs of this node.
type Host struct {
	Node    string
	DataDir string
	LogPath string // of this daemon's output
	LogURI  string // where its output goes instead; "": to LogPath
	// Resolve follows the symbolic links of a mount's source, so that what is
	// mounted is what the policy judged. nil: paths are taken as written.
	Resolve func(path string) string
	// Masks returns the paths in the container to cover after a bind mount.
	// nil: none.
	Masks func(m spec.Mount) []string
}

// Rendered is a daemon resolved for this node: the container, and what must be
// on the host before it can start.
type Rendered struct {
	Spec    runtime.Spec
	Files   []HostFile
	Volumes []HostDir
	Sources []string // bind mounts of the host, which must exist
}

// HostFile is a file of the spec, rendered.
type HostFile struct {
	Path    string
	Mode    fs.FileMode
	Content []byte
}

// HostDir is a volume. A new one belongs to the daemon's user.
type HostDir struct {
	Path     string
	UID, GID int
}

// Render resolves d for a host. It is pure but for Host's functions. Files are
// kept apart by digest, so that those of a running container never change
// under it.
func Render(d Desired, h Host) Rendered {
	s := d.Daemon
	out := Rendered{Spec: runtime.Spec{
		ID: s.Name, Image: s.Image,
		Args: slices.Clone(s.Args), Command: slices.Clone(s.Command), Env: environ(s.Env),
		WorkingDir: s.WorkingDir, User: s.User, Hostname: s.Hostname,
		HostNetwork: s.Network == spec.NamespaceHost, HostPID: s.PID == spec.NamespaceHost,
		Privileged: s.Privileged, ReadOnly: s.ReadOnly,
		CapAdd: capNames(s.Capabilities.Add), CapDrop: capNames(s.Capabilities.Drop),
		Devices: slices.Clone(s.Devices),
		Resources: runtime.Resources{
			CPU: s.Resources.CPU, Memory: int64(s.Resources.Memory), MemoryReserve: int64(s.Resources.MemoryReserve),
			Pids: s.Resources.Pids, CPUWeight: s.Resources.CPUWeight, OOMScoreAdj: s.Resources.OOMScoreAdj,
			Ulimits: maps.Clone(s.Resources.Ulimits),
		},
		StopSignal: s.Stop.Signal, StopGrace: s.Stop.Grace.D(),
		LogPath: h.LogPath, LogURI: h.LogURI, Labels: stableLabels(d, h.Node),
	}}
	if out.Spec.Hostname == "" {
		out.Spec.Hostname = h.Node
	}
	uid, gid := owner(s.User)
	for _, m := range s.Mounts {
		out.mount(m, h, uid, gid)
	}
	dir := filesDir(h.DataDir, s.Name, d.Digest)
	for i, f := range s.Files {
		path := filepath.Join(dir, strconv.Itoa(i))
		out.Files = append(out.Files, HostFile{Path: path, Mode: fileMode(f.Mode), Content: []byte(f.Content)})
		out.Spec.Mounts = append(out.Spec.Mounts, runtime.Mount{
			Type: "bind", Source: path, Target: f.Target, Options: []string{"bind", "ro", "rprivate"},
		})
	}
	return out
}

func (out *Rendered) mount(m spec.Mount, h Host, uid, gid int) {
	options := slices.Clone(m.Options)
	switch {
	case m.Tmpfs:
		if m.Size > 0 {
			options = append(options, "size="+strconv.FormatInt(int64(m.Size), 10))
		}
		out.Spec.Mounts = append(out.Spec.Mounts, runtime.Mount{Type: "tmpfs", Source: "tmpfs", Target: m.Target, Options: options})
	case m.Volume != "":
		path := filepath.Join(h.DataDir, "volumes", m.Volume)
		out.Volumes = append(out.Volumes, HostDir{Path: path, UID: uid, GID: gid})
		out.Spec.Mounts = append(out.Spec.Mounts, runtime.Mount{Type: "bind", Source: path, Target: m.Target, Options: options})
	default:
		source := m.Source
		if h.Resolve != nil {
			source = h.Resolve(source)
		}
		out.Sources = append(out.Sources, source)
		out.Spec.Mounts = append(out.Spec.Mounts, runtime.Mount{Type: "bind", Source: source, Target: m.Target, Options: options})
		if h.Masks == nil {
			return
		}
		// Right after the mount that they cover, so that what the daemon
		// itself mounts there later stays visible.
		for _, target := range h.Masks(m) {
			out.Spec.Mounts = append(out.Spec.Mounts, runtime.Mount{
				Type: "tmpfs", Source: "tmpfs", Target: target,
				Options: []string{"ro", "nosuid", "nodev", "noexec", "mode=0555", "size=4k"},
			})
		}
	}
}

// stableLabels are the labels that follow from the record alone.
func stableLabels(d Desired, node string) map[string]string {
	return map[string]string{
		runtime.LabelDaemon:     d.Daemon.Name,
		runtime.LabelDigest:     d.Digest,
		runtime.LabelGeneration: strconv.FormatUint(d.Generation, 10),
		runtime.LabelRevision:   strconv.Itoa(d.Revision),
		runtime.LabelNode:       node,
		runtime.LabelStopSignal: d.Daemon.Stop.Signal,
		runtime.LabelStopGrace:  d.Daemon.Stop.Grace.D().String(),
		labelSource:             d.source(),
	}
}

// filesDir is where the files of one digest of a daemon are kept.
func filesDir(dataDir, daemon, digest string) string {
	return filepath.Join(dataDir, "files", daemon, fmt.Sprintf("%.16s", digest))
}

func environ(env map[string]string) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(env)) {
		out = append(out, k+"="+env[k])
	}
	return out
}

func capNames(names []string) []string {
	var out []string
	for _, n := range names {
		out = append(out, spec.NormalCapability(n))
	}
	return out
}

// owner splits a numeric "uid[:gid]"; the image's user is taken for root, since
// it is not known here.
func owner(user string) (uid, gid int) {
	u, g, _ := strings.Cut(user, ":")
	uid, gid = atoi(u), atoi(g)
	if g == "" {
		gid = uid
	}
	return uid, gid
}

func fileMode(s string) fs.FileMode {
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil {
		return 0o444
	}
	return fs.FileMode(n).Perm()
}
