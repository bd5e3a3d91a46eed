package supervise

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentd/agentd/runtime/fake"
	"github.com/agentd/agentd/spec"
)

func TestFilesAndVolumes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{})
		defer r.end()
		withFile := func(content string) func(*spec.Daemon) {
			return func(d *spec.Daemon) {
				d.Files = []spec.File{{Target: "/etc/app.conf", Content: content, Mode: "0440"}}
				d.Mounts = []spec.Mount{{Volume: "data", Target: "/data"}}
				d.User = "65534:65533"
			}
		}
		r.set(want("web", 1, withFile("one")))
		r.is("web", Running)
		s, _ := r.rt.Spec("web")
		var file, volume string
		for _, m := range s.Mounts {
			switch m.Target {
			case "/etc/app.conf":
				file = m.Source
			case "/data":
				volume = m.Source
			}
		}
		check := func(content string) {
			t.Helper()
			b, err := os.ReadFile(file)
			info, _ := os.Stat(file)
			if err != nil || string(b) != content || info.Mode().Perm() != 0o440 {
				t.Fatalf("file holds %q, %v, %v", b, err, info)
			}
		}
		check("one")
		if volume != filepath.Join(r.dir, "volumes", "data") {
			t.Fatalf("volume at %q", volume)
		}
		if err := os.WriteFile(filepath.Join(volume, "precious"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		old := file
		r.set(want("web", 2, withFile("two")))
		r.after(time.Second)
		s, _ = r.rt.Spec("web")
		file = s.Mounts[1].Source
		check("two")
		if _, err := os.Stat(old); err == nil || file == old {
			t.Fatalf("the old revision's file is left at %s", old)
		}
		r.set(gone("web", 3))
		r.after(time.Second)
		if left, _ := filepath.Glob(filepath.Join(r.dir, "files", "*")); len(left) != 0 {
			t.Fatalf("left are %v", left)
		}
		if _, err := os.Stat(filepath.Join(volume, "precious")); err != nil {
			t.Fatal("a volume was removed with its daemon")
		}
	})
}

// A source that is not there is found before the old container is stopped.
func TestMissingMountSource(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{})
		defer r.end()
		r.set(want("web", 1))
		before := r.is("web", Running)
		src := filepath.Join(r.dir, "later")
		r.set(want("web", 2, func(d *spec.Daemon) { d.Mounts = []spec.Mount{{Source: src, Target: "/x"}} }))
		r.after(time.Second / 2)
		rep := r.is("web", Running)
		if rep.PID != before.PID || !strings.Contains(rep.Reason, "does not exist on this node") {
			t.Fatalf("report %+v", rep)
		}
		if err := os.Mkdir(src, 0o755); err != nil {
			t.Fatal(err)
		}
		r.after(time.Minute)
		if rep := r.is("web", Running); rep.Revision != 2 {
			t.Fatalf("report %+v", rep)
		}
	})
}

// The image's tag was resolved by whoever accepted the record; where that
// digest can't be had, the tag's own is better than nothing, and said.
func TestImageHint(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{Images: map[string]string{"web:v1": "sha256:here"}})
		defer r.end()
		d := want("web", 1)
		d.ImageDigest = "sha256:elsewhere"
		r.set(d)
		r.after(time.Second)
		rep := r.is("web", Running)
		if rep.ImageDigest != "sha256:here" || !strings.Contains(strings.Join(rep.Reasons, "; "), "the ring expects") {
			t.Fatalf("report %+v", rep)
		}
	})
}

func TestLogFilesAreRotated(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var mu sync.Mutex
		var got []string
		r := newRig(t, fake.Config{}, func(c *Config) {
			c.LogMaxSize, c.LogMaxFiles = 10, 3
			c.Rotate = func(path string, size int64, files int) error {
				mu.Lock()
				defer mu.Unlock()
				got = append(got, fmt.Sprint(filepath.Base(path), size, files))
				return nil
			}
		})
		defer r.end()
		r.set(want("web", 1), want("none", 1, func(d *spec.Daemon) { d.Nodes = []string{"n2"} }))
		r.after(rotateEvery + time.Second)
		mu.Lock()
		defer mu.Unlock()
		if len(got) != 1 || got[0] != "web.log10 3" {
			t.Fatalf("rotated %q", got)
		}
	})
}
