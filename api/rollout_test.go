package api

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func (s *stub) Rollout(_ context.Context, name string) (Rollout, error) {
	return Rollout{Schema: Schema, Daemon: name, MaxUnavailable: 2, Nodes: []RolloutNode{{Node: "web-1", State: TurnLate, Waits: WaitsLate}}}, s.err
}

func (s *stub) History(_ context.Context, name string) (History, error) {
	return History{Schema: Schema, Daemon: name, Revisions: []Revision{{Revision: 3, Outcome: OutcomeFinished, Spec: []byte("spec"),
		Signers: []Signer{{ID: "0123", Name: "alice"}}}}}, s.err
}

func TestRolloutAndHistory(t *testing.T) {
	socket, _ := serve(t, ServerConfig{Backend: &stub{}})
	c := NewClient(socket)
	ro, err := c.Rollout(t.Context(), "a")
	if err != nil || ro.Daemon != "a" || ro.MaxUnavailable != 2 || len(ro.Nodes) != 1 || ro.Nodes[0].Waits != WaitsLate {
		t.Errorf("%+v, %v", ro, err)
	}
	h, err := c.History(t.Context(), "a")
	if err != nil || h.Daemon != "a" || len(h.Revisions) != 1 || string(h.Revisions[0].Spec) != "spec" || h.Revisions[0].Signers[0].Name != "alice" {
		t.Errorf("%+v, %v", h, err)
	}
}

func TestRolloutRoutes(t *testing.T) {
	missing := &Problem{Status: 404, Detail: "there is no daemon"}
	for _, c := range []struct {
		who    caller
		target string
		err    error
		status int
	}{
		{asMember, "/v1/rollouts/a", nil, 200},
		{asMember, "/v1/history/a", nil, 200},
		{asOther, "/v1/rollouts/a", nil, 403},
		{asOther, "/v1/history/a", nil, 403},
		{asRoot, "/v1/rollouts/a", missing, 404},
		{asRoot, "/v1/history/a", missing, 404},
		{asRoot, "/v1/rollouts/A%20B", nil, 400},
		{asRoot, "/v1/history/a?all=1", nil, 400},
		{asRoot, "/v1/history/", nil, 404},
	} {
		srv := NewServer(ServerConfig{Backend: &stub{err: c.err}})
		if w := ask(t, srv, c.who, "GET", c.target, ""); w.Code != c.status {
			t.Errorf("%s: %d, want %d: %s", c.target, w.Code, c.status, w.Body)
		}
	}
}

// Readers rely on every key being there, and on lists that are lists.
func TestRolloutJSON(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	b, err := json.Marshal(Rollout{AppliedAt: at, Nodes: []RolloutNode{{}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"applied_at", "applied_by", "deleted", "max_unavailable", "paused_by", "rolled_back", "finished",
		"failures", "forgiven", "nodes", "lane", "place", "canary", "word", "waits", "waits_for", "lent_to", "phase", "pulled", "pull_total"} {
		if !strings.Contains(string(b), `"`+key+`":`) {
			t.Errorf("no %q in %s", key, b)
		}
	}
}
