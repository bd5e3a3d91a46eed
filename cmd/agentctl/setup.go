package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/agentd/agentd/agent/config"
	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/record"
	"github.com/agentd/agentd/spec/strict"
)

// node is what init and join write for a machine.
type node struct {
	dir       string // absolute
	name      string
	ring      string
	advertise string
	join      []string
	key       config.RingKey
	operators []record.PublicKey
	floor     map[string]record.Version // nil for the first node
}

// newNode fills in what a command line leaves open.
func newNode(dir, name string) (node, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return node{}, fmt.Errorf("find folder %s: %w", dir, err)
	}
	if name == "" {
		host, err := os.Hostname()
		if err != nil {
			return node{}, withHint(fmt.Errorf("find the host name: %w", err), "name the node with --name")
		}
		name = strings.ToLower(host)
	}
	if !spec.ValidNodeName(name) {
		return node{}, withHint(fmt.Errorf("%q can't be the name of a node", name), "choose one with --name")
	}
	return node{dir: dir, name: name}, nil
}

func (n node) path(elem ...string) string {
	return filepath.Join(append([]string{n.dir}, elem...)...)
}

func (n node) configFile() string { return n.path("agentd.toml") }

// files lists what is written, agentd.toml last: a folder without it is one
// whose setup did not end.
func (n node) files() []newFile {
	list := []newFile{{n.path("ring.key"), n.key.Marshal(), 0o600, "secret: whoever has it can join the ring"}}
	used := map[string]bool{}
	for _, pub := range n.operators {
		list = append(list, newFile{n.path("trust.d", pubFile(pub, used)), pub.Marshal(), 0o644, "whose signatures count: " + pub.ID()})
	}
	if n.floor != nil {
		list = append(list, newFile{config.FloorFile(n.dir), config.MarshalFloor(n.floor), 0o600, "nothing older than this is started"})
	}
	return append(list, newFile{n.configFile(), n.toml(), 0o644, "configuration"})
}

// pubFile names the file of an operator's public key after its comment.
func pubFile(pub record.PublicKey, used map[string]bool) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == '@', r == '.':
			return r
		}
		return '-'
	}, pub.Comment)
	name = strings.Trim(name, "-.")
	if name == "" || len(name) > 100 || used[name] {
		name = pub.ID()
	}
	used[name] = true
	return name + ".pub"
}

// toml is the node's agentd.toml. An installed node keeps the standard places;
// any other folder holds everything that belongs to it, so that several agents
// on one machine don't meet.
func (n node) toml() []byte {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Made by agentctl. What is not here has its default: see agentd --check.")
	line("[node]\nname = %s", strict.Quote(n.name))
	if n.dir != defaultDir {
		line("data_dir = %s", strict.Quote(n.path("data")))
	}
	line("\n[ring]\nname = %s", strict.Quote(n.ring))
	if n.advertise != "" {
		line("advertise = %s", strict.Quote(n.advertise))
	}
	if len(n.join) > 0 {
		line("join = %s", strict.QuoteStrings(n.join))
	}
	line("key_file = %s", strict.Quote(n.path("ring.key")))
	line("\n[trust]\ndir = %s", strict.Quote(n.path("trust.d")))
	if n.dir != defaultDir {
		line("\n[api]\nsocket = %s", strict.Quote(n.socket()))
	}
	return []byte(b.String())
}

// socket is where the node's agentd will listen.
func (n node) socket() string {
	if n.dir == defaultDir {
		return api.DefaultSocket
	}
	return n.path("agentd.sock")
}

// write makes the node's files, checks that agentd will take them, and lists
// them on stdout; on an error nothing stays behind. extra files are made too.
func (a *app) write(n node, extra ...newFile) error {
	files := append(extra, n.files()...)
	if path, found := existing(files); found {
		return withHint(fmt.Errorf("%s exists already, and nothing is overwritten", path),
			"this machine was set up before; to start anew, stop agentd and move %s away", filepath.Dir(trimTrust(path)))
	}
	undo, err := writeNew(files)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return withHint(err, "try again with sudo")
		}
		return err
	}
	if _, err := config.Load(n.configFile()); err != nil {
		undo()
		return fmt.Errorf("agentd would not take this configuration: %w", err)
	}
	for _, f := range files {
		fmt.Fprintf(a.stdout, "wrote %s (%s)\n", f.path, f.note)
	}
	return nil
}

// trimTrust makes the folder of a trusted key that of the node.
func trimTrust(path string) string {
	if dir := filepath.Dir(path); filepath.Base(dir) == "trust.d" {
		return dir
	}
	return path
}

// configured returns the configuration in dir; ok is false when there is none.
func configured(dir string) (loaded *config.Loaded, ok bool, err error) {
	path := filepath.Join(dir, "agentd.toml")
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	loaded, err = config.Load(path)
	if errors.Is(err, fs.ErrPermission) {
		err = withHint(err, "try again with sudo")
	}
	return loaded, true, err
}
