package main

import (
	"bytes"
	"context"
	"fmt"
	"time"
)

// watchEvery is how often -w looks.
const watchEvery = time.Second

// look is one rendering of what is watched.
type look struct {
	out, trouble string
	code         int
}

// watched is something that is shown again and again.
type watched struct {
	show func(b *app) error // prints to b's streams
	over func() bool        // nothing more will happen; nil: it never ends
}

// lookOnce renders it as it is seen at now.
func (a *app) lookOnce(w watched, now func() time.Time) look {
	var out, trouble bytes.Buffer
	b := *a
	b.stdout, b.stderr, b.now = &out, &trouble, now
	b.agents = func() []int { return nil } // other agents come and go
	l := look{}
	if err := w.show(&b); err != nil {
		l.code = b.report(err)
	}
	l.out, l.trouble = out.String(), trouble.String()
	return l
}

// watch shows it anew whenever it changed, until it is over or ctx ends. On a
// terminal it redraws, ages too; into a pipe it writes only what changed, for
// which ages don't count. An agentd that is restarted is waited for.
func (a *app) watch(ctx context.Context, w watched) error {
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
		l := a.lookOnce(w, clock)
		select {
		case <-ctx.Done():
			return nil
		default:
		}
		if l != last {
			first := last.code < 0
			last = l
			if !screen {
				l = a.lookOnce(w, a.now)
			}
			a.showLook(l, screen, first)
			if first && l.code != exitOK && l.code != exitNotReady {
				return &exitError{code: l.code}
			}
		}
		if w.over != nil && w.over() || !wait(ctx, watchEvery) {
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
