package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// route is one method and path of the API.
type route struct {
	pattern string        // of http.ServeMux
	right   right         // that it needs
	timeout time.Duration // of the whole request; 0: a stream that goes on until one side ends it
	query   []string      // parameters that it takes; any other is an error
	serve   func(w http.ResponseWriter, r *http.Request) error
}

// routes lists the whole API.
func (s *Server) routes() []route {
	b := s.cfg.Backend
	return []route{
		{"GET /healthz", rightRead, readTime, nil, s.getHealth},
		{"GET /metrics", rightRead, readTime, nil, s.getMetrics},
		{"GET /v1/info", rightRead, readTime, nil, answer(func(r *http.Request) (any, error) {
			return b.Info(r.Context())
		})},
		{"GET /v1/status", rightRead, readTime, []string{"name", "node", "all"}, s.getStatus},
		{"GET /v1/nodes", rightRead, readTime, nil, answer(func(r *http.Request) (any, error) {
			return b.Nodes(r.Context())
		})},
		{"GET /v1/why/{name}", rightRead, readTime, []string{"node"}, s.getWhy},
		{"GET /v1/rollouts/{name}", rightRead, readTime, nil, s.getRollout},
		{"GET /v1/history/{name}", rightRead, readTime, nil, s.getHistory},
		{"GET /v1/roster", rightRead, readTime, nil, answer(func(r *http.Request) (any, error) {
			return b.Roster(r.Context())
		})},
		{"GET /v1/records", rightRead, readTime, nil, answer(func(r *http.Request) (any, error) {
			return b.Records(r.Context(), "")
		})},
		{"GET /v1/records/{kind}", rightRead, readTime, nil, s.getRecords},
		{"GET /v1/records/{kind}/{name}", rightRead, readTime, nil, s.getRecord},
		{"PUT /v1/records/{kind}/{name}", rightRead, putTime, nil, s.putRecord},
		{"POST /v1/leave", rightAdmin, leaveTime, nil, answer(func(r *http.Request) (any, error) {
			return b.Leave(r.Context())
		})},
		{"POST /v1/rejoin", rightAdmin, putTime, nil, s.postRejoin},
		{"GET /v1/events", rightRead, 0, []string{"follow", "since"}, s.getEvents},
		{"GET /v1/top", rightRead, readTime, nil, answer(func(r *http.Request) (any, error) {
			return b.Top(r.Context())
		})},
		{"GET /v1/volumes", rightRead, readTime, nil, answer(func(r *http.Request) (any, error) {
			return b.Volumes(r.Context())
		})},
		{"POST /v1/volumes/prune", rightAdmin, pruneTime, nil, s.postPrune},
		{"GET /v1/logs/{name}", rightAdmin, 0, []string{"follow", "tail", "since"}, s.getLogs},
		{"POST /v1/exec/{name}", rightAdmin, 0, nil, s.postExec},
		{"POST /v1/restart/{name}", rightAdmin, leaveTime, nil, s.postRestart},
		{"GET /v1/reach", rightRead, readTime, nil, answer(func(r *http.Request) (any, error) {
			return b.Reach(r.Context())
		})},
		{"POST /v1/reload", rightAdmin, putTime, nil, answer(func(r *http.Request) (any, error) {
			return b.Reload(r.Context())
		})},
		{"/v1/images", rightRead, readTime, nil, notSupported},
		{"/v1/images/{rest...}", rightRead, readTime, nil, notSupported},
	}
}

// handler routes requests; socketGID is the group that may read, or -1.
func (s *Server) handler(socketGID int) http.Handler {
	mux := http.NewServeMux()
	self := os.Geteuid()
	for _, rt := range s.routes() {
		slots := s.inFlight
		if rt.timeout == 0 {
			slots = s.streaming
		}
		mux.HandleFunc(rt.pattern, s.limited(slots, func(w http.ResponseWriter, r *http.Request) error {
			return s.serve(rt, callerOf(r.Context()).rights(self, socketGID), w, r)
		}))
	}
	mux.HandleFunc("/", s.limited(s.inFlight, func(w http.ResponseWriter, r *http.Request) error {
		return noRoute(mux, w, r)
	}))
	return mux
}

// limited serves as long as there are slots, and survives a panic.
func (s *Server) limited(slots chan struct{}, serve func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			s.fail(w, r, &Problem{Status: http.StatusServiceUnavailable,
				Detail: "agentd is answering too many requests at once", Hint: "try again in a moment"})
			return
		}
		defer s.recoverPanic(w, r)
		if err := serve(w, r); err != nil {
			s.fail(w, r, err)
		}
	}
}

// serve checks what every route has in common, then serves.
func (s *Server) serve(rt route, has right, w http.ResponseWriter, r *http.Request) error {
	if has < rt.right {
		return forbidden(rt.right, s.cfg.Group)
	}
	for key := range r.URL.Query() {
		if !slices.Contains(rt.query, key) {
			return &Problem{Status: http.StatusBadRequest, Detail: fmt.Sprintf("unknown query parameter %q", key),
				Hint: "known here: " + orNone(rt.query)}
		}
	}
	for _, v := range []string{"kind", "name"} {
		if err := validPart(v, r.PathValue(v)); err != nil {
			return err
		}
	}
	if rt.timeout == 0 {
		ctx, cancel := streamContext(r.Context())
		defer cancel()
		return rt.serve(w, r.WithContext(ctx))
	}
	// The connection's deadline is a little later, so that the answer to a
	// request that ran out of time can still be sent.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(rt.timeout + headerTime))
	ctx, cancel := context.WithTimeout(r.Context(), rt.timeout)
	defer cancel()
	return rt.serve(w, r.WithContext(ctx))
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

func forbidden(need right, group string) *Problem {
	p := &Problem{Status: http.StatusForbidden, Detail: "you may not use agentd's socket", Hint: "try again with sudo"}
	if need == rightAdmin {
		p.Detail = "only root may do this on this node"
	} else if group != "" {
		p.Hint += fmt.Sprintf(", or add yourself to group %s", group)
	}
	return p
}

// validPart checks a kind or name of the path; "" means that the route has none.
func validPart(part, v string) error {
	if v == "" {
		return nil
	}
	ok := false
	switch part {
	case "kind":
		ok = ValidKind(v)
	default:
		ok = ValidName(v)
	}
	if ok {
		return nil
	}
	if len(v) > 80 {
		v = v[:80] + "…"
	}
	return &Problem{Status: http.StatusBadRequest, Detail: fmt.Sprintf("%q is not a valid %s", v, part),
		Hint: "names have 1 to 63 of a-z, 0-9, \"-\", \".\" and \"_\", and start and end with a letter or digit"}
}

// ValidKind reports whether s can be the kind of a record.
func ValidKind(s string) bool {
	return len(s) >= 1 && len(s) <= 16 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz") == ""
}

// ValidName reports whether s can be the name of a record.
func ValidName(s string) bool {
	if len(s) < 1 || len(s) > 63 {
		return false
	}
	alnum := func(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }
	for i := range len(s) {
		if !alnum(s[i]) && s[i] != '-' && s[i] != '.' && s[i] != '_' {
			return false
		}
	}
	return alnum(s[0]) && alnum(s[len(s)-1])
}

// answer serves what f returns as JSON.
func answer(f func(r *http.Request) (any, error)) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		v, err := f(r)
		if err != nil {
			return err
		}
		return sendJSON(w, v)
	}
}

func sendJSON(w http.ResponseWriter, v any) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(buf.Bytes()) // a caller that went away is no news
	return nil
}

func (s *Server) getHealth(w http.ResponseWriter, r *http.Request) error {
	if err := s.cfg.Backend.Health(r.Context()); err != nil {
		return &Problem{Status: http.StatusServiceUnavailable, Detail: err.Error(), Hint: "see: agentctl status"}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "ok\n")
	return nil
}

func (s *Server) getMetrics(w http.ResponseWriter, _ *http.Request) error {
	var buf bytes.Buffer
	s.cfg.Backend.Metrics(&buf)
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(buf.Bytes())
	return nil
}

func (s *Server) getStatus(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	all, err := flagOf(q, "all")
	if err != nil {
		return err
	}
	query := StatusQuery{Names: q["name"], Node: q.Get("node"), All: all}
	st, err := s.cfg.Backend.Status(r.Context(), query)
	if err != nil {
		return err
	}
	return sendJSON(w, st)
}

func (s *Server) getWhy(w http.ResponseWriter, r *http.Request) error {
	why, err := s.cfg.Backend.Why(r.Context(), r.PathValue("name"), r.URL.Query().Get("node"))
	if err != nil {
		return err
	}
	return sendJSON(w, why)
}

func (s *Server) getRecords(w http.ResponseWriter, r *http.Request) error {
	recs, err := s.cfg.Backend.Records(r.Context(), r.PathValue("kind"))
	if err != nil {
		return err
	}
	return sendJSON(w, recs)
}

func (s *Server) getRecord(w http.ResponseWriter, r *http.Request) error {
	rec, err := s.cfg.Backend.Record(r.Context(), r.PathValue("kind"), r.PathValue("name"))
	if err != nil {
		return err
	}
	return sendJSON(w, rec)
}

func (s *Server) putRecord(w http.ResponseWriter, r *http.Request) error {
	envelope, err := readBody(w, r, maxEnvelope)
	if err != nil {
		return err
	}
	if len(envelope) == 0 {
		return &Problem{Status: http.StatusBadRequest, Detail: "the request has no body", Hint: "send the signed envelope"}
	}
	acc, err := s.cfg.Backend.PutRecord(r.Context(), r.PathValue("kind"), r.PathValue("name"), envelope)
	if err != nil {
		return err
	}
	return sendJSON(w, acc)
}

func (s *Server) postRejoin(w http.ResponseWriter, r *http.Request) error {
	var req RejoinRequest
	if err := readRequest(w, r, &req); err != nil {
		return err
	}
	if err := s.cfg.Backend.Rejoin(r.Context(), req.Addresses); err != nil {
		return err
	}
	info, err := s.cfg.Backend.Info(r.Context())
	if err != nil {
		return err
	}
	return sendJSON(w, info)
}

func (s *Server) postRestart(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	if err := s.cfg.Backend.Restart(r.Context(), name); err != nil {
		return err
	}
	info, err := s.cfg.Backend.Info(r.Context())
	if err != nil {
		return err
	}
	return sendJSON(w, Restarted{Schema: Schema, Node: info.Node, Daemon: name})
}

func (s *Server) postPrune(w http.ResponseWriter, r *http.Request) error {
	var req PruneRequest
	if err := readRequest(w, r, &req); err != nil {
		return err
	}
	for _, name := range req.Names {
		if err := validPart("name", name); err != nil || name == "" {
			return &Problem{Status: http.StatusBadRequest, Detail: fmt.Sprintf("%.80q is not the name of a volume", name)}
		}
	}
	pruned, err := s.cfg.Backend.PruneVolumes(r.Context(), req.Names)
	if err != nil {
		return err
	}
	return sendJSON(w, pruned)
}

func notSupported(http.ResponseWriter, *http.Request) error {
	return &Problem{Status: http.StatusNotImplemented, Detail: "not supported yet"}
}

func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, &Problem{Status: http.StatusRequestEntityTooLarge,
			Detail: fmt.Sprintf("the request's body is larger than %d bytes", limit)}
	case err != nil:
		return nil, &Problem{Status: http.StatusBadRequest, Detail: "read the request: " + err.Error()}
	}
	return body, nil
}

// recoverPanic answers 500 when a handler panicked, and keeps agentd alive.
func (s *Server) recoverPanic(w http.ResponseWriter, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	s.fail(w, r, s.panicked(r.Method, r.URL.Path, v))
}

// panicked logs a panic and returns what the caller is told.
func (s *Server) panicked(method, path string, v any) *Problem {
	s.log.Error("request panicked", "method", method, "path", path, "err", fmt.Sprint(v), "stack", string(debug.Stack()))
	return &Problem{Status: http.StatusInternalServerError, Detail: "agentd made an error while it answered",
		Hint: "this is a bug; agentd's log has the details"}
}

// readRequest reads a request's JSON; an empty body leaves v as it is.
func readRequest(w http.ResponseWriter, r *http.Request, v any) error {
	body, err := readBody(w, r, maxBody)
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return &Problem{Status: http.StatusBadRequest, Detail: "the request's body is not valid: " + err.Error()}
	}
	return nil
}
