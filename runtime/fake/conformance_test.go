package fake_test

import (
	"context"
	"encoding/json"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/runtime/fake"
	"github.com/agentd/agentd/runtime/runtimetest"
)

func TestConformance(t *testing.T) {
	runtimetest.Run(t, runtimetest.Harness{
		New:    newEnv,
		Around: synctest.Test,
		Cycles: 200,
	})
}

const otherImage = "agentd.test/other:1"

type env struct{ r *fake.Runtime }

func newEnv(*testing.T) runtimetest.Env {
	e := &env{}
	e.r = fake.New(fake.Config{
		Images:       map[string]string{otherImage: fake.Digest(otherImage)},
		PullLatency:  100 * time.Millisecond,
		StartLatency: 40 * time.Millisecond,
		StopLatency:  20 * time.Millisecond,
		Program:      program,
	})
	e.r.Import("img", fake.Digest("img"))
	return e
}

// program reads what Spec wrote into the arguments.
func program(s runtime.Spec) fake.Program {
	var p runtimetest.Program
	if len(s.Args) > 0 { // a foreign container has none
		if err := json.Unmarshal([]byte(s.Args[0]), &p); err != nil {
			return fake.Program{FailStart: err}
		}
	}
	return fake.Program{
		Exits: p.Exits || p.OOM, After: p.After + time.Millisecond, Code: uint32(p.Code), OOM: p.OOM, IgnoreStop: p.IgnoreTerm,
		Exec: func(ctx context.Context, argv []string) (int, error) {
			code, err := strconv.Atoi(argv[0])
			if err != nil {
				return 0, err
			}
			d, err := time.ParseDuration(argv[1])
			if err != nil {
				return 0, err
			}
			select {
			case <-time.After(d):
				return code, nil
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		},
	}
}

func (e *env) Runtime() runtime.Runtime             { return e.r }
func (e *env) Restarted(*testing.T) runtime.Runtime { return e.r }
func (e *env) OtherImage() (ref, digest string)     { return otherImage, fake.Digest(otherImage) }
func (e *env) Argv(code int, d time.Duration) []string {
	return []string{strconv.Itoa(code), d.String()}
}

func (e *env) Spec(_ string, p runtimetest.Program) runtime.Spec {
	if p.OOM {
		p.Code = 128 + 9
	}
	b, err := json.Marshal(p)
	if err != nil {
		panic(err)
	}
	return runtime.Spec{Image: "img", Args: []string{string(b)}}
}

func (e *env) Copies(_ *testing.T, id string) int {
	if i, ok := e.r.Instance(id); ok && i.PID != 0 {
		return 1
	}
	return 0
}

func (e *env) Settled(*testing.T, string) {}

func (e *env) Kill(t *testing.T, id string) {
	if !e.r.Kill(id) {
		t.Fatalf("%s does not run", id)
	}
}

func (e *env) Halve(_ *testing.T, s runtime.Spec, h runtimetest.Half) {
	states := map[runtimetest.Half]runtime.State{
		runtimetest.NoTask: runtime.StateCreated, runtimetest.Created: runtime.StateCreated,
		runtimetest.Stopped: runtime.StateStopped, runtimetest.Paused: runtime.StatePaused,
	}
	state, ok := states[h]
	if !ok {
		state = runtime.StateBroken
	}
	e.r.Put(s, state)
}

func (e *env) Foreign(_ *testing.T, id string) func() bool {
	e.r.PutForeign(id)
	before, _ := e.r.Instance(id)
	return func() bool {
		now, ok := e.r.Instance(id)
		return ok && now.PID == before.PID && now.Labels[runtime.LabelDaemon] == ""
	}
}

func (e *env) Outage(_ *testing.T, f func()) {
	e.r.SetUnavailable(true)
	defer e.r.SetUnavailable(false)
	f()
}
