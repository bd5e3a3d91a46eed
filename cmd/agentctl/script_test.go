package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/agentd/agentd/agent/config"
	"github.com/agentd/agentd/api"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"agentctl": main, "agentctl-installed": installedMain, "mksocket": mksocket})
}

// TestScripts runs testdata/*.txtar. Besides testscript's own commands there are
//
//	agent DIR         starts a fake agentd on the configuration in DIR
//	agent-stop DIR    stops it
//	scene DIR FILE    makes the fake tell what FILE says (see fakeScenario)
//	exits N CMD…      runs CMD and checks its exit code
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("USER", "alice")
			env.Values[fakesKey{}] = map[string]*fakeAgent{}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"agent":      startAgent,
			"agent-stop": func(ts *testscript.TestScript, _ bool, args []string) { agentOf(ts, args[0]).stop() },
			"scene":      scene,
			"exits":      exits,
		},
		UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
	})
}

type fakesKey struct{}

type fakeAgent struct {
	ring *fakeRing
	stop func()
}

func agentOf(ts *testscript.TestScript, dir string) *fakeAgent {
	a, ok := ts.Value(fakesKey{}).(map[string]*fakeAgent)[dir]
	if !ok {
		ts.Fatalf("no agent runs on %s", dir)
	}
	return a
}

func startAgent(ts *testscript.TestScript, _ bool, args []string) {
	cfg, err := config.Load(ts.MkAbs(filepath.Join(args[0], "agentd.toml")))
	ts.Check(err)
	ring, err := newFakeRing(cfg)
	ts.Check(err)
	srv := api.NewServer(api.ServerConfig{Socket: cfg.API.Socket, Backend: ring})
	ts.Check(srv.Listen())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	stopped := false
	stop := func() {
		if !stopped {
			stopped = true
			cancel()
			ts.Check(<-done)
		}
	}
	ts.Defer(stop)
	ts.Value(fakesKey{}).(map[string]*fakeAgent)[args[0]] = &fakeAgent{ring, stop}
	ts.Setenv("AGENTCTL_SOCKET", cfg.API.Socket)
}

func scene(ts *testscript.TestScript, _ bool, args []string) {
	var s fakeScenario
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile(args[1])))
	dec.DisallowUnknownFields()
	ts.Check(dec.Decode(&s))
	agentOf(ts, args[0]).ring.play(s)
}

func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d; stdout:\n%sstderr:\n%s", got, want, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}
