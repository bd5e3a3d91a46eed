package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Config says what a lab has in common for all its nodes.
type Config struct {
	ID       string              // default: drawn; every name outside Dir starts with it
	Dir      string              // default: made with TempDir; Close removes it
	Archives []string            // images that every node's containerd gets
	Bin      string              // folder of agentd and agentctl; default: see Bin
	Trace    func(argv []string) // told of the commands that make a node; may be nil
}

// Lab is a switch with nodes that each have a containerd and, once started, an
// agentd, as if they were machines.
type Lab struct {
	ID, Dir string
	Net     *Net
	Nodes   []*Node
	cfg     Config
	madeRun []string // folders of containerd that were not there before
}

// runFolders are what containerd and runc make below /run and leave empty.
// agentd keeps locks there.
var runFolders = []string{shimSockets, fifoFolder, runcState, "/run/containerd", "/run/runc", agentLocks, "/run/agentd"}

// New makes the switch and the lab's folder.
func New(ctx context.Context, cfg Config) (*Lab, error) {
	if cfg.ID == "" {
		cfg.ID = NewID("agt")
	}
	if cfg.Dir == "" {
		dir, err := TempDir("agt")
		if err != nil {
			return nil, err
		}
		cfg.Dir = dir
	}
	l := &Lab{ID: cfg.ID, Dir: cfg.Dir, cfg: cfg}
	for _, dir := range runFolders {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			l.madeRun = append(l.madeRun, dir)
		}
	}
	if err := os.MkdirAll(l.Home(), 0o700); err != nil {
		return nil, errors.Join(fmt.Errorf("make the operator's home: %w", err), l.Close())
	}
	var err error
	if l.Net, err = newNet(ctx, l.ID, cfg.Trace); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Home is the operator's home folder: the operator key is made there.
func (l *Lab) Home() string { return filepath.Join(l.Dir, "home") }

// Program is the path of agentd or agentctl.
func (l *Lab) Program(name string) (string, error) {
	if l.cfg.Bin != "" {
		return filepath.Join(l.cfg.Bin, name), nil
	}
	return Bin(name)
}

// AddNode plugs a node in and starts its containerd, with the lab's images.
func (l *Lab) AddNode(ctx context.Context, name string) (*Node, error) {
	where, err := l.Net.AddNode(ctx, name)
	if err != nil {
		return nil, err
	}
	n := &Node{Name: name, NetNode: where, Namespace: where.NetNS, Dir: filepath.Join(l.Dir, name), lab: l}
	if err := os.MkdirAll(n.DataDir(), 0o700); err != nil {
		return nil, fmt.Errorf("make the node's folder: %w", err)
	}
	l.Nodes = append(l.Nodes, n)
	n.Containerd, err = StartContainerd(ctx, ContainerdConfig{Dir: filepath.Join(n.Dir, "c"), NetNS: where.NetNS, ID: l.ID})
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", name, err)
	}
	l.trace(InNetNS(where.NetNS, n.Containerd.Args()...))
	for _, archive := range l.cfg.Archives {
		l.trace(n.Containerd.CtrArgs(n.Namespace, "images", "import", archive))
		if err := n.Containerd.Import(ctx, n.Namespace, archive); err != nil {
			return nil, fmt.Errorf("node %s: %w", name, err)
		}
	}
	return n, nil
}

func (l *Lab) trace(argv []string) {
	if l.cfg.Trace != nil {
		l.cfg.Trace(argv)
	}
}

// Node finds a node by name; nil when there is none.
func (l *Lab) Node(name string) *Node {
	i := slices.IndexFunc(l.Nodes, func(n *Node) bool { return n.Name == name })
	if i < 0 {
		return nil
	}
	return l.Nodes[i]
}

// Close ends and removes everything of the lab.
func (l *Lab) Close() error {
	err := Sweep(l.ID, l.Dir)
	if l.Net != nil {
		err = errors.Join(err, l.Net.Close())
	}
	for _, dir := range l.madeRun {
		err = errors.Join(err, removeIfEmpty(dir))
	}
	return err
}

// SweepRun removes the folders that containerd and runc leave below /run, those
// that are empty: whoever uses one makes it again.
func SweepRun() {
	for _, dir := range runFolders {
		_ = removeIfEmpty(dir)
	}
	dropNetNSFolder()
}

// Sweep ends all processes of the lab with this id and folder and removes
// everything of it. It needs nothing but the two names, so it also cleans up
// after a lab whose process was killed.
func Sweep(id, dir string) error {
	if len(id) < 4 || !filepath.IsAbs(dir) || filepath.Dir(dir) == "/" {
		return fmt.Errorf("sweep lab %q in %q: that cannot be a lab", id, dir)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	mark := EnvID + "=" + id
	// First who could start containers, then the containers.
	errs := []error{killAll(ctx, func(p Proc) bool { return !isShim(p) && p.Base() != "ctr" && p.environ(mark) })}
	nodes, err := filepath.Glob(filepath.Join(dir, "*", "c"))
	errs = append(errs, err)
	for _, c := range nodes {
		errs = append(errs, SweepContainerd(c), removeLock(c, id+"-"+filepath.Base(filepath.Dir(c))))
	}
	errs = append(errs, sweepNamespaces(ctx, id))
	inside := netnsInodes(id)
	errs = append(errs, killAll(ctx, func(p Proc) bool { return slices.Contains(inside, p.NetNS) || p.environ(mark) }))
	errs = append(errs, SweepNetNS(id), removeCgroups(ctx, id+"-*"), removeTree(dir))
	return errors.Join(errs...)
}

// sweepNamespaces removes containers of the lab's namespaces that runc knows
// and no containerd folder tells of any more.
func sweepNamespaces(ctx context.Context, id string) error {
	var errs []error
	roots, err := filepath.Glob(filepath.Join(runcState, id+"-*"))
	errs = append(errs, err)
	for _, root := range roots {
		left, _ := os.ReadDir(root)
		for _, c := range left {
			_, _ = Exec(ctx, "runc", "--root", root, "delete", "--force", c.Name())
		}
		errs = append(errs, os.RemoveAll(root), removeCgroups(ctx, filepath.Base(root)))
	}
	return errors.Join(errs...)
}

// netnsInodes are the inodes of the lab's network namespaces.
func netnsInodes(id string) []uint64 {
	var all []uint64
	entries, _ := os.ReadDir("/run/netns")
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), id+"-") {
			if ino := inode("/run/netns/" + e.Name()); ino != 0 {
				all = append(all, ino)
			}
		}
	}
	return all
}
