package config

import (
	"os"

	"github.com/agentd/agentd/spec"
)

// Config is agentd's own configuration, with the keys of configs/agentd.toml. Load
// returns it resolved: addresses have ports, the node has a name.
type Config struct {
	Node    Node    `toml:"node"`
	Ring    Ring    `toml:"ring"`
	Peer    Peer    `toml:"peer"`
	Trust   Trust   `toml:"trust"`
	Policy  Policy  `toml:"policy"`
	Runtime Runtime `toml:"runtime"`
	Log     Log     `toml:"log"`
	API     API     `toml:"api"`
	Metrics Metrics `toml:"metrics"`
}

// Node is the [node] table.
type Node struct {
	Name    string            `toml:"name"`     // default: the host name, in lower case
	Labels  map[string]string `toml:"labels"`   // besides those that every node has; see Config.Labels
	Taints  []string          `toml:"taints"`   // key=value:Effect, each valid; see NodeTaints
	DataDir string            `toml:"data_dir"` // absolute
}

// Ring is the [ring] table.
type Ring struct {
	Name        string   `toml:"name"`      // for display; the ring's id keeps rings apart
	Bind        string   `toml:"bind"`      // IP:PORT
	Advertise   string   `toml:"advertise"` // HOST:PORT once loaded, or "": found out from the interfaces
	Join        []string `toml:"join"`      // HOST:PORT each once loaded
	KeyFile     string   `toml:"key_file"`
	CertFile    string   `toml:"cert_file"` // all three of these or none
	PeerKeyFile string   `toml:"peer_key_file"`
	CAFile      string   `toml:"ca_file"`
}

// Peer is the [peer] table: where node-to-node requests are served.
type Peer struct {
	Bind      string `toml:"bind"`      // IP:PORT once loaded; default: ring.bind's address, port + 1
	Advertise string `toml:"advertise"` // HOST:PORT once loaded; default: ring.advertise's host, port + 1; "" when that is ""
}

// Trust is the [trust] table.
type Trust struct {
	Dir string `toml:"dir"` // operator public keys, *.pub
}

// Policy is the [policy] table: what this node permits, whatever the ring says.
type Policy struct {
	Images         []string `toml:"images"`          // repositories or digests; * does not cross a slash, ** does
	HostPaths      []string `toml:"host_paths"`      // PATH or PATH:ro
	HostNamespaces []string `toml:"host_namespaces"` // of network, pid, ipc, uts
	Capabilities   []string `toml:"capabilities"`    // beyond the default set, as CAP_NAME once loaded
	Devices        []string `toml:"devices"`         // PATH or PATH:rwm
	Privileged     bool     `toml:"privileged"`
}

// Runtime is the [runtime] table: which containerd, and how images are fetched.
type Runtime struct {
	Address     string `toml:"address"`
	Namespace   string `toml:"namespace"`
	Snapshotter string `toml:"snapshotter"` // "": containerd's default
	RegistryDir string `toml:"registry_dir"`
	AuthFile    string `toml:"auth_file"` // "": none
}

// Log is the [log] table.
type Log struct {
	Level      string    `toml:"level"`      // debug | info | warn | error
	Format     string    `toml:"format"`     // text | json
	Containers string    `toml:"containers"` // LogsAuto | LogsJournald | LogsFile; see ContainerLogs
	MaxSize    spec.Size `toml:"max_size"`   // bytes per file
	MaxFiles   int       `toml:"max_files"`  // the one being written included
}

// Where the output of containers goes.
const (
	LogsAuto     = "auto" // journald where it runs, else files
	LogsJournald = "journald"
	LogsFile     = "file"
)

// JournalSocket is where journald takes entries: it exists where journald runs
// (systemd-journald.service(8)).
const JournalSocket = "/run/systemd/journal/socket"

// ContainerLogs returns where the output of containers goes, LogsJournald or
// LogsFile. journal is the path to look for journald at, JournalSocket but in
// tests.
func (l Log) ContainerLogs(journal string) string {
	if l.Containers != LogsAuto {
		return l.Containers
	}
	if info, err := os.Stat(journal); err == nil && info.Mode().Type() == os.ModeSocket {
		return LogsJournald
	}
	return LogsFile
}

// API is the [api] table.
type API struct {
	Socket string `toml:"socket"`
	Group  string `toml:"group"` // "" or unknown: only root
}

// Metrics is the [metrics] table.
type Metrics struct {
	Listen string `toml:"listen"` // HOST:PORT; "" turns it off
}

// Default returns the configuration of an empty file, before it is resolved:
// node.name, peer.bind and peer.advertise are empty.
func Default() Config {
	return Config{
		Node:  Node{DataDir: "/var/lib/agentd"},
		Ring:  Ring{Name: "default", Bind: "0.0.0.0:7946", KeyFile: "/etc/agentd/ring.key"},
		Trust: Trust{Dir: "/etc/agentd/trust.d"},
		Policy: Policy{
			Images:         []string{"**"},
			HostPaths:      []string{"/:ro"},
			HostNamespaces: []string{"network", "pid"},
		},
		Runtime: Runtime{
			Address:     "/run/containerd/containerd.sock",
			Namespace:   "agentd",
			RegistryDir: "/etc/containerd/certs.d",
		},
		Log: Log{
			Level:      "info",
			Format:     "text",
			Containers: "auto",
			MaxSize:    10 << 20,
			MaxFiles:   3,
		},
		API:     API{Socket: "/run/agentd/agentd.sock", Group: "agentd"},
		Metrics: Metrics{Listen: "127.0.0.1:9464"},
	}
}
