package supervise

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/agentd/agentd/agent/probe"
	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/spec"
)

// Report is where one daemon stands on this node. While a surge is under way,
// it is about the container that stands for the daemon, which is the old one
// until the new one takes over; State and Reason tell of the new one, and Ready
// of either.
type Report struct {
	Name        string
	Placed      bool // meant for this node
	Denied      bool // what is wanted may not start, by this node's policy
	State       string
	Reason      string // one sentence; never empty
	Ready       bool
	Revision    int    // of the container, like the five below; 0 without one
	Generation  uint64 //
	Digest      string // of the record's daemon, as the ring knows it
	Rendered    string // of the daemon as it runs on this node; Digest without templates and overrides
	ImageDigest string //
	Container   string // id
	PID         int
	Restarts    int       // of this digest since it was first started here
	ExitCode    *int      // of the last exit; kept while the next instance runs
	ExitSignal  string    // that ended it, "SIGKILL"; "": none did
	ExitedAt    time.Time // zero when unknown
	OOM         bool      // that exit was the OOM killer's doing
	LastError   string    // of the last step that failed and was not made good since
	StartedAt   time.Time
	Since       time.Time     // of the state, by this process's clock
	Quarantined bool          // agentd itself failed on it too often to go on
	Next        time.Time     // when a back-off ends; zero: none is under way
	Reasons     []string      // Reason and all others, most decisive first
	Origins     []spec.Origin // values of the wanted daemon that are this node's own
	// ReadySince is since when the present instance has been ready without
	// interruption, by this process's monotonic clock; a completed job has been
	// since its end. Zero while it is not ready, while the runtime does not
	// answer, and from the moment when Set is given another digest until the
	// decision about that is in the report: it may be replaced at any moment.
	ReadySince time.Time
	// TryingSince is since when a container of the wanted digest has run here,
	// or since making it ready first failed; zero before either. A pull that
	// makes progress is no failure. Another wanted digest starts it anew.
	TryingSince time.Time
	Wanted      string // digest, as the ring knows it, of the revision that this report was made for
	Told        bool   // Set named the daemon; else the report knows nothing of what is wanted
	Alive       bool   // some container of the daemon has processes here, or is being started
	Looked      bool   // the runtime was looked at since this agent began
	Pulled      int64  // bytes of the image that are here, during a pull
	PullTotal   int64  // bytes of the image that are known of, during a pull; 0: none yet
	Totals      Totals // since this agent began
	order       uint64 // of what was wanted when it was made; see Desired
	// Beside is the container that is about to take over; nil: none is.
	Beside *Beside
}

// Beside is the new container of a surge, as long as the old one stands for the
// daemon.
type Beside struct {
	Container  string // id
	PID        int
	Revision   int
	Digest     string    // of the record's daemon, as the ring knows it
	ReadySince time.Time // see Report
}

// Totals count since the agent began; a change of them alone is no news.
type Totals struct {
	Starts, Restarts, Exits, OOMs, Failures, Pulls uint64
	Probes                                         map[probe.Kind]probe.Counts
}

// show publishes a decision.
func (w *worker) show(d *Desired, res Result) {
	from, unseen := w.cond.state, w.cond.state == "" || w.cond.reason == notLooked
	if w.cond.transition(w.log, res.State, res.Reason, time.Now()) && from != res.State {
		w.tell(Event{Type: EventState, Reason: res.Reason, From: string(from), To: string(res.State)})
	}
	r := Report{
		Name: w.name, Placed: res.Placed, Denied: res.Denied, State: string(res.State), Reason: res.Reason, Ready: res.Ready,
		Since: w.cond.since, Reasons: append([]string{res.Reason}, res.More...), Origins: w.origins,
	}
	if f := w.hist.Failure; f != nil {
		r.LastError = f.Err
		if !strings.Contains(r.Reason, f.Err) {
			// While it is tried again, what went wrong before is still the news.
			r.Reason += "; the attempt before failed: " + f.Err
			r.Reasons[0] = r.Reason
		}
	}
	if r.Wanted = sourceOf(d); d != nil {
		r.Told, r.order = true, d.order
	}
	if r.ReadySince = res.OwnSince; r.ReadySince.IsZero() {
		r.ReadySince = res.BesideSince
	}
	r.TryingSince, r.Looked = res.TryingSince, w.looked
	r.Alive = slices.ContainsFunc(w.actual, func(i runtime.Instance) bool { return runs(&i) }) ||
		len(res.Steps) > 0 && res.Steps[0].Op == Start
	r.Quarantined = w.hist.Panics >= quarantineAfter
	if len(res.Steps) == 0 && (res.State == BackOff || w.hist.Failure != nil) {
		r.Next = res.Wake
	}
	if w.hist.Prepared.Note != "" {
		r.Reasons = append(r.Reasons, w.hist.Prepared.Note)
	}
	own, beside := w.pair(d)
	if own != nil {
		r.Container, r.PID, r.StartedAt = own.ID, own.PID, own.StartedAt
		r.Revision = atoi(own.Labels[runtime.LabelRevision])
		r.Generation, _ = strconv.ParseUint(own.Labels[runtime.LabelGeneration], 10, 64) // 0 when it is not ours to know
		r.Rendered, r.ImageDigest = own.Labels[runtime.LabelDigest], own.Labels[runtime.LabelImage]
		r.Digest = ringDigest(own)
		if r.StartedAt.IsZero() {
			r.StartedAt = timeOf(own.Labels[runtime.LabelStarted])
		}
	}
	if beside != nil {
		r.Beside = &Beside{
			Container: beside.ID, PID: beside.PID, Revision: atoi(beside.Labels[runtime.LabelRevision]),
			Digest: ringDigest(beside), ReadySince: res.BesideSince,
		}
	}
	if unseen && res.State == Running && !r.StartedAt.IsZero() {
		// Found running: it has been so for longer than this agent knows.
		w.cond.since = r.StartedAt
		r.Since = r.StartedAt
	}
	r.Restarts = w.hist.Counts.Restarts
	exit := w.hist.Last
	if e := w.hist.Ended; e != nil && !e.Ours {
		exit = &e.Exit
	}
	if end := jobEnd(w.ends, wanted(d)); end != nil && d.Daemon.Job() {
		exit = &end.Exit
	}
	if exit != nil && exit.Known {
		code := int(exit.Code)
		r.ExitCode, r.OOM, r.ExitedAt, r.ExitSignal = &code, exit.OOM, exit.At.UTC(), signalName(exit.Code)
	}
	w.s.publish(r)
}

// ringDigest is the digest by which the ring knows what a container was made of.
func ringDigest(inst *runtime.Instance) string {
	if source := inst.Labels[labelSource]; source != "" {
		return source
	}
	return inst.Labels[runtime.LabelDigest]
}

func (b *Beside) equal(c *Beside) bool {
	if b == nil || c == nil {
		return b == c
	}
	same := *c
	same.ReadySince = b.ReadySince
	return *b == same && b.ReadySince.Equal(c.ReadySince)
}

func equal(a, b Report) bool {
	code := (a.ExitCode == nil) == (b.ExitCode == nil) && (a.ExitCode == nil || *a.ExitCode == *b.ExitCode)
	lists := slices.Equal(a.Reasons, b.Reasons) && slices.Equal(a.Origins, b.Origins)
	times := a.StartedAt.Equal(b.StartedAt) && a.Since.Equal(b.Since) && a.ExitedAt.Equal(b.ExitedAt) && a.Next.Equal(b.Next) &&
		a.ReadySince.Equal(b.ReadySince) && a.TryingSince.Equal(b.TryingSince)
	return code && lists && times && a.Beside.equal(b.Beside) && a.Name == b.Name && a.Placed == b.Placed && a.Denied == b.Denied && a.State == b.State &&
		a.Reason == b.Reason && a.Ready == b.Ready && a.Revision == b.Revision && a.Generation == b.Generation &&
		a.Digest == b.Digest && a.Rendered == b.Rendered && a.ImageDigest == b.ImageDigest && a.Container == b.Container &&
		a.PID == b.PID && a.Restarts == b.Restarts && a.OOM == b.OOM && a.Quarantined == b.Quarantined && a.ExitSignal == b.ExitSignal && a.Wanted == b.Wanted && a.Told == b.Told && a.order == b.order && a.Alive == b.Alive && a.Looked == b.Looked && a.LastError == b.LastError
}
