package main

import (
	"bytes"
	"context"
	"fmt"
	"time"
)

// watchEvery is how often status -w looks.
const watchEvery = time.Second

// look is one rendering of the status.
type look struct {
	out, trouble string
	code         int
}

// lookOnce renders the status as it is seen at now.
func (a *app) lookOnce(ctx context.Context, o statusOptions, now func() time.Time) look {
	var out, trouble bytes.Buffer
	b := *a
	b.stdout, b.stderr, b.now = &out, &trouble, now
	b.agents = func() []int { return nil } // other agents come and go
	l := look{}
	if err := b.showStatus(ctx, o); err != nil {
		l.code = b.report(err)
	}
	l.out, l.trouble = out.String(), trouble.String()
	return l
}

// watchStatus shows the status anew whenever it changed, until ctx ends. On a
// terminal it redraws, ages too; into a pipe it writes only what changed, for
// which ages don't count. An agentd that is restarted is waited for.
func (a *app) watchStatus(ctx context.Context, o statusOptions) error {
	screen := isTerminal(a.stdout)
	if a.color == "auto" && a.colored() {
		a.color = "always" // what is rendered goes through a buffer
	}
	began := a.now()
	frozen := func() time.Time { return began }
	last := look{code: -1}
	for {
		clock := frozen
		if screen {
			clock = a.now
		}
		l := a.lookOnce(ctx, o, clock)
		select {
		case <-ctx.Done():
			return nil
		default:
		}
		if l != last {
			first := last.code < 0
			last = l
			if !screen {
				l = a.lookOnce(ctx, o, a.now)
			}
			a.showLook(l, screen, first)
			if first && l.code != exitOK && l.code != exitNotReady {
				return &exitError{code: l.code}
			}
		}
		if !wait(ctx, watchEvery) {
			return nil
		}
	}
}

func (a *app) showLook(l look, screen, first bool) {
	switch {
	case screen:
		fmt.Fprint(a.stdout, "\x1b[H\x1b[2J") // to the corner, clear
	case !first && l.out != "" && a.output != "json":
		fmt.Fprintln(a.stdout)
	}
	fmt.Fprint(a.stdout, l.out)
	fmt.Fprint(a.stderr, l.trouble)
}

// wait waits for d; it reports false when ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
