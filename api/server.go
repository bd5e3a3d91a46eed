package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// DefaultSocket is where agentd listens unless [api] socket says otherwise.
const DefaultSocket = "/run/agentd/agentd.sock"

// Limits of the server. They protect the agent from a broken or hostile local
// client; a person or a script never meets them.
const (
	maxHeader = 16 << 10
	// maxEnvelope: a blob of 1 MiB becomes 4/3 of that in base64, and the
	// envelope adds its signatures.
	maxEnvelope  = 2 << 20
	maxBody      = 64 << 10 // bytes of bodies that are not records
	maxInFlight  = 64       // requests at once
	maxStreams   = 32       // logs, events and commands that go on, besides
	headerTime   = 5 * time.Second
	bodyTime     = 15 * time.Second
	idleTime     = 2 * time.Minute
	shutdownTime = 5 * time.Second
	// lastWriteTime is for the last word of a stream that ends.
	lastWriteTime = time.Second
	// putTime is longer than the 5 s that a PUT waits for other nodes' disks.
	readTime  = 10 * time.Second
	putTime   = 20 * time.Second
	pruneTime = 5 * time.Minute  // volumes may have many files
	leaveTime = 15 * time.Minute // stop grace periods are the operator's choice
)

// ServerConfig configures a Server.
type ServerConfig struct {
	Socket string // path; parent folder is made with mode 0755 when missing
	Group  string // may connect and read; "" or unknown: only root may
	// Passed is a socket that the service manager made, which is used instead of
	// making one; nil: none.
	Passed  *net.UnixListener
	Backend Backend
	Log     *slog.Logger // nil: discarded
}

// Server answers the local API on a unix socket.
type Server struct {
	cfg       ServerConfig
	log       *slog.Logger
	inFlight  chan struct{}  // a semaphore of maxInFlight
	streaming chan struct{}  // a semaphore of maxStreams
	sessions  sync.WaitGroup // connections that were taken over from net/http

	mu       sync.Mutex
	listener *socket // guarded by mu; nil until Listen succeeded
}

// NewServer returns a server that does nothing until Listen or Run.
func NewServer(cfg ServerConfig) *Server {
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg, log: log, inFlight: make(chan struct{}, maxInFlight), streaming: make(chan struct{}, maxStreams)}
}

// Listen makes the socket, so that clients may connect (and wait for Run). Run
// does it when it was not called before. A socket that a living process
// answers on is refused, one that nobody answers on is replaced.
func (s *Server) Listen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil {
		return nil
	}
	if s.cfg.Passed != nil {
		l, warning := adopt(s.cfg.Passed, s.cfg.Socket, s.cfg.Group)
		if warning != "" {
			s.log.Warn("socket of the service manager", "socket", l.path, "reason", warning)
		}
		s.listener = l
		return nil
	}
	l, warning, err := listen(s.cfg.Socket, s.cfg.Group)
	if err != nil {
		return err
	}
	if warning != "" {
		s.log.Warn("socket is for root only", "socket", s.cfg.Socket, "reason", warning)
	}
	s.listener = l
	return nil
}

// Run serves until ctx ends; requests under way get 5 s to finish, streams are
// told and end. It returns nil after a clean end, and removes the socket.
func (s *Server) Run(ctx context.Context) error {
	if err := s.Listen(); err != nil {
		return err
	}
	s.mu.Lock()
	l := s.listener
	s.mu.Unlock()
	defer l.release()

	// Requests outlive ctx by shutdownTime, so that an answer under way is sent.
	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer s.awaitSessions()
	defer cancel(errStopping)
	base = context.WithValue(base, runKey{}, ctx)
	srv := &http.Server{
		Handler:           s.handler(l.gid),
		ReadHeaderTimeout: headerTime,
		ReadTimeout:       bodyTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return base },
		ConnContext:       connContext,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve %s: %w", s.cfg.Socket, err)
	case <-ctx.Done():
	}
	end, stop := context.WithTimeout(base, shutdownTime)
	defer stop()
	err := srv.Shutdown(end)
	if errors.Is(err, context.DeadlineExceeded) {
		cancel(errStopping)
		err = srv.Close()
	}
	if served := <-done; err == nil && !errors.Is(served, http.ErrServerClosed) {
		err = served
	}
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close %s: %w", s.cfg.Socket, err)
	}
	return nil
}

// awaitSessions waits for commands whose context has ended. One that a hung
// container runtime holds is left behind.
func (s *Server) awaitSessions() {
	ended := make(chan struct{})
	go func() {
		s.sessions.Wait()
		close(ended)
	}()
	limit := time.NewTimer(shutdownTime)
	defer limit.Stop()
	select {
	case <-ended:
	case <-limit.C:
		s.log.Warn("a command did not end", "reason", "the container runtime does not answer")
	}
}
