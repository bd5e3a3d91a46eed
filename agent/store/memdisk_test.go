package store

import (
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
)

var errPowerCut = errors.New("power cut")

// memDisk is a disk in memory that knows what was synced. A crash keeps that,
// and of the rest whatever the test chooses. It counts the operations that
// change something, and fails at a chosen one.
type memDisk struct {
	mu    sync.Mutex
	root  *memNode
	ops   int
	log   []string
	cutAt int           // operation at which the power goes, from 1; 0: never
	fail  map[int]error // operation that fails, and the disk lives on
	dead  bool
	deny  func(op, name string) error // for errors that depend on the name
}

// memNode is a file or, with names, a folder.
type memNode struct {
	data, synced []byte

	names   map[string]*memNode
	lasting map[string]*memNode // as of the last sync
	pending []func(map[string]*memNode)
}

func newFolder() *memNode {
	return &memNode{names: map[string]*memNode{}, lasting: map[string]*memNode{}}
}

// newMemDisk has one folder, /data, that lasts.
func newMemDisk() *memDisk {
	d := &memDisk{root: newFolder(), fail: map[int]error{}}
	data := newFolder()
	d.root.names["data"], d.root.lasting["data"] = data, data
	return d
}

// op counts one operation. half tells that the power goes in the middle of it.
func (d *memDisk) op(what, name string) (half bool, err error) {
	if d.dead {
		return false, errPowerCut
	}
	if d.deny != nil {
		if err := d.deny(what, name); err != nil {
			return false, &fs.PathError{Op: what, Path: name, Err: err}
		}
	}
	d.ops++
	d.log = append(d.log, what+" "+name)
	if d.ops == d.cutAt {
		d.dead = true
		return true, errPowerCut
	}
	if err := d.fail[d.ops]; err != nil {
		return true, &fs.PathError{Op: what, Path: name, Err: err}
	}
	return false, nil
}

func (d *memDisk) find(name string) *memNode {
	n := d.root
	if name = filepath.Clean(name); name == "/" {
		return n
	}
	for _, part := range splitPath(name) {
		if n == nil || n.names == nil {
			return nil
		}
		n = n.names[part]
	}
	return n
}

func splitPath(name string) []string {
	var parts []string
	for name != "/" {
		parts = append([]string{filepath.Base(name)}, parts...)
		name = filepath.Dir(name)
	}
	return parts
}

func (n *memNode) change(f func(map[string]*memNode)) {
	f(n.names)
	n.pending = append(n.pending, f)
}

func (d *memDisk) MkdirAll(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.op("mkdir", dir); err != nil {
		return err
	}
	n := d.root
	for _, part := range splitPath(filepath.Clean(dir)) {
		if n.names[part] == nil {
			child := newFolder()
			n.change(func(m map[string]*memNode) { m[part] = child })
		}
		n = n.names[part]
	}
	return nil
}

func (d *memDisk) ReadDir(dir string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.deny != nil {
		if err := d.deny("readdir", dir); err != nil {
			return nil, err
		}
	}
	n := d.find(dir)
	if n == nil {
		return nil, nil
	}
	var names []string
	for name, child := range n.names {
		if child.names == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

func (d *memDisk) ReadFile(name string, limit int) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.deny != nil {
		if err := d.deny("read", name); err != nil {
			return nil, err
		}
	}
	n := d.find(name)
	if n == nil {
		return nil, fs.ErrNotExist
	}
	if len(n.data) > limit {
		return nil, errTooLong
	}
	return slices.Clone(n.data), nil
}

func (d *memDisk) Create(name string) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.op("create", name); err != nil {
		return nil, err
	}
	n := d.find(name)
	if n == nil {
		n = &memNode{}
		d.find(filepath.Dir(name)).change(func(m map[string]*memNode) { m[filepath.Base(name)] = n })
	}
	n.data = nil
	return &memFile{d, name, n}, nil
}

type memFile struct {
	d    *memDisk
	name string
	n    *memNode
}

func (f *memFile) Write(b []byte) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	half, err := f.d.op("write", f.name)
	if half {
		b = b[:len(b)/2]
	}
	f.n.data = append(f.n.data, b...)
	return len(b), err
}

func (f *memFile) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if _, err := f.d.op("sync", f.name); err != nil {
		return err
	}
	f.n.synced = slices.Clone(f.n.data)
	return nil
}

func (f *memFile) Close() error { return nil }

func (d *memDisk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.op("rename", to); err != nil {
		return err
	}
	n := d.find(from)
	if n == nil {
		return fs.ErrNotExist
	}
	src, dst := d.find(filepath.Dir(from)), d.find(filepath.Dir(to))
	if src == dst {
		src.change(func(m map[string]*memNode) { delete(m, filepath.Base(from)); m[filepath.Base(to)] = n })
		return nil
	}
	src.change(func(m map[string]*memNode) { delete(m, filepath.Base(from)) })
	dst.change(func(m map[string]*memNode) { m[filepath.Base(to)] = n })
	return nil
}

func (d *memDisk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.op("remove", name); err != nil {
		return err
	}
	dir := d.find(filepath.Dir(name))
	if dir == nil || dir.names[filepath.Base(name)] == nil {
		return fs.ErrNotExist
	}
	dir.change(func(m map[string]*memNode) { delete(m, filepath.Base(name)) })
	return nil
}

func (d *memDisk) SyncDir(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.op("syncdir", name); err != nil {
		return err
	}
	n := d.find(name)
	if n == nil {
		return fs.ErrNotExist
	}
	n.lasting, n.pending = maps.Clone(n.names), nil
	return nil
}

// crash returns the disk after the power came back. Of what was not synced, keep
// decides for each change of a folder and for each file's content.
func (d *memDisk) crash(keep func() bool) *memDisk {
	out := &memDisk{fail: map[int]error{}}
	seen := map[*memNode]*memNode{}
	var settle func(n *memNode) *memNode
	settle = func(n *memNode) *memNode {
		if done := seen[n]; done != nil {
			return done
		}
		if n.names == nil {
			c := &memNode{}
			seen[n] = c
			c.data = slices.Clone(n.synced)
			if !slices.Equal(n.data, n.synced) && keep() {
				c.data = slices.Clone(n.data[:len(n.data)-len(n.data)/3])
			}
			c.synced = slices.Clone(c.data)
			return c
		}
		c := newFolder()
		seen[n] = c
		names := maps.Clone(n.lasting)
		for _, change := range n.pending {
			if keep() {
				change(names)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			child := settle(names[name])
			c.names[name], c.lasting[name] = child, child
		}
		return c
	}
	out.root = settle(d.root)
	return out
}

// fates are ways in which a disk may look after a crash.
func fates() map[string]func() bool {
	out := map[string]func() bool{
		"nothing unsynced lasts":    func() bool { return false },
		"everything unsynced lasts": func() bool { return true },
	}
	for i := range uint64(3) {
		rng := rand.New(rand.NewPCG(i, 7))
		out["some of it lasts "+string(rune('a'+i))] = func() bool { return rng.IntN(2) == 0 }
	}
	return out
}

// edit changes the content of a file behind the store's back.
func (d *memDisk) edit(name string, f func([]byte) []byte) {
	n := d.find(name)
	n.data = f(slices.Clone(n.data))
	n.synced = n.data
}

// clone returns a deep copy with everything synced.
func (d *memDisk) clone() *memDisk {
	return d.crash(func() bool { panic("clone of a disk that is not synced") })
}
