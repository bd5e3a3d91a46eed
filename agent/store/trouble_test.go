package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/agentd/agentd/e2e/lab"
	"github.com/agentd/agentd/spec/record"
)

func TestNoPermission(t *testing.T) {
	ops := newOperators(t, 1)
	disk := newMemDisk()
	cfg := Config{Trust: ops.trust(), disk: disk}
	s := open(t, cfg)
	web := ops.chain(t, daemon("web"), 2)
	put(t, s, web[0])
	deny := func(ops ...string) {
		disk.deny = func(op, name string) error {
			for _, o := range ops {
				if o == op {
					return fs.ErrPermission
				}
			}
			return nil
		}
	}
	deny("create")
	if _, _, err := s.Put(t.Context(), web[1].env); err == nil || !strings.Contains(err.Error(), "may not write to /data") || !strings.Contains(err.Error(), "nothing was changed") {
		t.Errorf("error %v", err)
	}
	if err := s.Ratchet(daemon("web"), web[0].rec.Version()); !errors.Is(err, fs.ErrPermission) || !s.Accepted(daemon("web")).IsZero() {
		t.Errorf("ratchet: %v", err)
	}
	deny("read")
	s = open(t, cfg)
	if p := s.Problems(); len(p) != 1 || !strings.Contains(p[0], "cannot be read") || len(s.List("")) != 0 {
		t.Errorf("problems %q", p)
	}
	offer(t, s, web[0])
	if p := s.Problems(); len(p) != 0 {
		t.Errorf("refilled, and still %q", p)
	}
	deny("mkdir")
	if _, err := Open(Config{Dir: "/data", disk: disk}); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "/data") {
		t.Errorf("open: %v", err)
	}
	deny("readdir")
	if _, err := Open(Config{Dir: "/data", disk: disk}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("open: %v", err)
	}
	if _, err := Open(Config{}); err == nil {
		t.Error("a store without a folder is opened")
	}
}

// A damaged file on a disk that became read-only cannot be put aside; the node
// starts all the same.
func TestReadOnlyDisk(t *testing.T) {
	ops := newOperators(t, 1)
	disk := newMemDisk()
	cfg := Config{Trust: ops.trust(), disk: disk}
	web, db := ops.chain(t, daemon("web"), 1), ops.chain(t, daemon("db"), 1)
	put(t, open(t, cfg), append(web, db...)...)
	disk.edit("/data/records/"+recordName(web[0].rec, shortDigits), func(b []byte) []byte { return b[:50] })
	disk.deny = func(op, _ string) error {
		if op == "rename" || op == "create" || op == "remove" {
			return syscall.EROFS
		}
		return nil
	}
	s := open(t, cfg)
	if len(s.List("")) != 1 {
		t.Errorf("%d entries", len(s.List("")))
	}
	if p := s.Problems(); len(p) != 1 || !strings.Contains(p[0], "cannot be put aside") {
		t.Errorf("problems %q", p)
	}
	if _, err := s.Offer(t.Context(), web[0].env); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("error %v", err)
	}
}

func TestDiskFull(t *testing.T) {
	lab.Require(t, "root")
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatalf("mount a small tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	ops := newOperators(t, 1)
	cfg := Config{Dir: dir, Trust: ops.trust()}
	s := open(t, cfg)
	var full error
	var last signed
	var landed []signed
	for i := range 100 {
		last = ops.write(t, record.Entry{}, daemon(fmt.Sprintf("d%d", i)), strings.Repeat("x", 40<<10))
		if _, _, full = s.Put(t.Context(), last.env); full != nil {
			break
		}
		landed = append(landed, last)
	}
	if !errors.Is(full, syscall.ENOSPC) || !strings.Contains(full.Error(), "free some space") {
		t.Fatalf("after %d records of 72 KiB on 1 MiB: %v", len(landed), full)
	}
	root := s.Root()
	s = open(t, cfg)
	if s.Root() != root || len(s.Problems()) > 0 || len(s.List("")) != len(landed) {
		t.Errorf("after a restart: %d of %d records, problems %q", len(s.List("")), len(landed), s.Problems())
	}
	if left, err := filepath.Glob(dir + "/records/*" + tmpSuffix); err != nil || len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=2m"); err != nil {
		t.Fatal(err)
	}
	put(t, s, last)
}
