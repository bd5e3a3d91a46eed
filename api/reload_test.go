package api

import (
	"context"
	"testing"
)

func (s *stub) Reload(context.Context) (Reloaded, error) {
	return Reloaded{Schema: Schema, Changed: []string{"node.labels"}, Restart: []string{"ring.bind"}}, s.err
}

func (s *stub) Reach(context.Context) (Reach, error) {
	return Reach{Schema: Schema, Peers: []ReachPeer{{Node: "web-2", Sees: "alive", Skew: 0.25}}}, s.err
}

func TestReach(t *testing.T) {
	socket, _ := serve(t, ServerConfig{Backend: &stub{}})
	got, err := NewClient(socket).Reach(t.Context())
	if err != nil || len(got.Peers) != 1 || got.Peers[0].Skew != 0.25 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestReload(t *testing.T) {
	refusal := &Problem{Status: 409, Title: "Conflict", Detail: "agentd.toml:3: unknown key"}
	for _, want := range []error{nil, refusal} {
		s := &stub{}
		if want != nil {
			s.err = want
		}
		socket, _ := serve(t, ServerConfig{Backend: s})
		got, err := NewClient(socket).Reload(t.Context())
		if want != nil {
			if err == nil || err.Error() != want.Error() {
				t.Errorf("error %v", err)
			}
			continue
		}
		if err != nil || len(got.Changed) != 1 || len(got.Restart) != 1 {
			t.Errorf("%+v, %v", got, err)
		}
	}
}

// Reading the configuration again is root's: the group may only look.
func TestReloadNeedsRoot(t *testing.T) {
	for _, rt := range NewServer(ServerConfig{Backend: &stub{}}).routes() {
		if rt.pattern == "POST /v1/reload" && rt.right == rightAdmin {
			return
		}
	}
	t.Error("POST /v1/reload is not root's alone")
}
