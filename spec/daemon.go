// Package spec says WHAT a daemon is: the TOML an operator writes, its
// validation and defaults, the digest of its running part and the selection of
// the nodes that it is meant for.
//
// The package is pure: it touches no file, no clock and no network, and every
// function may be called from any goroutine. Values are plain data; a Daemon
// that came out of Parse or Decode is complete (defaults filled in) and valid.
package spec

// Daemon is one daemon as the ring knows it, with every default filled in.
//
// Fields tagged digest:"-" say where it runs or how its image is fetched: they
// are outside the digest of the running part, so changing them restarts
// nothing that stays placed. Every other field is inside.
type Daemon struct {
	Name       string            `toml:"name"`
	Image      string            `toml:"image"`           // tag and/or digest
	Pull       PullPolicy        `toml:"pull" digest:"-"` // default "missing"
	Type       string            `toml:"type"`            // "daemon"
	Command    []string          `toml:"command"`         // replaces the image's entrypoint
	Args       []string          `toml:"args"`            // replaces the image's CMD
	Env        map[string]string `toml:"env"`             // added to the image's environment
	WorkingDir string            `toml:"working_dir"`     // default: the image's
	User       string            `toml:"user"`            // numeric "uid" or "uid:gid"; default: the image's
	Hostname   string            `toml:"hostname"`        // default: the node's name
	Network    Namespace         `toml:"network"`         // "host" (default) | "none"
	PID        Namespace         `toml:"pid"`             // "private" (default) | "host"

	Privileged   bool         `toml:"privileged"`
	Capabilities Capabilities `toml:"capabilities"`
	Devices      []string     `toml:"devices"` // host paths such as /dev/fuse; ":r", ":rw" and so on restrict it
	ReadOnly     bool         `toml:"read_only"`

	Selector map[string]string `toml:"selector" digest:"-"` // nil: every node
	Match    []Match           `toml:"match" digest:"-"`    // all must hold, with Selector
	Nodes    []string          `toml:"nodes" digest:"-"`    // when set: only these names, if the selector matches too

	Mounts    []Mount   `toml:"mounts"`
	Files     []File    `toml:"files"`
	Resources Resources `toml:"resources"`
	Restart   Restart   `toml:"restart"`
	Stop      Stop      `toml:"stop"`

	// RestartNonce changes the digest, and nothing else: it is how a restart
	// of an unchanged daemon travels. Operators do not write it.
	RestartNonce string `toml:"-"`
}

// PullPolicy says when the image is fetched.
type PullPolicy string

const (
	PullMissing PullPolicy = "missing"
	PullAlways  PullPolicy = "always"
	PullNever   PullPolicy = "never"
)

// Namespace says whose namespace a container shares.
type Namespace string

const (
	NamespaceHost    Namespace = "host"
	NamespacePrivate Namespace = "private"
	NamespaceNone    Namespace = "none" // a private network namespace with only loopback
)

// Capabilities are changes to the default set: sorted, each with its "CAP_",
// which operators may leave out; "ALL" means every one.
type Capabilities struct {
	Add  []string `toml:"add"`
	Drop []string `toml:"drop"`
}

// Operator is a label match operator, with the meaning of a Kubernetes node
// selector requirement.
type Operator string

const (
	OpIn           Operator = "In"
	OpNotIn        Operator = "NotIn"
	OpExists       Operator = "Exists"
	OpDoesNotExist Operator = "DoesNotExist"
	OpGt           Operator = "Gt"
	OpLt           Operator = "Lt"
)

// Match is one [[match]] requirement on a node's labels.
type Match struct {
	Key      string   `toml:"key"`
	Operator Operator `toml:"operator"`
	Values   []string `toml:"values"`
}

// Mount is a bind mount (Source), a volume (Volume) or a tmpfs. Exactly one of
// the three is set.
type Mount struct {
	Source  string   `toml:"source"`  // absolute path on the host
	Volume  string   `toml:"volume"`  // name of a folder kept under data_dir/volumes
	Tmpfs   bool     `toml:"tmpfs"`   //
	Size    Size     `toml:"size"`    // tmpfs only; 0: half of memory, as the kernel does
	Target  string   `toml:"target"`  // absolute path in the container
	Options []string `toml:"options"` // complete and in one order; see fillOptions for the defaults
}

// ReadOnly reports whether the mount's options forbid writing.
func (m Mount) ReadOnly() bool {
	ro := false
	for _, o := range m.Options {
		switch o {
		case "ro":
			ro = true
		case "rw":
			ro = false
		}
	}
	return ro
}

// File is a small file carried by the spec and mounted read-only at Target.
type File struct {
	Target  string `toml:"target"`
	Mode    string `toml:"mode"` // octal; default "0444"
	Content string `toml:"content"`
}

// Resources are limits; zero means none.
type Resources struct {
	CPU           float64          `toml:"cpu"`            // cores
	Memory        Size             `toml:"memory"`         // bytes; swap is limited to the same
	Pids          int64            `toml:"pids"`           //
	MemoryReserve Size             `toml:"memory_reserve"` // soft limit, bytes
	CPUWeight     uint64           `toml:"cpu_weight"`     // cgroup v2 scale, 1 to 10000; 0: the kernel's default
	OOMScoreAdj   int              `toml:"oom_score_adj"`  // -1000 to 1000
	Ulimits       map[string]int64 `toml:"ulimits"`        // "nofile" and so on: soft and hard; -1: unlimited
}

// RestartPolicy says after which exits a container is started again.
type RestartPolicy string

const (
	RestartAlways    RestartPolicy = "always"
	RestartOnFailure RestartPolicy = "on-failure"
	RestartNever     RestartPolicy = "never"
)

// Restart is the [restart] table: the first restart comes at once, then Backoff
// doubles up to BackoffMax, and a container that ran for ResetAfter starts anew.
type Restart struct {
	Policy     RestartPolicy `toml:"policy"`      // default "always"
	Backoff    Duration      `toml:"backoff"`     // default 500ms
	BackoffMax Duration      `toml:"backoff_max"` // default 30s
	ResetAfter Duration      `toml:"reset_after"` // default 30s
}

// Stop is the [stop] table.
type Stop struct {
	Signal string   `toml:"signal"` // default SIGTERM
	Grace  Duration `toml:"grace"`  // then SIGKILL; default 30s
}
