package api

import "net/http"

func (s *Server) getRollout(w http.ResponseWriter, r *http.Request) error {
	ro, err := s.cfg.Backend.Rollout(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	return sendJSON(w, ro)
}

func (s *Server) getHistory(w http.ResponseWriter, r *http.Request) error {
	h, err := s.cfg.Backend.History(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	return sendJSON(w, h)
}
