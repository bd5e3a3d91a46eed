package containerd

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/runtime/runtimetest"
)

// reg is a registry in this process that tests can spoil.
type reg struct {
	*httptest.Server
	host  string
	count atomic.Int64                                                  // requests
	spoil atomic.Pointer[func(http.ResponseWriter, *http.Request) bool] // true: it answered
}

func newReg(t *testing.T, e *env) *reg {
	t.Helper()
	inner := registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, 0)))
	r := &reg{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.count.Add(1)
		if f := r.spoil.Load(); f != nil && (*f)(w, req) {
			return
		}
		inner.ServeHTTP(w, req)
	}))
	t.Cleanup(r.Close)
	r.host = strings.TrimPrefix(r.URL, "http://")
	e.hosts(t, "reg.test", r.URL)
	return r
}

func (r *reg) spoiled(f func(http.ResponseWriter, *http.Request) bool) { r.spoil.Store(&f) }

func (r *reg) push(t *testing.T, repo string, img v1.Image) {
	t.Helper()
	ref, err := name.ParseReference(r.host+"/"+repo, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img, remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
}

func (e *env) pull(t *testing.T, p runtime.Pull) string {
	t.Helper()
	d, err := e.r.Pull(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// "missing" is satisfied with what is here; "always" asks, and follows a tag
// that moved; a digest decides over both.
func TestPullPolicies(t *testing.T) {
	e := newEnv(t)
	r := newReg(t, e)
	one, two := shared.images[1], shared.images[2]
	r.push(t, "app:1", one.Image)
	const ref = "reg.test/app:1"
	var done, total int64
	if d := e.pull(t, runtime.Pull{Ref: ref, Policy: "missing", Progress: func(d, n int64) { done, total = d, n }}); d != one.Digest {
		t.Fatalf("pulled %s, want %s", d, one.Digest)
	}
	if done == 0 || done != total {
		t.Errorf("progress ended at %d of %d", done, total)
	}
	r.push(t, "app:1", two.Image)
	before := r.count.Load()
	if d := e.pull(t, runtime.Pull{Ref: ref, Policy: "missing"}); d != one.Digest {
		t.Fatalf("missing pulled %s though %s was here", d, one.Digest)
	}
	if d := e.pull(t, runtime.Pull{Ref: ref, Digest: one.Digest, Policy: "always"}); d != one.Digest {
		t.Fatalf("pinned: %s", d)
	}
	if n := r.count.Load() - before; n != 0 {
		t.Errorf("%d requests for what was here", n)
	}
	if d := e.pull(t, runtime.Pull{Ref: ref, Policy: "always"}); d != two.Digest {
		t.Fatalf("always kept %s though the tag moved", d)
	}
	if d := e.pull(t, runtime.Pull{Ref: ref, Policy: "missing"}); d != two.Digest {
		t.Fatalf("after it the tag means %s here, want %s", d, two.Digest)
	}
	if d := e.pull(t, runtime.Pull{Ref: "reg.test/app@" + one.Digest, Policy: "never"}); d != one.Digest {
		t.Fatalf("by digest: %s", d)
	}
	if _, err := e.r.Pull(t.Context(), runtime.Pull{Ref: "reg.test/app@" + one.Digest, Digest: two.Digest}); !errors.Is(err, runtime.ErrImage) {
		t.Fatalf("two digests: %v", err)
	}
	if leases, err := e.r.client.LeasesService().List(t.Context()); err != nil || len(leases) != 0 {
		t.Errorf("leases left: %v, %v", leases, err)
	}
}

// The digest of a multi-platform image is its index's, on every node the same.
func TestPullIndex(t *testing.T) {
	e := newEnv(t)
	r := newReg(t, e)
	mine := shared.images[1].Image
	config, err := mine.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{
		Add: mine, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: config.Architecture}},
	}, mutate.IndexAddendum{
		Add: empty.Image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "s390x"}},
	})
	ref, err := name.ParseReference(r.host+"/multi:1", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(ref, index); err != nil {
		t.Fatal(err)
	}
	want, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if d := e.pull(t, runtime.Pull{Ref: "reg.test/multi:1"}); d != want.String() {
		t.Fatalf("pulled %s, want the index %s", d, want)
	}
	s := e.Spec("multi", runtimetest.Program{})
	s.Image, s.Digest = "reg.test/multi:1", want.String()
	e.run(t, s)
}

// What a registry says reaches the user.
func TestPullErrors(t *testing.T) {
	e := newEnv(t)
	r := newReg(t, e)
	r.push(t, "app:1", shared.images[1].Image)
	pull := func(ref string) error {
		_, err := e.r.Pull(t.Context(), runtime.Pull{Ref: ref})
		if !errors.Is(err, runtime.ErrImage) {
			t.Errorf("pull %s: %v is not ErrImage", ref, err)
		}
		if err == nil {
			return errors.New("none")
		}
		return err
	}
	for what, c := range map[string]struct {
		code int
		body string
		want []string
	}{
		"denied":     {http.StatusForbidden, `{"errors":[{"code":"DENIED","message":"you are not invited"}]}`, []string{"403", "DENIED: you are not invited"}},
		"too many":   {http.StatusTooManyRequests, `{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}`, []string{"429"}},
		"plain text": {http.StatusInternalServerError, "the disk is on fire", []string{"500"}},
	} {
		r.spoiled(func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(c.code)
			fmt.Fprint(w, c.body)
			return true
		})
		err := pull("reg.test/app:1")
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v lacks %q", what, err, w)
			}
		}
	}
	r.spoil.Store(nil)
	if err := pull("reg.test/app:2"); !strings.Contains(err.Error(), "not found") {
		t.Errorf("unknown tag: %v", err)
	}
	if err := pull("reg.test/app@sha256:" + strings.Repeat("0", 64)); !strings.Contains(err.Error(), "not found") {
		t.Errorf("unknown digest: %v", err)
	}
	e.hosts(t, "gone.test", "http://127.0.0.1:1")
	if err := pull("gone.test/app:1"); !strings.Contains(err.Error(), "refused") {
		t.Errorf("nobody listens: %v", err)
	}
}

// A registry that falls silent in the middle is given up, and the next pull
// goes on.
func TestPullStall(t *testing.T) {
	e := newEnv(t)
	r := newReg(t, e)
	// With content that no other namespace of this containerd has yet: they
	// share what was fetched.
	layer, err := random.Layer(100_000, types.OCILayer)
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(shared.images[1].Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	want, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	r.push(t, "app:1", img)
	e.cfg.PullStall = 300 * time.Millisecond
	e.r = e.open(t)
	silent := make(chan struct{})
	r.spoiled(func(w http.ResponseWriter, req *http.Request) bool {
		if !strings.Contains(req.URL.Path, "/blobs/") {
			return false
		}
		w.Header().Set("Content-Length", "1000000")
		fmt.Fprint(w, "a few bytes")
		w.(http.Flusher).Flush()
		select {
		case <-silent:
		case <-req.Context().Done():
		}
		return true
	})
	start := time.Now()
	_, err = e.r.Pull(t.Context(), runtime.Pull{Ref: "reg.test/app:1"})
	close(silent)
	if !errors.Is(err, runtime.ErrImage) || !strings.Contains(err.Error(), "sent nothing for 300ms") {
		t.Fatalf("stalled pull: %v", err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Fatalf("took %v", took)
	}
	r.spoil.Store(nil)
	if d := e.pull(t, runtime.Pull{Ref: "reg.test/app:1"}); d != want.String() {
		t.Fatal(d)
	}
}

// Credentials come from docker's file; helpers are refused with words.
func TestPullAuth(t *testing.T) {
	e := newEnv(t)
	r := newReg(t, e)
	r.push(t, "app:1", shared.images[1].Image)
	r.spoiled(func(w http.ResponseWriter, req *http.Request) bool {
		user, secret, _ := req.BasicAuth()
		if user == "fred" && secret == "hunter:2" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}`)
		return true
	})
	e.cfg.AuthFile = filepath.Join(e.dir, "config.json")
	e.r = e.open(t)
	try := func(file string) error {
		t.Helper()
		if err := os.WriteFile(e.cfg.AuthFile, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := e.r.Pull(t.Context(), runtime.Pull{Ref: "reg.test/app:1", Policy: "always"})
		return err
	}
	auth := base64.StdEncoding.EncodeToString([]byte("fred:hunter:2"))
	wrong := base64.StdEncoding.EncodeToString([]byte("fred:hunter3"))
	for file, want := range map[string]string{
		`{}`: "no basic auth credentials",
		`{"auths":{"` + r.host + `":{"auth":"` + wrong + `"}}}`: "401",
		`{"credsStore":"desktop"}`:                              "desktop",
		`{"auths":`:                                             "config.json",
		`{"auths":{"` + r.host + `":{"auth":"%%%"}}}`:           "not base64",
	} {
		if err := try(file); !errors.Is(err, runtime.ErrImage) || !strings.Contains(err.Error(), want) {
			t.Errorf("with %s: %v, want it to say %q", file, err, want)
		}
	}
	if err := try(`{"auths":{"http://` + r.host + `/v1/":{"auth":"` + auth + `"}}}`); err != nil {
		t.Errorf("with credentials: %v", err)
	}
	if err := os.Remove(e.cfg.AuthFile); err != nil {
		t.Fatal(err)
	}
	_, err := e.r.Pull(t.Context(), runtime.Pull{Ref: "reg.test/app:2"})
	if err == nil || !strings.Contains(err.Error(), "auth_file") {
		t.Errorf("without the file: %v", err)
	}
}

func TestAuthNames(t *testing.T) {
	a := &authFile{Auths: map[string]authEntry{
		"https://index.docker.io/v1/": {Username: "hub", Password: "a"},
		"quay.io":                     {IdentityToken: "tok"},
		"http://reg:5000/v2/":         {Username: "u", Password: "p"},
	}}
	for host, want := range map[string]string{
		"registry-1.docker.io": "hub/a", "docker.io": "hub/a", "quay.io": "/tok", "reg:5000": "u/p", "reg": "/", "io": "/",
	} {
		user, secret, err := a.lookup(host)
		if err != nil || user+"/"+secret != want {
			t.Errorf("%s: %s/%s, %v; want %s", host, user, secret, err, want)
		}
	}
}

func TestParseRef(t *testing.T) {
	d := "sha256:" + strings.Repeat("a", 64)
	for _, c := range []struct {
		ref, digest       string
		repo, tag, pinned string
		first             string
	}{
		{"busybox", "", "docker.io/library/busybox", "latest", "", "docker.io/library/busybox:latest"},
		{"a.test/b:1", "", "a.test/b", "1", "", "a.test/b:1"},
		{"a.test/b:1", d, "a.test/b", "1", d, "a.test/b:1"},
		{"a.test/b:1@" + d, "", "a.test/b", "1", d, "a.test/b:1"},
		{"a.test/b@" + d, "", "a.test/b", "", d, "a.test/b@" + d},
	} {
		got, err := parseRef(c.ref, c.digest)
		if err != nil || got.repo != c.repo || got.tag != c.tag || got.pin.String() != c.pinned || got.names[0] != c.first {
			t.Errorf("%s, %s: %+v, %v", c.ref, c.digest, got, err)
		}
	}
	for _, bad := range []string{"", "A B", "a.test/b:1@sha256:12", "a.test/b:" + strings.Repeat("x", 200)} {
		if _, err := parseRef(bad, ""); !errors.Is(err, runtime.ErrImage) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
