package supervise

import "github.com/agentd/agentd/runtime"

// Present reports whether processes of a daemon's containers exist, as far as
// the last look at the runtime tells; known is false before the first.
func (s *Supervisor) Present(daemon string) (alive, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.view.byName[daemon] {
		if i.State == runtime.StateRunning || i.State == runtime.StatePaused {
			alive = true
		}
	}
	return alive, s.view.taken > 0
}

// Started returns what was started last on the node with that data_dir: the
// daemon as it was rendered there. What was deleted since does not count.
func Started(dataDir, daemon string) (Desired, bool) {
	d := readCurrent(dataDir, daemon)
	if d == nil || d.Deleted {
		return Desired{}, false
	}
	return *d, true
}
