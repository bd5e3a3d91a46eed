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
// Fields tagged digest:"-" say where and when it runs or how its image is
// fetched: they are outside the digest of the running part, so changing them
// restarts nothing that stays placed. Every other field is inside.
//
// Texts tagged template may hold {{ … }} expressions, which For replaces by what
// they mean on one node; in those tagged "address", an IPv6 address gets
// brackets.
type Daemon struct {
	Name       string            `toml:"name"`
	Image      string            `toml:"image" template:"yes"`       // tag and/or digest
	Pull       PullPolicy        `toml:"pull" digest:"-"`            // default "missing"
	Type       string            `toml:"type"`                       // TypeDaemon (default) or TypeJob
	Command    []string          `toml:"command" template:"yes"`     // replaces the image's entrypoint
	Args       []string          `toml:"args" template:"yes"`        // replaces the image's CMD
	Env        map[string]string `toml:"env" template:"yes"`         // added to the image's environment
	WorkingDir string            `toml:"working_dir" template:"yes"` // default: the image's
	User       string            `toml:"user"`                       // numeric "uid" or "uid:gid"; default: the image's
	Hostname   string            `toml:"hostname" template:"yes"`    // default: the node's name
	Network    Namespace         `toml:"network"`                    // "host" (default) | "none"
	PID        Namespace         `toml:"pid"`                        // "private" (default) | "host"

	Privileged   bool         `toml:"privileged"`
	Capabilities Capabilities `toml:"capabilities"`
	Devices      []string     `toml:"devices" template:"yes"` // host paths such as /dev/fuse; ":r", ":rw" and so on restrict it
	ReadOnly     bool         `toml:"read_only"`

	Selector map[string]string `toml:"selector" digest:"-"` // nil: every node
	Match    []Match           `toml:"match" digest:"-"`    // all must hold, with Selector
	Nodes    []string          `toml:"nodes" digest:"-"`    // when set: only these names, if the selector matches too

	Tolerations []Toleration `toml:"tolerations" digest:"-"` // taints that do not keep it off a node
	DependsOn   []string     `toml:"depends_on" digest:"-"`  // daemons that must be ready on the node first

	Mounts    []Mount   `toml:"mounts"`
	Files     []File    `toml:"files"`
	Resources Resources `toml:"resources"`
	Restart   Restart   `toml:"restart"`
	Health    Health    `toml:"health"`
	Hooks     Hooks     `toml:"hooks"`
	Stop      Stop      `toml:"stop"`
	Update    Update    `toml:"update" digest:"-"`
	Isolation Isolation `toml:"isolation" digest:"-"`

	// Overrides apply in order on the nodes that they match; see For.
	Overrides []Override `toml:"override"`

	// RestartNonce changes the digest, and nothing else: it is how a restart
	// of an unchanged daemon travels. Operators do not write it.
	RestartNonce string `toml:"-"`

	// Literal: no text holds expressions, {{ or not. For sets it when what it
	// returns would be mistaken otherwise. Operators do not write it.
	Literal bool `toml:"-"`
}

// Types of a daemon.
const (
	TypeDaemon = "daemon"
	TypeJob    = "job" // runs to completion, once per node and rendered digest
)

// Job reports whether d runs to completion instead of for ever.
func (d Daemon) Job() bool { return d.Type == TypeJob }

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
	Source  string   `toml:"source" template:"yes"` // absolute path on the host
	Volume  string   `toml:"volume"`                // name of a folder kept under data_dir/volumes
	Tmpfs   bool     `toml:"tmpfs"`                 //
	Size    Size     `toml:"size"`                  // tmpfs only; 0: half of memory, as the kernel does
	Target  string   `toml:"target"`                // absolute path in the container
	Options []string `toml:"options"`               // complete and in one order; see fillOptions for the defaults
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
	Content string `toml:"content" template:"yes"`
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
	Policy     RestartPolicy `toml:"policy"`      // default "always"; of a job "on-failure"
	Backoff    Duration      `toml:"backoff"`     // default 500ms
	BackoffMax Duration      `toml:"backoff_max"` // default 30s
	ResetAfter Duration      `toml:"reset_after"` // default 30s
	Attempts   int           `toml:"attempts"`    // of a job only: failures after which it has failed; 0: no limit
}

// Stop is the [stop] table.
type Stop struct {
	Signal string   `toml:"signal"` // default SIGTERM
	Grace  Duration `toml:"grace"`  // then SIGKILL; default 30s
}

// Health are the probes of a container; nil is none. Until Startup succeeded,
// the other two wait; a failed Startup or Liveness restarts the container; Readiness
// decides whether it counts as ready.
type Health struct {
	Startup   *Probe `toml:"startup"`
	Liveness  *Probe `toml:"liveness"`
	Readiness *Probe `toml:"readiness"`
}

// Probe is one question that is asked again and again. Exactly one of HTTP, TCP
// and Exec is set.
type Probe struct {
	HTTP      string   `toml:"http" template:"address"` // a URL; a status from 200 to 399 is a success
	TCP       string   `toml:"tcp" template:"address"`  // HOST:PORT that takes a connection
	Exec      []string `toml:"exec" template:"yes"`     // run inside the container; exit code 0 is a success
	Interval  Duration `toml:"interval"`                // between the starts of two probes; default 10s
	Timeout   Duration `toml:"timeout"`                 // default 1s
	Successes int      `toml:"successes"`               // in a row until it has succeeded; default 1
	Failures  int      `toml:"failures"`                // in a row until it has failed; default 3
	Delay     Duration `toml:"delay"`                   // from the container's start to the first; default 0
}

// Hooks are commands that run inside the container: PostStart right after its
// start, PreStop before the stop signal.
type Hooks struct {
	PostStart []string `toml:"post_start" template:"yes"`
	PreStop   []string `toml:"pre_stop" template:"yes"`
}

// IsolationPolicy says what becomes of a container on a node that reaches no
// other one.
type IsolationPolicy string

const (
	IsolationKeep IsolationPolicy = "keep"
	IsolationStop IsolationPolicy = "stop"
)

// Isolation is the [isolation] table.
type Isolation struct {
	Policy IsolationPolicy `toml:"policy"` // default "keep"
	After  Duration        `toml:"after"`  // for how long, with "stop"; default 1h
}
