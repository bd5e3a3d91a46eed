package api

import "net/http"

func (s *Server) getRollout(w http.ResponseWriter, r *http.Request) error {
	b, ok := s.cfg.Backend.(Rollouts)
	if !ok {
		return notSupported(w, r)
	}
	ro, err := b.Rollout(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	return sendJSON(w, ro)
}

func (s *Server) getHistory(w http.ResponseWriter, r *http.Request) error {
	b, ok := s.cfg.Backend.(Rollouts)
	if !ok {
		return notSupported(w, r)
	}
	h, err := b.History(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	return sendJSON(w, h)
}
