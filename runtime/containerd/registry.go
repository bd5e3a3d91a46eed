package containerd

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
)

// registryHosts reads hosts.toml folders and credentials anew for each pull, so
// that a change needs no restart.
func (r *Runtime) registryHosts(ctx context.Context, g *guard) (docker.RegistryHosts, error) {
	auth, err := readAuth(r.cfg.AuthFile)
	if err != nil {
		return nil, err
	}
	opts := config.HostOptions{Credentials: auth.lookup, UpdateClient: g.watch}
	if r.cfg.RegistryDir != "" {
		opts.HostDir = config.HostDirFromRoot(r.cfg.RegistryDir)
	}
	return config.ConfigureHosts(ctx, opts), nil
}

// authFile is the part of docker's config.json that agentd understands. It runs
// no credential helpers: they would be programs started as root by a file.
type authFile struct {
	path  string
	Auths map[string]authEntry `json:"auths"`
	// Named so that their use can be refused with words.
	CredsStore  string            `json:"credsStore"`
	CredHelpers map[string]string `json:"credHelpers"`
}

type authEntry struct {
	Auth          string `json:"auth"`
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
}

// maxAuthFile bounds what is read into memory; such files have a few KiB.
const maxAuthFile = 1 << 20

func readAuth(path string) (*authFile, error) {
	a := &authFile{path: path}
	if path == "" {
		return a, nil
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no registry credentials at %s; see [runtime] auth_file", path)
	}
	if err != nil {
		return nil, fmt.Errorf("read registry credentials: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(io.LimitReader(f, maxAuthFile))
	if err != nil {
		return nil, fmt.Errorf("read registry credentials: %w", err)
	}
	if err := json.Unmarshal(b, a); err != nil {
		return nil, fmt.Errorf("read registry credentials %s: %w", path, err)
	}
	return a, nil
}

// lookup returns user and secret for a registry host; an empty user makes the
// secret an identity token, as containerd has it.
func (a *authFile) lookup(host string) (user, secret string, err error) {
	for _, name := range authNames(host) {
		for key, e := range a.Auths {
			if authHost(key) != name {
				continue
			}
			user, secret, err := e.credentials()
			if err != nil {
				return "", "", fmt.Errorf("registry credentials %s: entry %q: %w", a.path, key, err)
			}
			if secret != "" {
				return user, secret, nil
			}
		}
		helper := a.CredHelpers[name]
		if helper == "" {
			helper = a.CredsStore
		}
		if helper != "" {
			return "", "", fmt.Errorf("registry credentials %s: %s is left to the helper %q, which agentd does not run; put the credentials into the file: docker --config DIR login %s", a.path, name, helper, name)
		}
	}
	return "", "", nil
}

// authNames are the names under which credentials for a host may be kept:
// docker.io answers under three.
func authNames(host string) []string {
	if host == "docker.io" || host == "registry-1.docker.io" || host == "index.docker.io" {
		return []string{"index.docker.io", "docker.io", "registry-1.docker.io"}
	}
	return []string{host}
}

// authHost is the host of a key, which may be a URL or have a path.
func authHost(key string) string {
	if _, rest, ok := strings.Cut(key, "://"); ok {
		key = rest
	}
	host, _, _ := strings.Cut(key, "/")
	return host
}

func (e authEntry) credentials() (user, secret string, err error) {
	if e.IdentityToken != "" {
		return "", e.IdentityToken, nil
	}
	if e.Auth == "" {
		return e.Username, e.Password, nil
	}
	b, err := base64.StdEncoding.DecodeString(e.Auth)
	if err != nil {
		return "", "", errors.New("auth is not base64")
	}
	user, secret, ok := strings.Cut(string(b), ":")
	if !ok {
		return "", "", errors.New("auth is not user:password")
	}
	return user, strings.TrimRight(secret, "\x00"), nil
}

// guard ends a request whose registry sends nothing for too long: no limit on
// the whole pull fits both a small image and a slow line.
type guard struct {
	limit   time.Duration
	meter   *meter
	stalled atomic.Bool
}

func newGuard(limit time.Duration, m *meter) *guard { return &guard{limit: limit, meter: m} }

// watch is a config.UpdateClientFunc.
func (g *guard) watch(c *http.Client) error {
	if _, ok := c.Transport.(*watched); !ok {
		c.Transport = &watched{guard: g, next: c.Transport}
	}
	return nil
}

// explain says that it was the guard who ended it, instead of "canceled".
func (g *guard) explain(err error) error {
	if err != nil && g.stalled.Load() {
		return fmt.Errorf("the registry sent nothing for %v: %w", g.limit, err)
	}
	return err
}

type watched struct {
	guard *guard
	next  http.RoundTripper
}

func (w *watched) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(req.Context())
	timer := time.AfterFunc(w.guard.limit, func() {
		w.guard.stalled.Store(true)
		cancel()
	})
	resp, err := w.next.RoundTrip(req.WithContext(ctx))
	timer.Stop()
	if err != nil {
		cancel()
		return nil, err
	}
	resp.Body = &watchedBody{ReadCloser: resp.Body, guard: w.guard, timer: timer, cancel: cancel}
	return resp, nil
}

type watchedBody struct {
	io.ReadCloser
	guard  *guard
	timer  *time.Timer
	cancel context.CancelFunc
}

func (b *watchedBody) Read(p []byte) (int, error) {
	// Time counts only while we wait for the registry: a reader that is busy
	// with what it got is not the registry's fault.
	b.timer.Reset(b.guard.limit)
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	b.guard.meter.add(int64(n))
	return n, err
}

func (b *watchedBody) Close() error {
	b.timer.Stop()
	err := b.ReadCloser.Close()
	b.cancel()
	return err
}
