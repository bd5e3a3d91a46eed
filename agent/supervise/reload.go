package supervise

import (
	"time"

	"github.com/agentd/agentd/agent/policy"
)

// SetPolicy changes what this node permits; nil permits everything. A container
// that runs is not stopped by a policy that got stricter.
func (s *Supervisor) SetPolicy(p *policy.Policy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.policy.Store(p)
	s.wakeWorkersLocked()
}

// Turned returns when the loop of Run last came round with its lock to be had,
// which it does every five seconds at least, however long the container runtime
// takes to answer; zero before Run.
func (s *Supervisor) Turned() time.Time {
	if at := s.turned.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

func (s *Supervisor) turn() {
	now := time.Now()
	s.turned.Store(&now)
}
