package supervise

import (
	"log/slog"
	"time"
)

// State is where a daemon stands on this node.
//
//	            not selected                      policy, hold, quarantine
//	excluded <---------------.                  .--------------------------> blocked
//	                         |                  |                              |
//	                      (record) -> waiting --+<-----------------------------'
//	                                     |
//	                                     v          image here
//	     .--- pull failed: backoff <-- pulling ----------------> starting <----.
//	     '------------------------------^                         |    |       |
//	                                                   start      |    |       |
//	                                                   failed     |    v       |
//	     deleted, not selected,      .--> stopped     backoff <---'  running   | crash:
//	     new digest, left:           |       (never)    |            |  |  |   | backoff
//	   any -------------> stopping --+                  '------------'  |  |   | until its
//	                         |       '--> starting (new digest)         |  '---' turn
//	                         '-----------> excluded, stopped            |
//	                                                                    v
//	     unhealthy <--> running          (exited, not to be restarted) completed, stopped
//
// An instance whose probes have not passed yet is starting. Unhealthy is one
// whose readiness failed, or whose liveness or startup failed and which is about
// to be stopped for it, and then goes the way of a crash. Waiting is for a
// dependency, or, of one that runs and is ready, for its turn to take a newer
// revision; a cordoned or tainted node excludes what is not there yet. During a
// surge the state is that of the new container, and the old one keeps the
// daemon ready.
//
// The loop is level-triggered: a container may be taken away, stopped or
// paused by others at any moment, so that any state may follow any other. The
// drawing shows the ways that it takes by itself.
type State string

const (
	Excluded  State = "excluded"  // not meant for this node, or kept off it
	Waiting   State = "waiting"   // not looked at yet, for a dependency, or for its turn
	Pulling   State = "pulling"   // fetching the image, rendering files
	Starting  State = "starting"  // being created and started
	Running   State = "running"   // a container runs
	Unhealthy State = "unhealthy" // it runs and a probe fails
	BackOff   State = "backoff"   // failed; the next attempt has a time
	Completed State = "completed" // exited with 0 and is not to be restarted
	Stopping  State = "stopping"  // being stopped or removed
	Stopped   State = "stopped"   // deleted, or ended and not to be restarted
	Blocked   State = "blocked"   // may not be started here: policy, conflict, quarantine
)

// condition is a state with its reason and the time since when it holds.
type condition struct {
	state  State
	reason string
	since  time.Time
}

// transition is the only way that a daemon's state changes. It reports whether
// anything that others see did. A change of state is worth a line in the log;
// another reason for the same state is not, unless it is trouble.
func (c *condition) transition(log *slog.Logger, to State, reason string, now time.Time) bool {
	if c.state == to && c.reason == reason {
		return false
	}
	if c.state != to {
		c.since = now
	}
	if c.state != to || to == BackOff || to == Blocked {
		log.Info("state changed", "from", string(c.state), "state", string(to), "reason", reason)
	}
	c.state, c.reason = to, reason
	return true
}
