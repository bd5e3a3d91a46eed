package peer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/agentd/agentd/gossip"
)

// ServerConfig makes a Server.
type ServerConfig struct {
	Bind      string // HOST:PORT
	Version   string // of agentd, told to peers
	Identity  *Identity
	Authority *Authority
	Bindings  *Bindings
	Source    gossip.Source
	Book      Statements
	Limits    Limits
	Log       *slog.Logger
	// Mirror tells how a peer looks from here, and tries to reach it; optional.
	Mirror func(ctx context.Context, p Peer) Mirror
}

// Server answers the other nodes of the ring.
type Server struct {
	cfg      ServerConfig
	listener *listener
	http     *http.Server
	requests *gate
	pushes   chan struct{} // a place for each record being written
	serving  sync.WaitGroup
}

// shutdownGrace is how long requests under way may take to end when the server
// stops: they are short, and peers ask somebody else.
const shutdownGrace = 2 * time.Second

// NewServer opens the socket. An error says what to do about it. Callers that
// connect before Run wait.
func NewServer(cfg ServerConfig) (*Server, error) {
	switch {
	case cfg.Identity == nil, cfg.Authority == nil, cfg.Bindings == nil:
		return nil, errors.New("peer server: no identity, authority or bindings")
	case cfg.Source == nil, cfg.Book == nil:
		return nil, errors.New("peer server: no source or book")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	limits := cfg.Limits.withDefaults()
	creds, err := newCredentials(cfg.Authority, cfg.Identity)
	if err != nil {
		return nil, err
	}
	raw, err := bind(cfg.Bind)
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg,
		listener: &listener{
			raw:      raw,
			creds:    creds,
			gate:     newGate(limits.Conns, limits.ConnsPerIP, limits.Conns),
			log:      cfg.Log,
			quiet:    &seldom{pause: 10 * time.Minute},
			patience: dialTimeout,
			ready:    make(chan *conn),
			stopped:  make(chan struct{}),
		},
		requests: newGate(limits.Requests, limits.RequestsPerIP, limits.RequestsPerID),
		pushes:   make(chan struct{}, limits.Pushes),
	}
	var plain http.Protocols
	plain.SetHTTP1(true) // TLS is the listener's
	s.http = &http.Server{
		Handler:           s.handler(),
		Protocols:         &plain,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       bodyTimeout,
		WriteTimeout:      bodyTimeout + callTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelWarn), // panics; all else is handled before,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
	}
	return s, nil
}

// Addr returns the address that the server listens on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Close gives the socket back of a server that is not going to Run.
func (s *Server) Close() error { return s.listener.Close() }

// Run serves until ctx ends, and keeps the Bindings on disk meanwhile. It
// returns nil then, after everything that it started has ended; a record that
// is just being written may make that take 10 s.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	all.Go(func() { _ = s.cfg.Bindings.Run(ctx) }) // logs its failures, and tells them as Problem
	all.Go(func() { s.listener.run(ctx) })
	all.Go(func() {
		<-ctx.Done()
		grace, done := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
		defer done()
		if s.http.Shutdown(grace) != nil {
			_ = s.http.Close()
		}
	})
	err := s.http.Serve(s.listener)
	stopped := ctx.Err() != nil
	cancel()
	all.Wait()
	s.serving.Wait()
	if stopped || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve other nodes: %w", err)
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathHello, s.hello)
	mux.HandleFunc("GET "+pathSummary, s.summary)
	mux.HandleFunc("POST "+pathItems, s.items)
	mux.HandleFunc("GET "+pathBody, s.body)
	mux.HandleFunc("POST "+pathStatements, s.statements)
	mux.HandleFunc("POST "+pathPush, s.push)
	mux.HandleFunc("GET "+pathMirror, s.mirror)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.serving.Add(1)
		defer s.serving.Done()
		c := connOf(r.Context())
		w.Header()["Date"] = nil // nobody reads it
		if time.Since(c.born) > maxConnAge || s.listener.gate.crowded() {
			w.Header().Set("Connection", "close")
		}
		if !s.requests.enter(c.from, c.peer.ID) {
			refuse(w, problem{Code: codeBusy})
			return
		}
		defer s.requests.leave(c.from, c.peer.ID)
		// Asked anew for every request: a name may be forgotten, or taken, while
		// a connection is open.
		if err := s.cfg.Bindings.CheckAt(c.peer.Name, c.peer.ID, c.addr); err != nil {
			refuse(w, asProblem(err))
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// asProblem says to a peer what is wrong.
func asProblem(err error) problem {
	var conflict *NameConflict
	switch {
	case errors.As(err, &conflict):
		return problem{Code: codeConflict, Name: conflict.Name, Bound: conflict.Bound.String(), Seen: conflict.Seen.String()}
	case errors.Is(err, errTooLarge):
		return problem{Code: codeTooLarge}
	case errors.Is(err, ErrProtocol):
		return problem{Code: codeMalformed, Detail: clean(err.Error(), 512)}
	}
	return problem{Code: codeRefused, Detail: clean(err.Error(), 512)}
}

var statusOf = map[string]int{
	codeBusy:      http.StatusServiceUnavailable,
	codeConflict:  http.StatusConflict,
	codeNotFound:  http.StatusNotFound,
	codeRefused:   http.StatusUnprocessableEntity,
	codeMalformed: http.StatusBadRequest,
	codeTooLarge:  http.StatusRequestEntityTooLarge,
}

func refuse(w http.ResponseWriter, p problem) {
	b, _ := json.Marshal(p) // strings only
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(statusOf[p.Code])
	_, _ = w.Write(b) // the peer may be gone
}

func answer(w http.ResponseWriter, contentType string, b []byte) {
	w.Header().Set("Content-Type", contentType)
	_, _ = w.Write(b) // the peer may be gone
}
