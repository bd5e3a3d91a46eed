package supervise

// Trouble says why no decision is made now, in words; "" while they are made.
func (s *Supervisor) Trouble() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.frozen
}
