package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/spec"
)

const (
	// bodyLimit is how much of an answer is read, the limit that Kubernetes
	// sets to its probes: whoever answers with a stream is well.
	bodyLimit = 10 << 10
	// headerLimit bounds the headers of an answer.
	headerLimit = 64 << 10
	// execSlots commands run in containers at once, of all daemons: each costs
	// a call through the runtime's shim (13 to 15 ms), and many at once would
	// only slow each other beyond their timeouts.
	execSlots = 8
	// sureLimit is how long the runtime has to show that it is not the runtime
	// that hangs, after a command did.
	sureLimit = time.Second
)

// Exec runs a command in the probed container and returns its exit code. The
// command is killed when ctx ends.
type Exec func(ctx context.Context, argv []string) (int, error)

// Asker makes attempts. All daemons of a node share one.
type Asker struct {
	client *http.Client
	dialer net.Dialer
	slots  chan struct{}
	ready  func(ctx context.Context) error
}

// NewAsker returns an asker. ready tells whether the container runtime answers;
// nil: it does.
func NewAsker(ready func(ctx context.Context) error) *Asker {
	a := &Asker{slots: make(chan struct{}, execSlots), ready: ready}
	a.client = &http.Client{
		// No proxy and no connection kept: a probe asks whether a connection
		// can be made, and 20 idle ones would cost more than making them.
		Transport: &http.Transport{
			DialContext:            a.dialer.DialContext,
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: headerLimit,
			ReadBufferSize:         2 << 10,
			WriteBufferSize:        1 << 10,
			// A probe asks for an answer, not for an identity: certificates of
			// daemons are seldom made out to 127.0.0.1.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		},
		// Being sent elsewhere is an answer; following it would probe that.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return a
}

// Ask makes one attempt, which ends by the end of ctx.
func (a *Asker) Ask(ctx context.Context, p spec.Probe, exec Exec) Outcome {
	switch {
	case p.HTTP != "":
		return a.http(ctx, p)
	case p.TCP != "":
		return a.tcp(ctx, p)
	case len(p.Exec) > 0 && exec != nil:
		return a.exec(ctx, p, exec)
	}
	return Outcome{Unknown, "nothing to ask"}
}

func (a *Asker) http(ctx context.Context, p spec.Probe) Outcome {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.HTTP, nil)
	if err != nil {
		return Outcome{Failed, clip("cannot be asked: "+err.Error(), 200)}
	}
	req.Header.Set("User-Agent", "agentd-probe")
	req.Header.Set("Accept", "*/*")
	resp, err := a.client.Do(req)
	if err != nil {
		return unanswered(ctx, p, err)
	}
	// The status is the answer; what is wrong with the body does not matter.
	_, _ = io.CopyN(io.Discard, resp.Body, bodyLimit)
	_ = resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode >= 400 {
		return Outcome{Failed, fmt.Sprintf("answered %d", resp.StatusCode)}
	}
	return Outcome{Result: Passed}
}

func (a *Asker) tcp(ctx context.Context, p spec.Probe) Outcome {
	conn, err := a.dialer.DialContext(ctx, "tcp", p.TCP)
	if err != nil {
		return unanswered(ctx, p, err)
	}
	_ = conn.Close() // nothing was sent that could be lost
	return Outcome{Result: Passed}
}

func (a *Asker) exec(ctx context.Context, p spec.Probe, exec Exec) Outcome {
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	case <-ctx.Done():
		return Outcome{Unknown, "too many commands at once"}
	}
	code, err := exec(ctx, p.Exec)
	switch {
	case err == nil && code == 0:
		return Outcome{Result: Passed}
	case err == nil:
		return Outcome{Failed, fmt.Sprintf("exited with code %d", code)}
	case errors.Is(err, runtime.ErrUnavailable), errors.Is(err, runtime.ErrNotFound):
		return Outcome{Unknown, clip(err.Error(), 200)}
	}
	o := unanswered(ctx, p, err)
	if o.Result == Failed && a.ready != nil {
		// A runtime that hangs makes every command hang: that says nothing
		// about the daemon, which must not be restarted for it.
		rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sureLimit)
		defer cancel()
		if rerr := a.ready(rctx); rerr != nil {
			return Outcome{Unknown, clip("the container runtime does not answer: "+rerr.Error(), 200)}
		}
	}
	return o
}

// unanswered puts a failed attempt into words.
func unanswered(ctx context.Context, p spec.Probe, err error) Outcome {
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return Outcome{Unknown, "given up"}
	case errors.Is(err, context.DeadlineExceeded), ctx.Err() != nil, errors.As(err, &timeout) && timeout.Timeout():
		return Outcome{Failed, "timed out after " + p.Timeout.D().String()}
	case errors.Is(err, syscall.ECONNREFUSED):
		return Outcome{Failed, "refused"}
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // without the address, which the reason names already
	}
	return Outcome{Failed, clip("failed: "+err.Error(), 200)}
}
