package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/agentd/agentd/e2e/lab"
)

// Config says how much.
type Config struct {
	Dir        string // an empty folder, short-named
	Containerd string // program; "": from PATH
	Seed       uint64
	Faults     int // that struck
	Round      int // faults between two times of calm; default 50
	Log        func(format string, args ...any)
}

// Calm is a time without faults.
type Calm struct {
	Took  time.Duration // from the last fault until all was well
	Floor time.Duration // what a bare container start takes on this machine now
}

// Bound is what Took may be: see idleFloor.
func (c Calm) Bound() time.Duration {
	return time.Duration(max(1, float64(c.Floor)/float64(idleFloor)) * float64(convergeLimit))
}

// Result is what a run came to. Failures is what must be empty.
type Result struct {
	Struck    map[Kind]int
	Cuts      map[When]int
	Total     int // faults that struck
	Scheduled int // faults dealt out, those that found nothing to hit included
	Calms     []Calm
	Looks     int           // into /proc
	Gap       time.Duration // longest time without one
	Failures  []string
}

const (
	// convergeLimit is how soon after the last fault there has to be exactly one
	// of everything, with the back-off bounded by backoffMax.
	convergeLimit = 3 * time.Second
	// idleFloor is what starting one container takes by a bare client on an idle
	// machine of the project's kind, at most. A machine that takes n times as
	// long, because it is slow or others use it, gets n times convergeLimit.
	idleFloor = 100 * time.Millisecond
	// hold is how long it has to stay converged to count.
	hold = time.Second
	// giveUp ends the waiting for what does not come.
	giveUp = 90 * time.Second
)

// Run makes a machine, injures it and looks on. The error is about the test
// itself; what the agent did wrong is in Result.Failures.
func Run(ctx context.Context, cfg Config) (res Result, err error) {
	if cfg.Round <= 0 {
		cfg.Round = 50
	}
	w, err := newWorld(ctx, cfg)
	if w != nil {
		defer func() { err = errors.Join(err, w.close()) }()
	}
	if err != nil {
		return res, err
	}
	var watching sync.WaitGroup
	wctx, stop := context.WithCancel(ctx)
	defer watching.Wait()
	defer stop()
	watching.Go(func() { w.watcher.Run(wctx) })

	r := &run{world: w, cfg: cfg, res: &res, schedule: NewSchedule(cfg.Seed, len(w.daemons))}
	res.Struck = map[Kind]int{}
	err = r.all(ctx)
	res.Failures = append(append(res.Failures, w.watcher.Doubles()...), w.collided()...)
	res.Looks, res.Gap = w.watcher.Looked()
	if len(res.Failures) > 0 {
		cfg.Log("who came and went last:\n%s", w.watcher.Lately())
		cfg.Log("the agent's log ends:\n%s", tail(filepath.Join(w.dir, "agent.log"), 60))
	}
	return res, errors.Join(err, w.trouble())
}

// floor is the longest of three times that a bare client takes to start a
// container.
func (w *world) floor(ctx context.Context) (longest time.Duration, err error) {
	for i := range 3 {
		id := "floor-" + strconv.Itoa(i)
		start := time.Now()
		if err := w.server.Run(ctx, w.namespace, w.image, id); err != nil {
			return 0, err
		}
		longest = max(longest, time.Since(start))
		if err := w.server.Remove(ctx, w.namespace, id); err != nil {
			return 0, err
		}
	}
	return longest, nil
}

// run is one run under way.
type run struct {
	*world
	cfg      Config
	res      *Result
	schedule *Schedule
}

// all is: nothing, everything runs, rounds of faults, nothing again.
func (r *run) all(ctx context.Context) error {
	empty, err := Take(ctx, r.server, r.namespace)
	if err != nil {
		return err
	}
	if err := r.want(false); err != nil {
		return err
	}
	r.disturbed = time.Now()
	if err := r.startAgent(); err != nil {
		return err
	}
	if _, err := r.converged(ctx, r.disturbed); err != nil {
		return fmt.Errorf("before the first fault: %w", err)
	}
	for _, name := range r.daemons {
		if _, err := os.Stat(filepath.Join(r.alone(), name)); err != nil {
			return fmt.Errorf("%s took no lock: %w", name, err)
		}
	}
	before, err := Take(ctx, r.server, r.namespace)
	if err != nil {
		return err
	}
	r.cfg.Log("before: %v", before)
	for r.total() < r.cfg.Faults && len(r.res.Failures) == 0 && len(r.watcher.Doubles()) == 0 && len(r.collided()) == 0 {
		if err := r.round(ctx, before); err != nil {
			return err
		}
	}
	if err := r.want(true); err != nil {
		return err
	}
	r.matches(ctx, "after everything was deleted", empty)
	return nil
}

// total is how many faults struck.
func (r *run) total() int {
	n := 0
	for _, k := range r.res.Struck {
		n += k
	}
	byWhen, cuts, _ := r.proxy.Fired()
	r.res.Cuts, r.res.Total = byWhen, n+cuts
	return r.res.Total
}

// round is a number of faults, and then calm in which all has to be well.
func (r *run) round(ctx context.Context, before Census) error {
	for end := min(r.total()+r.cfg.Round, r.cfg.Faults); r.total() < end; {
		f := r.schedule.Next()
		r.res.Scheduled = f.N
		if err := lab.Pause(ctx, f.Pause); err != nil {
			return err
		}
		hit, err := r.strike(ctx, f)
		if err != nil {
			return err
		}
		if hit && f.Kind == CutCall {
			r.res.Struck[KillInit]++
		} else if hit {
			r.res.Struck[f.Kind]++
		}
		if err := r.trouble(); err != nil {
			return err
		}
		if len(r.watcher.Doubles()) > 0 || len(r.collided()) > 0 {
			r.cfg.Log("stopped at fault %v", f)
			return nil
		}
	}
	last := r.calm()
	took, err := r.converged(ctx, last)
	if err != nil {
		r.res.Failures = append(r.res.Failures, fmt.Sprintf("after fault %d of the schedule: %v", r.res.Scheduled, err))
		return nil
	}
	floor, err := r.floor(ctx)
	if err != nil {
		return err
	}
	calm := Calm{Took: took, Floor: floor}
	r.res.Calms = append(r.res.Calms, calm)
	r.cfg.Log("%d faults (%d of the schedule): converged after %v", r.res.Total, r.res.Scheduled, took.Round(time.Millisecond))
	if took > convergeLimit*2/3 {
		r.cfg.Log("that is long; the agent's log since the last fault, %s:\n%s", last.UTC().Format(clock), r.logSince(last))
	}
	if took > calm.Bound() {
		r.res.Failures = append(r.res.Failures, fmt.Sprintf("after fault %d of the schedule: converged %v after the last, may take %v",
			r.res.Scheduled, took.Round(time.Millisecond), calm.Bound().Round(time.Millisecond)))
	}
	r.matches(ctx, fmt.Sprintf("after fault %d of the schedule", r.res.Scheduled), before)
	touched, err := r.foreignTouched(ctx)
	if touched != "" {
		r.res.Failures = append(r.res.Failures, touched)
	}
	return err
}

// converged waits until exactly one of everything runs, in the newest revision,
// and stays; it returns when that began, counted from since.
func (r *run) converged(ctx context.Context, since time.Time) (time.Duration, error) {
	var began time.Time
	var pids string
	err := lab.Within(ctx, giveUp, func(context.Context) error {
		now, err := r.one()
		if err != nil {
			began = time.Time{}
			return err
		}
		if began.IsZero() || now != pids {
			began, pids = time.Now(), now
		}
		if time.Since(began) < hold {
			return errors.New("it just came up")
		}
		return nil
	})
	return max(0, began.Sub(since)), err
}

// one tells the processes apart if there is exactly one of each daemon, which
// the agent calls ready.
func (r *run) one() (string, error) {
	var pids, wrong []string
	copies := r.watcher.Copies()
	reports := r.reports()
	for _, name := range r.daemons {
		switch all := copies[name]; {
		case len(all) != 1:
			wrong = append(wrong, fmt.Sprintf("%d copies of %s, the agent says %s", len(all), name, reports[name].words()))
		case all[0].Revision != strconv.Itoa(r.revision):
			wrong = append(wrong, fmt.Sprintf("%s runs revision %s, wanted is %d", name, all[0].Revision, r.revision))
		case reports[name].PID != all[0].PID || !reports[name].Ready:
			wrong = append(wrong, fmt.Sprintf("%s runs as %d, the agent says %s", name, all[0].PID, reports[name].words()))
		default:
			pids = append(pids, fmt.Sprintf("%d.%d", all[0].PID, all[0].Start))
		}
	}
	if len(wrong) > 0 {
		return "", errors.New(strings.Join(wrong, "; "))
	}
	return strings.Join(pids, " "), nil
}

// report is what is of interest in the agent's.
type report struct {
	Name, State, Reason string
	PID                 int
	Ready               bool
}

func (r report) words() string { return fmt.Sprintf("%s (pid %d): %s", r.State, r.PID, r.Reason) }

func (w *world) reports() map[string]report {
	all := map[string]report{}
	b, err := os.ReadFile(filepath.Join(w.data(), "reports.json"))
	var list []report
	if err == nil && json.Unmarshal(b, &list) == nil {
		for _, one := range list {
			all[one.Name] = one
		}
	}
	return all
}

// matches waits until the counts are what they were. What agentd keeps for a
// moment, a lease or a helper, may still be on its way out.
func (r *run) matches(ctx context.Context, when string, want Census) {
	err := lab.Within(ctx, 20*time.Second, func(context.Context) error {
		now, err := Take(ctx, r.server, r.namespace)
		if err != nil {
			return err
		}
		if diff := now.Differs(want); diff != "" {
			return errors.New(diff)
		}
		return nil
	})
	if err != nil {
		r.res.Failures = append(r.res.Failures, when+": left behind or lost: "+err.Error())
		r.cfg.Log("the loggers and who writes to them:\n%s", holders(r.namespace))
	}
}

const clock = "2006-01-02T15:04:05.000"

// logSince is what the agent logged from a time on.
func (r *run) logSince(since time.Time) string {
	b, err := os.ReadFile(filepath.Join(r.dir, "agent.log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	from := "time=" + since.UTC().Format(clock)
	i := slices.IndexFunc(lines, func(l string) bool { return l >= from })
	if i < 0 {
		return "nothing"
	}
	return strings.Join(lines[i:min(len(lines), i+80)], "\n")
}

func tail(path string, lines int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
