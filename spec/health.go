package spec

import (
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/agentd/agentd/spec/strict"
)

// Limits of probes.
const (
	// An exec probe takes about 15 ms of a core (measured on containerd 1.6 to
	// 2.4), so ten of them a second cost more than most daemons.
	minInterval  = Duration(100 * time.Millisecond)
	maxTimeout   = Duration(10 * time.Minute)
	maxThreshold = 1000

	minIsolation = Duration(time.Second)
	maxIsolation = Duration(365 * 24 * time.Hour)
)

// defaultProbe is a probe that says nothing.
func defaultProbe() Probe {
	return Probe{
		Interval:  Duration(10 * time.Second),
		Timeout:   Duration(time.Second),
		Successes: 1,
		Failures:  3,
	}
}

// Preset fills a probe with its defaults before a table is decoded into it.
func (p *Probe) Preset() { *p = defaultProbe() }

// filled returns a copy of p with its zeros replaced by their defaults.
func (p *Probe) filled() *Probe {
	if p == nil {
		return nil
	}
	out, def := *p, defaultProbe()
	out.Exec = copied(p.Exec)
	fill(&out.Interval, def.Interval)
	fill(&out.Timeout, def.Timeout)
	fill(&out.Successes, def.Successes)
	fill(&out.Failures, def.Failures)
	return &out
}

// stripped returns a copy of p in which what has its default is zero.
func (p *Probe) stripped() *Probe {
	if p == nil {
		return nil
	}
	out, def := *p, defaultProbe()
	clearIf(&out.Interval, def.Interval)
	clearIf(&out.Timeout, def.Timeout)
	clearIf(&out.Successes, def.Successes)
	clearIf(&out.Failures, def.Failures)
	return &out
}

// each returns h with every probe replaced.
func (h Health) each(change func(*Probe) *Probe) Health {
	return Health{Startup: change(h.Startup), Liveness: change(h.Liveness), Readiness: change(h.Readiness)}
}

func (c checker) health(d Daemon) {
	c.probe("health.startup", d.Health.Startup, d)
	c.probe("health.liveness", d.Health.Liveness, d)
	c.probe("health.readiness", d.Health.Readiness, d)
	if p := d.Health.Liveness; p != nil && p.Successes > 1 {
		c.fail("health.liveness.successes", strconv.Itoa(p.Successes)+" is not 1: a failed liveness probe restarts, and no later success takes that back", "")
	}
	if d.Health.Readiness != nil && d.Job() {
		c.fail("health.readiness", "is not for a job, which is ready when it has completed", "")
	}
}

func (c checker) probe(at string, p *Probe, d Daemon) {
	if p == nil {
		return
	}
	var given []string
	if p.HTTP != "" {
		given = append(given, "http")
		c.probeURL(at+".http", p.HTTP)
	}
	if p.TCP != "" {
		given = append(given, "tcp")
		c.probeAddress(at+".tcp", p.TCP)
	}
	if len(p.Exec) > 0 {
		given = append(given, "exec")
		c.argv(at+".exec", p.Exec)
	}
	switch {
	case len(given) == 0 && c.failed(at):
		// What was meant to be asked is what was told.
	case len(given) == 0:
		c.fail(at, "asks nothing", "it needs one of http, tcp and exec")
	case len(given) > 1:
		c.fail(at, "has "+strings.Join(given, " and ")+", but asks in one way only", "")
	case d.Network == NamespaceNone && len(p.Exec) == 0:
		c.fail(strict.Join(at, given[0]), `reaches nothing, for the daemon has network = "none"`, "exec asks from inside the container")
	}
	c.between(at+".interval", p.Interval, minInterval, maxDuration)
	c.between(at+".timeout", p.Timeout, minDuration, maxTimeout)
	if p.Delay != 0 {
		c.between(at+".delay", p.Delay, 0, maxDuration)
	}
	c.threshold(at+".successes", p.Successes)
	c.threshold(at+".failures", p.Failures)
}

func (c checker) threshold(at string, n int) {
	if n < 1 || n > maxThreshold {
		c.failf(at, "%d is not between 1 and %d", n, maxThreshold)
	}
}

// between checks a duration against a range.
func (c checker) between(at string, d, low, high Duration) {
	if d < low || d > high {
		c.failf(at, "%s is not between %s and %s", d, low, high)
	}
}

func (c checker) probeURL(at, text string) {
	u, err := url.Parse(text)
	switch {
	case !strings.Contains(text, "://"):
		c.fail(at, strict.Quote(text)+" is no URL", "write "+strict.Quote("http://"+strings.TrimPrefix(text, "/")))
	case err != nil:
		c.fail(at, strict.Quote(text)+" is no URL", urlHint(err))
	case u.Scheme != "http" && u.Scheme != "https":
		c.fail(at, strict.Quote(u.Scheme)+` is not "http" or "https"`, "")
	case u.Hostname() == "":
		c.fail(at, strict.Quote(text)+" has no host", "the daemon itself is at 127.0.0.1 when it has the host's network")
	case u.Fragment != "":
		c.fail(at, "has a #fragment, which is never sent", "")
	case u.Port() != "" && !validPort(u.Port()):
		c.fail(at, strict.Quote(u.Port())+" is not a port", "")
	}
}

// urlHint is what url.Parse says, without the text that it repeats.
func urlHint(err error) string {
	if ue := (*url.Error)(nil); errors.As(err, &ue) {
		return ue.Err.Error()
	}
	return err.Error()
}

func (c checker) probeAddress(at, text string) {
	host, port, err := net.SplitHostPort(text)
	switch {
	case err != nil:
		c.fail(at, strict.Quote(text)+" is not HOST:PORT", `such as "127.0.0.1:9100" or "[::1]:9100"`)
	case host == "":
		c.fail(at, strict.Quote(text)+" has no host", "write "+strict.Quote("127.0.0.1:"+port))
	case strings.ContainsAny(host, "/@ "):
		c.fail(at, strict.Quote(host)+" is not a host", "")
	case !validPort(port):
		c.fail(at, strict.Quote(port)+" is not a port", "a number from 1 to 65535")
	}
}

func validPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0 && s[0] != '+'
}

// argv checks a command that runs inside the container.
func (c checker) argv(at string, argv []string) {
	if len(argv) > 0 && argv[0] == "" {
		c.fail(strict.Index(at, 0), "is empty, and names the program to run", "")
	}
}

func (c checker) hooks(h Hooks) {
	c.argv("hooks.post_start", h.PostStart)
	c.argv("hooks.pre_stop", h.PreStop)
}

func (c checker) isolation(i Isolation) {
	c.oneOf("isolation.policy", string(i.Policy), string(IsolationKeep), string(IsolationStop))
	c.between("isolation.after", i.After, minIsolation, maxIsolation)
}

// attempts checks what is different for a job.
func (c checker) attempts(d Daemon) {
	switch n := d.Restart.Attempts; {
	case n < 0 || n > maxThreshold:
		c.failf("restart.attempts", "%d is not between 1 and %d, or 0 for no limit", n, maxThreshold)
	case n > 0 && !d.Job():
		c.fail("restart.attempts", "is for jobs only", "a daemon that the ring wants is never given up")
	case n > 0 && d.Restart.Policy == RestartNever:
		c.fail("restart.attempts", `has no meaning with policy = "never"`, `a job that may try again needs policy = "on-failure"`)
	}
	if d.Job() && d.Restart.Policy == RestartAlways {
		c.fail("restart.policy", `"always" is not for jobs, which end when they have completed`, `"on-failure" tries again after a failure, "never" does not`)
	}
}
