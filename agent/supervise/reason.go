package supervise

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentd/agentd/runtime"
)

// Reasons are written from the moment at which their state began and name no
// ages: they stay true while the state lasts, so that a report does not change
// every second and travel round the ring for it.

// exitWords tells how an instance ended.
func exitWords(e runtime.Exit, away bool) string {
	var s string
	switch {
	case !e.Known:
		s = "ended with unknown exit code"
	case e.OOM:
		s = fmt.Sprintf("killed by the kernel: out of memory (exit code %d)", e.Code)
	case signalName(e.Code) != "":
		s = fmt.Sprintf("ended by %s (exit code %d)", signalName(e.Code), e.Code)
	default:
		s = fmt.Sprintf("exited with code %d", e.Code)
	}
	if away {
		s += " while agentd was away"
	}
	if e.Known && !e.At.IsZero() {
		s += " at " + e.At.UTC().Format(time.TimeOnly) + "Z"
	}
	return s
}

// signalName names the signal that an exit code stands for, or "".
func signalName(code uint32) string {
	if code <= 128 || code > 128+64 {
		return ""
	}
	return unix.SignalName(syscall.Signal(code - 128))
}

// endWords tells how an instance ended, and why when it was not well.
func endWords(e *Ended, exit runtime.Exit) string {
	how := exitWords(exit, e.Away)
	if e.Fault != "" {
		how = fmt.Sprintf("%s; stopped for that, %s", e.Fault, how)
	}
	return how
}

// restartWords tells of an exit that is answered with a start.
func restartWords(e *Ended, next Counts, delay time.Duration) string {
	how := endWords(e, e.Exit)
	if e.Gone {
		how = vanishedWords
	}
	when := "starts again at once"
	if delay > 0 {
		when = "starts again after " + round(delay).String()
	}
	return fmt.Sprintf("%s, %s (%s)", how, when, plural(next.Restarts, "restart"))
}

// runningWords tells what runs.
func (p *plan) runningWords() string {
	s := fmt.Sprintf("runs revision %s", orUnknown(p.inst.Labels[runtime.LabelRevision]))
	if p.Desired != nil && p.current() {
		s = fmt.Sprintf("runs revision %d", p.Desired.Revision)
	}
	if c := p.History.Counts; c.Restarts > 0 {
		s += ", " + plural(c.Restarts, "restart")
		if p.History.Last != nil {
			s += ", last: " + exitWords(*p.History.Last, false)
		}
	}
	return s
}

// failureWords tells of a step that failed and is tried again.
func failureWords(f Failure, delay time.Duration) string {
	what := map[Op]string{
		Prepare: "cannot be made ready", Start: "cannot be started", Stop: "cannot be stopped",
		Remove: "cannot be removed", Label: "its labels cannot be written", Record: "its end cannot be remembered",
	}[f.Op]
	return fmt.Sprintf("%s: %s; tries again after %s (%s)", what, f.Err, round(delay), plural(f.Count, "failed attempt"))
}

// quarantineWords tells why nothing is done about a digest any more.
func quarantineWords(h History, d *Desired) string {
	what := "this daemon"
	if d != nil && !d.Delete {
		what = fmt.Sprintf("revision %d", d.Revision)
	}
	return fmt.Sprintf("quarantined: agentd itself failed %d times on %s (%s); apply another revision", h.Panics, what, h.Panic)
}

// errorWords is an error on one line.
func errorWords(err error) string {
	if errors.Is(err, runtime.ErrForeign) {
		return err.Error() + "; remove it or rename the daemon"
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func round(d time.Duration) time.Duration {
	if d > 10*time.Second {
		return d.Round(time.Second)
	}
	return d.Round(100 * time.Millisecond)
}

// short abbreviates a digest: "sha256:0123456789ab".
func short(digest string) string {
	algo, hex, ok := strings.Cut(digest, ":")
	if !ok {
		algo, hex = "", digest
	}
	if len(hex) > 12 {
		hex = hex[:12]
	}
	if algo == "" {
		return hex
	}
	return algo + ":" + hex
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

// vanishedWords tells of a container that somebody else removed.
const vanishedWords = "the container vanished: somebody else removed it"
