package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"
)

// problemType is the media type of RFC 9457.
const problemType = "application/problem+json"

// fail sends err as a problem document.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(err)
	if p.Status >= http.StatusInternalServerError && p.Status != http.StatusNotImplemented {
		s.log.Debug("request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	body, err := json.Marshal(p)
	if err != nil {
		body = []byte(`{"type":"about:blank","title":"Internal Server Error","status":500}`)
	}
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(body, '\n'))
}

// problemOf makes a complete problem of any error.
func problemOf(err error) *Problem {
	p := &Problem{Status: http.StatusInternalServerError, Detail: err.Error()}
	var given *Problem
	switch {
	case errors.As(err, &given):
		c := *given
		p = &c
	case errors.Is(err, context.DeadlineExceeded):
		p.Status = http.StatusGatewayTimeout
	case errors.Is(err, context.Canceled):
		p.Status = http.StatusServiceUnavailable
	}
	if p.Status < 400 || p.Status > 599 {
		p.Status = http.StatusInternalServerError
	}
	if p.Type == "" {
		p.Type = "about:blank"
	}
	if p.Title == "" {
		p.Title = http.StatusText(p.Status)
	}
	return p
}

// noRoute tells an unknown path from a known one with the wrong method.
func noRoute(mux *http.ServeMux, w http.ResponseWriter, r *http.Request) *Problem {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := mux.Handler(other); pattern != "/" {
			allowed = append(allowed, method)
		}
	}
	path := r.URL.Path
	if len(path) > 200 {
		path = path[:200] + "…"
	}
	if len(allowed) == 0 {
		return &Problem{Status: http.StatusNotFound, Detail: fmt.Sprintf("there is no %q", path), Hint: "see docs/api.md"}
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	return &Problem{Status: http.StatusMethodNotAllowed,
		Detail: fmt.Sprintf("%s does not take %s", path, r.Method), Hint: "use " + strings.Join(allowed, " or ")}
}

// decodeProblem makes a Problem of an answer that is not a success, whoever
// may have written it.
func decodeProblem(status int, contentType string, body []byte) *Problem {
	p := &Problem{}
	media, _, _ := mime.ParseMediaType(contentType)
	if media != problemType || json.Unmarshal(body, p) != nil {
		*p = Problem{Detail: fmt.Sprintf("agentd answered with status %d: %s", status, firstLine(body, 200))}
	}
	p.Status = status
	if p.Title == "" {
		p.Title = http.StatusText(status)
	}
	if p.Detail == "" && p.Title == "" {
		p.Detail = fmt.Sprintf("agentd answered with status %d", status)
	}
	return p
}

// firstLine returns the first line of b, printable, at most n bytes.
func firstLine(b []byte, n int) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(b[:min(len(b), n)])), "\n")
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, line)
}
