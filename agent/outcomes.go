package agent

import (
	"encoding/json"
	"os"
	"path/filepath"
	"sync"

	"github.com/agentd/agentd/agent/rollout"
	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/internal/durable"
	"github.com/agentd/agentd/spec/record"
)

// outcomesFile tells what became of records that were replaced, in data_dir. It
// is for people: without it they count as superseded.
const outcomesFile = "outcomes.json"

// outcomes remembers how rollouts ended that did not finish.
type outcomes struct {
	path string

	mu  sync.Mutex
	all map[string][]ended // guarded by mu: by daemon, newest last, at most record.MaxHistory
}

type ended struct {
	Version record.Version `json:"version"`
	Outcome string         `json:"outcome"`
	Reason  string         `json:"reason,omitempty"`
}

func (o *outcomes) open(dir string) {
	o.path, o.all = filepath.Join(dir, outcomesFile), map[string][]ended{}
	raw, err := os.ReadFile(o.path)
	if err == nil && json.Unmarshal(raw, &o.all) != nil {
		o.all = map[string][]ended{}
	}
}

// of says what became of a record that was replaced before it finished.
func (o *outcomes) of(daemon string, v record.Version) (outcome, reason string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range o.all[daemon] {
		if e.Version == v {
			return e.Outcome, e.Reason
		}
	}
	return api.OutcomeSuperseded, ""
}

// note keeps how a rollout ended when a newer record came.
func (o *outcomes) note(daemon string, e ended) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := append(o.all[daemon], e)
	o.all[daemon] = list[max(0, len(list)-record.MaxHistory):]
	raw, err := json.Marshal(o.all)
	if err != nil {
		return err
	}
	return durable.WriteFile(o.path, raw, 0o640)
}

// endOf says how a rollout ended for which a newer record came, as far as this
// node knew; ok is false for one of which nothing else is known than that it was
// superseded. Pure.
func endOf(was rollout.Plan, in rollout.Input, s rollout.State) (e ended, ok bool) {
	failed := rollout.Failures(was, in.Peers)
	who := ""
	if len(failed) > 0 {
		who = "failed on " + joinNames(failed, in.Names)
	}
	switch {
	case s.Observed.Version == was.Version && s.Observed.Vetoed:
		return ended{was.Version, api.OutcomeRolledBack, who}, true
	case len(failed) >= was.Threshold():
		return ended{was.Version, api.OutcomeFailed, who}, true
	}
	return ended{}, false
}
