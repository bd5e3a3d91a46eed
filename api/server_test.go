package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// stub answers everything, and remembers what it was asked.
type stub struct {
	query StatusQuery
	put   []byte
	addrs []string
	err   error
	panic bool
	block chan struct{} // Info waits for it when it is not nil

	logs   func(context.Context, LogQuery, func(LogLine) error) error
	exec   func(context.Context, ExecRequest, ExecStreams) (int, error)
	events func(ctx context.Context, since time.Time, follow bool, emit func(Event) error) error
	names  []string // of restart and prune
}

func (s *stub) Status(_ context.Context, q StatusQuery) (Status, error) {
	s.query = q
	return Status{Schema: Schema, Ring: RingStatus{Name: "prod"}, Daemons: []DaemonStatus{}}, s.err
}
func (s *stub) Nodes(context.Context) (Nodes, error) { return Nodes{Schema: Schema}, s.err }
func (s *stub) Why(_ context.Context, name, node string) (Why, error) {
	return Why{Schema: Schema, Daemon: name, Reason: node}, s.err
}
func (s *stub) Records(_ context.Context, kind string) (Records, error) {
	return Records{Schema: Schema, Ring: kind}, s.err
}
func (s *stub) Record(_ context.Context, kind, name string) (Record, error) {
	return Record{Schema: Schema, Kind: kind, Name: name}, s.err
}
func (s *stub) PutRecord(_ context.Context, _, _ string, envelope []byte) (Accepted, error) {
	s.put = envelope
	return Accepted{Schema: Schema, Changed: true, OnDisk: 3, Wanted: 3}, s.err
}
func (s *stub) Roster(context.Context) (Roster, error) { return Roster{Schema: Schema}, s.err }
func (s *stub) Leave(context.Context) (LeaveReport, error) {
	return LeaveReport{Schema: Schema, Announced: true}, s.err
}
func (s *stub) Rejoin(_ context.Context, addrs []string) error {
	s.addrs = addrs
	return s.err
}
func (s *stub) Info(ctx context.Context) (Info, error) {
	if s.panic {
		panic("boom")
	}
	if s.block != nil {
		select {
		case <-s.block:
		case <-ctx.Done():
			return Info{}, ctx.Err()
		}
	}
	return Info{Schema: Schema, Node: "web-1"}, s.err
}
func (s *stub) Health(context.Context) error { return s.err }
func (s *stub) Metrics(w io.Writer)          { fmt.Fprintln(w, "agentd_up 1") }

// ask sends one request to the handler as c.
func ask(t testing.TB, srv *Server, c caller, method, target, body string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r = r.WithContext(context.WithValue(r.Context(), callerKey{}, c))
	w := httptest.NewRecorder()
	srv.handler(testGID).ServeHTTP(w, r)
	return w
}

const testGID = 4711

var (
	asRoot   = caller{known: true, uid: 0, gid: 0}
	asMember = caller{known: true, uid: 70001, gid: 70001, groups: []int{5, testGID}}
	asOther  = caller{known: true, uid: 70002, gid: 70002, groups: []int{5}}
)

func problemIn(t testing.TB, w *httptest.ResponseRecorder) Problem {
	t.Helper()
	if got := w.Header().Get("Content-Type"); got != problemType {
		t.Fatalf("content type is %q, body %s", got, w.Body)
	}
	var p Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatalf("problem %s: %v", w.Body, err)
	}
	if p.Status != w.Code || p.Title == "" || p.Type == "" {
		t.Fatalf("problem %+v with status %d", p, w.Code)
	}
	return p
}

func TestRights(t *testing.T) {
	const agent, group = 997, 998
	cases := []struct {
		why  string
		who  caller
		gid  int
		want right
	}{
		{"the kernel did not say who it is", caller{}, group, rightNone},
		{"root", caller{known: true, uid: 0, gid: 7}, group, rightAdmin},
		{"the user that agentd runs as", caller{known: true, uid: agent, gid: 7}, group, rightAdmin},
		{"the socket's group is the primary group", caller{known: true, uid: 7, gid: group}, group, rightRead},
		{"the socket's group is a supplementary group", caller{known: true, uid: 7, gid: 7, groups: []int{1, group}}, group, rightRead},
		{"somebody else", caller{known: true, uid: 7, gid: 7, groups: []int{1}}, group, rightNone},
		{"no group may connect", caller{known: true, uid: 7, gid: 0}, -1, rightNone},
	}
	for _, c := range cases {
		if got := c.who.rights(agent, c.gid); got != c.want {
			t.Errorf("%s: rights %d, want %d", c.why, got, c.want)
		}
	}
}

func TestRoutes(t *testing.T) {
	cases := []struct {
		who    caller
		method string
		target string
		body   string
		status int
		detail string // part of the answer
	}{
		{asMember, "GET", "/v1/status?name=a&name=b&node=n&all=1", "", 200, `"name":"prod"`},
		{asMember, "GET", "/v1/nodes", "", 200, `"schema":1`},
		{asMember, "GET", "/v1/why/a?node=n", "", 200, `"reason":"n"`},
		{asMember, "GET", "/v1/records", "", 200, `"ring":""`},
		{asMember, "GET", "/v1/records/daemon", "", 200, `"ring":"daemon"`},
		{asMember, "GET", "/v1/records/control/forget.web-1", "", 200, `"name":"forget.web-1"`},
		{asMember, "PUT", "/v1/records/daemon/a", "{}", 200, `"on_disk":3`},
		{asMember, "GET", "/v1/roster", "", 200, `"schema":1`},
		{asMember, "GET", "/v1/info", "", 200, `"node":"web-1"`},
		{asMember, "GET", "/metrics", "", 200, "agentd_up 1"},
		{asMember, "GET", "/healthz", "", 200, "ok"},
		{asRoot, "POST", "/v1/leave", "", 200, `"announced":true`},
		{asRoot, "POST", "/v1/rejoin", `{"addresses":["a"]}`, 200, `"node":"web-1"`},
		{asRoot, "POST", "/v1/rejoin", "", 200, `"node":"web-1"`},
		{asMember, "GET", "/v1/events?since=2026-01-02T03:04:05Z", "", 200, `"reason":"started"`},
		{asMember, "GET", "/v1/top", "", 200, `"schema":1`},
		{asMember, "GET", "/v1/volumes", "", 200, `"schema":1`},
		{asRoot, "GET", "/v1/logs/a?tail=5&follow=1", "", 200, `"stream":"stdout"`},
		{asRoot, "POST", "/v1/restart/a", "", 200, `"daemon":"a"`},
		{asRoot, "POST", "/v1/volumes/prune", `{"names":["data"]}`, 200, `"schema":1`},
		{asRoot, "POST", "/v1/volumes/prune", "", 200, `"schema":1`},

		// Rights: the group reads, root does; a stranger is told so.
		{asMember, "GET", "/v1/logs/a", "", 403, "only root"},
		{asMember, "POST", "/v1/exec/a", `{"argv":["ls"]}`, 403, "only root"},
		{asMember, "POST", "/v1/restart/a", "", 403, "only root"},
		{asMember, "POST", "/v1/volumes/prune", "", 403, "only root"},
		{asOther, "GET", "/v1/events", "", 403, "may not use"},
		{asMember, "POST", "/v1/leave", "", 403, "only root"},
		{asMember, "POST", "/v1/rejoin", "", 403, "only root"},
		{asOther, "GET", "/v1/status", "", 403, "may not use"},
		{asOther, "PUT", "/v1/records/daemon/a", "{}", 403, "may not use"},
		{caller{}, "GET", "/healthz", "", 403, "may not use"},

		// Misuse.
		{asRoot, "GET", "/v1/status?nme=a", "", 400, `unknown query parameter \"nme\"`},
		{asRoot, "GET", "/v1/status?all=maybe", "", 400, "all=1"},
		{asRoot, "GET", "/v1/records/Daemon/a", "", 400, "not a valid kind"},
		{asRoot, "GET", "/v1/records/daemon/a%2Fb", "", 400, "not a valid name"},
		{asRoot, "GET", "/v1/records/daemon/..%2f..%2fetc", "", 400, "not a valid name"},
		{asRoot, "GET", "/v1/records/daemon/" + strings.Repeat("x", 5000), "", 400, "not a valid name"},
		{asRoot, "PUT", "/v1/records/daemon/a", "", 400, "no body"},
		{asRoot, "PUT", "/v1/records/daemon/a", strings.Repeat("x", maxEnvelope+1), 413, "larger than"},
		{asRoot, "POST", "/v1/rejoin", `{"adresses":[]}`, 400, "adresses"},
		{asRoot, "POST", "/v1/rejoin", `{`, 400, "not valid"},
		{asRoot, "POST", "/v1/rejoin", strings.Repeat(" ", maxBody+1), 413, "larger than"},
		{asRoot, "DELETE", "/v1/records/daemon/a", "", 405, "use GET or PUT"},
		{asRoot, "POST", "/v1/status", "", 405, "use GET"},
		{asRoot, "GET", "/v2/status", "", 404, "/v2/status"},
		{asRoot, "GET", "/", "", 404, "there is no"},
		{asRoot, "GET", "/v1/images", "", 501, "not supported yet"},
		{asRoot, "GET", "/v1/logs/a?tial=5", "", 400, "unknown query"},
		{asRoot, "GET", "/v1/logs/a?tail=-5", "", 400, "tail=100"},
		{asRoot, "GET", "/v1/logs/a?since=yesterday", "", 400, "since=2006"},
		{asRoot, "GET", "/v1/logs/A", "", 400, "not a valid name"},
		{asRoot, "GET", "/v1/events?follow=maybe", "", 400, "follow=1"},
		{asRoot, "POST", "/v1/events", "", 405, "use GET"},
		{asRoot, "POST", "/v1/volumes/prune", `{"names":["../a"]}`, 400, "not the name of a volume"},
		{asRoot, "POST", "/v1/volumes/prune", `{"name":"a"}`, 400, "not valid"},
		{asRoot, "POST", "/v1/exec/a", "", 400, "there is no command"},
		{asRoot, "POST", "/v1/exec/a", `{"argv":["ls"],"cwd":"tmp"}`, 400, "not absolute"},
		{asRoot, "POST", "/v1/exec/a", `{"argv":["ls"],"env":["A"]}`, 400, "KEY=VALUE"},
		{asRoot, "POST", "/v1/exec/a", `{"argv":["ls"],"user":"root"}`, 400, "not UID"},
		{asRoot, "POST", "/v1/exec/a", `{"argv":["ls","a\u0000b"]}`, 400, "zero byte"},
		{asRoot, "POST", "/v1/exec/a", `{"argv":["ls"]}`, 426, "Upgrade"},
	}
	for _, c := range cases {
		name := c.method + " " + c.target[:min(len(c.target), 60)]
		t.Run(name, func(t *testing.T) {
			w := ask(t, NewServer(ServerConfig{Backend: &stub{}, Group: "agentd"}), c.who, c.method, c.target, c.body)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.detail) {
				t.Fatalf("status %d, want %d; body %s, want %q in it", w.Code, c.status, w.Body, c.detail)
			}
			if c.status != 200 {
				problemIn(t, w)
			}
		})
	}
}

func TestMethodNotAllowedNamesTheOthers(t *testing.T) {
	w := ask(t, NewServer(ServerConfig{Backend: &stub{}}), asRoot, "DELETE", "/v1/records/daemon/a", "")
	if got := w.Header().Get("Allow"); got != "GET, PUT" {
		t.Errorf("Allow is %q", got)
	}
}

// What the Backend returns reaches the caller as a complete problem.
func TestBackendErrors(t *testing.T) {
	cases := []struct {
		err    error
		status int
		hint   string
	}{
		{&Problem{Status: 409, Detail: "changed meanwhile", Hint: "look"}, 409, "look"},
		{fmt.Errorf("put: %w", &Problem{Status: 403, Detail: "no"}), 403, ""},
		{errors.New("disk on fire"), 500, ""},
		{fmt.Errorf("ask: %w", context.DeadlineExceeded), 504, ""},
		{&Problem{Status: 42, Detail: "nonsense"}, 500, ""},
	}
	for _, c := range cases {
		w := ask(t, NewServer(ServerConfig{Backend: &stub{err: c.err}}), asRoot, "GET", "/v1/nodes", "")
		p := problemIn(t, w)
		if p.Status != c.status || p.Detail == "" || p.Hint != c.hint {
			t.Errorf("%v: %+v", c.err, p)
		}
	}
	if w := ask(t, NewServer(ServerConfig{Backend: &stub{err: errors.New("containerd is down")}}), asRoot, "GET", "/healthz", ""); w.Code != 503 {
		t.Errorf("sick agent answers %d on /healthz", w.Code)
	}
}

func TestQueryReachesBackend(t *testing.T) {
	b := &stub{}
	ask(t, NewServer(ServerConfig{Backend: b}), asRoot, "GET", "/v1/status?name=a&name=b&node=n&all=1", "")
	if len(b.query.Names) != 2 || b.query.Node != "n" || !b.query.All {
		t.Errorf("query %+v", b.query)
	}
}

// A panic in a handler is an answer, not the end of agentd.
func TestPanicIsAnswered(t *testing.T) {
	w := ask(t, NewServer(ServerConfig{Backend: &stub{panic: true}}), asRoot, "GET", "/v1/info", "")
	if p := problemIn(t, w); p.Status != 500 || !strings.Contains(p.Hint, "bug") {
		t.Errorf("%+v", p)
	}
}

// Beyond maxInFlight requests, further ones are refused at once.
func TestTooManyRequests(t *testing.T) {
	b := &stub{block: make(chan struct{})}
	srv := NewServer(ServerConfig{Backend: b})
	done := make(chan int, maxInFlight)
	for range maxInFlight {
		go func() { done <- ask(t, srv, asRoot, "GET", "/v1/info", "").Code }()
	}
	for len(srv.inFlight) < maxInFlight {
		pause(t)
	}
	if w := ask(t, srv, asRoot, "GET", "/v1/nodes", ""); w.Code != 503 || !strings.Contains(w.Body.String(), "try again") {
		t.Errorf("one too many: %d %s", w.Code, w.Body)
	}
	close(b.block)
	for range maxInFlight {
		if code := <-done; code != 200 {
			t.Errorf("a request within the limit got %d", code)
		}
	}
	if w := ask(t, srv, asRoot, "GET", "/v1/nodes", ""); w.Code != 200 {
		t.Errorf("afterwards: %d", w.Code)
	}
}

func pause(t testing.TB) {
	t.Helper()
	select {
	case <-time.After(time.Millisecond):
	case <-t.Context().Done():
		t.Fatal("the test's time is over")
	}
}

// serve runs a server on a socket in a fresh folder until the test ends.
func serve(t *testing.T, cfg ServerConfig) (socket string, stop func()) {
	t.Helper()
	if cfg.Socket == "" {
		cfg.Socket = filepath.Join(t.TempDir(), "run", "agentd.sock")
	}
	srv := NewServer(cfg)
	if err := srv.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}
	t.Cleanup(stop)
	return cfg.Socket, stop
}

func TestServeAndStop(t *testing.T) {
	socket, stop := serve(t, ServerConfig{Backend: &stub{}})
	info, err := os.Stat(socket)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("socket: %v %v", info.Mode(), err)
	}
	c := NewClient(socket)
	if st, err := c.Status(t.Context(), StatusQuery{Names: []string{"a b", "c&d"}, Node: "n", All: true}); err != nil || st.Ring.Name != "prod" {
		t.Fatalf("status %+v: %v", st, err)
	}
	c.Close()
	stop()
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

// Any request gets an answer that is JSON or plain text with success, or a
// complete problem; nothing panics.
func FuzzHandler(f *testing.F) {
	f.Add("GET", "/v1/status?name=a&all=1", "")
	f.Add("PUT", "/v1/records/daemon/a", "{}")
	f.Add("POST", "/v1/rejoin", `{"addresses":["a",1]}`)
	f.Add("GET", "/v1/records/daemon/%00", "")
	f.Add("BREW", "//v1/../metrics", "")
	f.Fuzz(func(t *testing.T, method, target, body string) {
		r, err := http.NewRequest(method, "http://agentd"+target, strings.NewReader(body))
		if err != nil {
			return // net/http refuses it before the handler does
		}
		r = r.WithContext(context.WithValue(r.Context(), callerKey{}, asRoot))
		w := httptest.NewRecorder()
		NewServer(ServerConfig{Backend: &stub{}}).handler(-1).ServeHTTP(w, r)
		if w.Code >= 400 {
			problemIn(t, w)
		}
	})
}
