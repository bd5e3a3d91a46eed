package supervise

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/agentd/agentd/internal/durable"
	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/spec"
)

// jobsKept bounds how many digests of a job are remembered, as many as the ring
// keeps revisions of a daemon.
const jobsKept = 10

// JobEnd is how one digest of a job ended on this node, for good. It is kept on
// disk and not in the container's labels: a job runs once, also when its
// container was removed since, by a drain or by hand.
type JobEnd struct {
	Digest   string       `json:"digest"` // rendered
	Good     bool         `json:"good"`
	Exit     runtime.Exit `json:"exit"`
	Attempts int          `json:"attempts"`
	Why      string       `json:"why"` // in words
}

// finished reports whether the wanted digest is a job that ended before.
func (p *plan) finished() bool {
	return p.Desired.Daemon.Job() && p.Finished != nil && p.Finished.Digest == p.Desired.Digest
}

// jobDone says how the job ended. Another revision of it that still runs is
// stopped: it is not what is wanted.
func (p *plan) jobDone() Result {
	state := Stopped
	if p.Finished.Good {
		state = Completed
	}
	if p.alive() {
		return p.takeAway(departure{state: state, placed: true, halt: true, why: fmt.Sprintf("revision %d is wanted, and is done: %s",
			p.Desired.Revision, p.Finished.Why)})
	}
	return Result{State: state, Reason: p.Finished.Why}
}

// jobEnded decides what an exit means for a job: success, another attempt, or
// failure for good.
func (p *plan) jobEnded(e *Ended) (bool, Result) {
	if e.Ours {
		return false, Result{} // interrupted by us: it runs again
	}
	end := JobEnd{Digest: p.Desired.Digest, Exit: e.Exit, Attempts: p.History.Counts.Restarts + 1}
	end.Good = e.Exit.Known && e.Exit.Code == 0 && e.Fault == ""
	limit := p.Desired.Daemon.Restart
	switch {
	case end.Good:
		end.Why = "the job is done: " + endWords(e, e.Exit)
		if end.Attempts > 1 {
			end.Why += fmt.Sprintf(" at attempt %d", end.Attempts)
		}
	case limit.Policy == spec.RestartNever:
		end.Why = "the job failed: " + endWords(e, e.Exit) + "; restart.policy is never"
	case limit.Attempts > 0 && end.Attempts >= limit.Attempts:
		end.Why = fmt.Sprintf("the job failed: %s; restart.attempts = %d is used up", endWords(e, e.Exit), limit.Attempts)
	default:
		return false, Result{}
	}
	return true, p.jobOver(end)
}

// jobUnstartable ends a job whose container could not be started often enough.
func (p *plan) jobUnstartable(f *Failure) (Result, bool) {
	if p.Desired == nil || !p.Desired.Daemon.Job() || f.Op != Start || f.Blocked {
		return Result{}, false
	}
	limit := p.Desired.Daemon.Restart.Attempts
	if limit == 0 || f.Count < limit {
		return Result{}, false
	}
	r := p.jobOver(JobEnd{Digest: p.Desired.Digest, Attempts: f.Count,
		Why: fmt.Sprintf("the job failed: it cannot be started: %s; restart.attempts = %d is used up", f.Err, limit)})
	r.Placed = true
	return r, true
}

func (p *plan) jobOver(end JobEnd) Result {
	r := Result{State: Stopped, Reason: end.Why}
	if end.Good {
		r.State = Completed
	}
	r.Steps = []Step{{Op: Record, ID: p.Name, Reason: "the job is over", Job: &end}}
	return r
}

func jobsPath(dataDir, daemon string) string {
	return filepath.Join(dataDir, "jobs", daemon+".json")
}

// readJobs returns how the digests of a job ended here, the newest last. A file
// that can't be read is as good as none: the job runs once more.
func readJobs(dataDir, daemon string) []JobEnd {
	b, err := os.ReadFile(jobsPath(dataDir, daemon))
	var ends []JobEnd
	if err != nil || json.Unmarshal(b, &ends) != nil {
		return nil
	}
	return ends
}

// writeJob remembers an end and returns all that are remembered.
func writeJob(dataDir, daemon string, end JobEnd) ([]JobEnd, error) {
	ends := slices.DeleteFunc(readJobs(dataDir, daemon), func(e JobEnd) bool { return e.Digest == end.Digest })
	if end.Exit.At.Year() > 9999 {
		end.Exit.At = time.Time{} // by a broken clock, and not to be written as JSON
	}
	ends = append(ends, end)
	ends = ends[max(0, len(ends)-jobsKept):]
	b, err := json.Marshal(ends)
	if err != nil {
		return nil, err
	}
	path := jobsPath(dataDir, daemon)
	return ends, errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), durable.WriteFile(path, b, 0o600))
}

// jobEnd finds how a digest ended.
func jobEnd(ends []JobEnd, digest string) *JobEnd {
	i := slices.IndexFunc(ends, func(e JobEnd) bool { return e.Digest == digest })
	if i < 0 {
		return nil
	}
	return &ends[i]
}
