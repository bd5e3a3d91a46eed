package fake

import (
	"maps"
	"slices"

	"github.com/agentd/agentd/runtime"
)

// Happening is what happened to an instance.
type Happening string

// What a Change tells of.
const (
	Started Happening = "started"
	Ended   Happening = "ended"
	Removed Happening = "removed"
)

// Change is one transition of an instance, as whoever stands beside the machine
// sees it: whatever the agent believes, and outages included.
type Change struct {
	What     Happening
	Instance runtime.Instance // as it is from now on; of a removed one, as it was
	Asked    bool             // through Stop, Ensure or Remove, and not by itself
}

// changed tells whoever watches; r.mu is held.
func (r *Runtime) changed(what Happening, i *instance, asked bool) {
	if r.cfg.Watch != nil && !i.foreign {
		r.cfg.Watch(Change{what, i.snapshot(), asked})
	}
}

// PowerCut ends all containers at once, as the machine itself would: their
// records are there when it boots, their processes and exit codes are not.
func (r *Runtime) PowerCut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(r.instances)) {
		i := r.instances[id]
		r.endLocked(i, runtime.Exit{Code: 255}, false)
		i.State, i.Exit, i.PID = runtime.StateCreated, nil, 0
	}
}
