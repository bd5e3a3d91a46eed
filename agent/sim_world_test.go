//go:debug randseednop=0

// The line above makes memberlist's choices, which it takes from the global
// math/rand, repeatable.

package agent

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"hash/fnv"
	"log/slog"
	oldrand "math/rand"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd/agentd/gossip/peer"
	"github.com/agentd/agentd/gossip/sim"
	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/runtime/fake"
	"github.com/agentd/agentd/spec/record"
)

// Simulated rings of whole agents: the loop, the store, the keeper of turns, the
// supervisor, the book and memberlist are the real ones, inside a bubble of
// testing/synctest. Only sockets and containerd are not there: gossip/sim is the
// network, runtime/fake runs the containers. A bystander watches the containers,
// and asks no agent.
var (
	simSeed  = flag.Uint64("sim.seed", 1, "first seed of the simulations")
	simSeeds = flag.Int("sim.seeds", 0, "how many seeds TestSimulate runs, 0: a few")
	simNodes = flag.Int("sim.nodes", 0, "how many nodes TestSimulate's rings have, 0: few")
	simLog   = flag.Bool("sim.log", false, "print what happens in the simulations, and the agents' logs")
)

// simDaemon is the daemon whose rollouts are simulated.
const simDaemon = "web"

// world is one simulated ring. Its methods run inside the bubble, those without
// a remark on the test's own goroutine.
type world struct {
	t         testing.TB
	seed      uint64
	rng       *rand.Rand
	net       *sim.Net
	dir       string
	ring      record.RingID
	operators []record.PrivateKey
	trust     *record.Trust
	authority *peer.Authority
	nodes     []*machine
	by        *bystander
	dead      sync.WaitGroup // agents that are ending
	began     time.Time
	overlap   bool // surge: two containers of a daemon may run on a node

	telling sync.Mutex
	story   []string // guarded by telling

	mu     sync.Mutex
	images map[string]image                  // guarded by mu: by reference
	trap   func(m *machine, op fake.Op) bool // guarded by mu: which agents die in the act
}

// image is how a revision behaves.
type image struct {
	warm time.Duration // from its start until it is ready
	vary float64       // of warm: the coefficient of variation over nodes
	pull time.Duration // of a download
	// On the nodes whose share (see share) is below it, the revision ...
	crashes  float64 // ends soon after each start
	unready  float64 // is never ready
	missing  float64 // can't be pulled
	crashing time.Duration
}

// newWorld makes an empty world. Everything that it draws follows from the seed.
func newWorld(t testing.TB, seed uint64, cfg sim.Config) *world {
	t.Helper()
	cfg.Seed = seed
	oldrand.Seed(int64(seed)) //nolint:staticcheck // the only way to seed memberlist
	w := &world{
		t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 77)), net: sim.New(cfg),
		ring: record.RingID{5, byte(seed)}, images: map[string]image{}, began: time.Now(),
	}
	w.dir = simDir(t)
	for _, name := range []string{"alice", "bob"} {
		key, err := record.GenerateKey(name)
		if err != nil {
			t.Fatal(err)
		}
		w.operators = append(w.operators, key)
	}
	w.trust = record.NewTrust(w.operators[0].Public(), w.operators[1].Public())
	var err error
	if w.authority, err = peer.DeriveAuthority([][]byte{sim.Key()}, w.ring.String()); err != nil {
		t.Fatal(err)
	}
	w.by = newBystander(w)
	return w
}

// simDir is a folder in memory where there is one: a hundred nodes sync a lot.
func simDir(t testing.TB) string {
	t.Helper()
	const memory = "/dev/shm"
	if info, err := os.Stat(memory); err != nil || !info.IsDir() {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(memory, "agentd-sim-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// inBubble runs f in a world, ends all that runs in it, and tells how to repeat
// a failure.
func inBubble(t *testing.T, seed uint64, cfg sim.Config, f func(w *world)) {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // a hundred agents in one process
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, seed, cfg)
		defer func() {
			if t.Failed() {
				w.tell()
			}
			w.end()
			if t.Failed() {
				t.Logf("seed %d failed; repeat with: go test ./agent -run '^%s$' -sim.seed=%d -sim.seeds=1 -sim.nodes=%d", seed, t.Name(), seed, *simNodes)
			}
		}()
		f(w)
	})
}

// say tells what happens, for whoever looks into a failure: it comes with the
// failure, since the order of goroutines does not follow from the seed.
func (w *world) say(format string, args ...any) {
	line := fmt.Sprintf("%9.3f %s", time.Since(w.began).Seconds(), fmt.Sprintf(format, args...))
	w.telling.Lock()
	defer w.telling.Unlock()
	w.story = append(w.story, line)
	if *simLog {
		fmt.Fprintln(os.Stderr, line)
	}
}

// tell prints the last of what happened.
func (w *world) tell() {
	w.telling.Lock()
	defer w.telling.Unlock()
	const most = 400
	w.t.Logf("what happened:\n%s", strings.Join(w.story[max(0, len(w.story)-most):], "\n"))
}

// logger is an agent's.
func (w *world) logger(node string) *slog.Logger {
	if !*simLog {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo})).With("at", node)
}

// share is a number in [0, 1) that belongs to things, always the same in a seed.
func (w *world) share(of ...string) float64 {
	h := fnv.New64a()
	for _, s := range of {
		_, _ = h.Write(append([]byte(s), 0)) // never fails
	}
	return rand.New(rand.NewPCG(w.seed, h.Sum64())).Float64()
}

// warm is how long a node takes to make the image ready.
func (w *world) warm(ref, node string) time.Duration {
	i := w.image(ref)
	h := fnv.New64a()
	_, _ = h.Write([]byte(ref + "\x00" + node)) // never fails
	f := 1 + i.vary*rand.New(rand.NewPCG(w.seed, h.Sum64())).NormFloat64()
	return time.Duration(float64(i.warm) * max(0.3, min(f, 1.7)))
}

func (w *world) image(ref string) image {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.images[ref]
}

// behaves says how the image fares on a node.
func (w *world) behaves(ref, node string) (crashes, unready, missing bool) {
	i, x := w.image(ref), w.share(ref, node)
	return x < i.crashes, x >= 0.25 && x-0.25 < i.unready, x >= 0.5 && x-0.5 < i.missing
}

// program is what runs in a container.
func (w *world) program(node string, s runtime.Spec) fake.Program {
	crashes, unready, missing := w.behaves(s.Image, node)
	if missing {
		return fake.Program{FailStart: fmt.Errorf("exec /bin/%s: no such file", s.Image)}
	}
	born, warm := time.Now(), w.warm(s.Image, node)
	return fake.Program{
		Exits: crashes, After: cmp.Or(w.image(s.Image).crashing, 700*time.Millisecond), Code: 3,
		Exec: func(context.Context, []string) (int, error) {
			if unready || time.Since(born) < warm {
				return 1, nil
			}
			return 0, nil
		},
	}
}

// grow adds machines up to n and waits until all see all.
func (w *world) grow(n int) {
	w.t.Helper()
	for len(w.nodes) < n {
		w.add().start()
		// memberlist does not shift its tickers.
		time.Sleep(37 * time.Millisecond)
	}
	w.await(2*time.Minute, "everybody sees everybody", func() string {
		for _, m := range w.nodes {
			if m.agent != nil && m.agent.ring.NumAlive() != len(w.nodes) {
				return fmt.Sprintf("%s sees %d", m.name, m.agent.ring.NumAlive())
			}
		}
		return ""
	})
}

// add puts one more machine there, without an agent.
func (w *world) add() *machine {
	name := sim.Name(len(w.nodes))
	m := &machine{w: w, name: name, boot: 1}
	m.fresh()
	w.nodes = append(w.nodes, m)
	m.rt = fake.New(fake.Config{
		PullLatency: 300 * time.Millisecond, StartLatency: 100 * time.Millisecond, StopLatency: 200 * time.Millisecond,
		Program: func(s runtime.Spec) fake.Program { return w.program(name, s) },
		Watch:   func(c fake.Change) { w.by.saw(m, c) },
	})
	return m
}

// running are the machines with an agent that lives.
func (w *world) running() []*machine {
	return slices.DeleteFunc(slices.Clone(w.nodes), func(m *machine) bool { return m.agent == nil || m.link.cut.Load() })
}

// pick draws one of the machines.
func (w *world) pick(of []*machine) *machine {
	if len(of) == 0 {
		return nil
	}
	return of[w.rng.IntN(len(of))]
}

// await waits until ok says nothing, and returns the virtual time that it took.
func (w *world) await(limit time.Duration, what string, ok func() string) time.Duration {
	w.t.Helper()
	begin, why := time.Now(), ""
	for {
		synctest.Wait()
		if w.t.Failed() {
			w.t.FailNow()
		}
		if why = ok(); why == "" {
			return time.Since(begin)
		}
		if time.Since(begin) > limit {
			w.t.Fatalf("not within %s: %s: %s", limit, what, why)
		}
		time.Sleep(250 * time.Millisecond)
	}
}

// pass lets virtual time go by, and stops at the first failure.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	for end := time.Now().Add(d); ; {
		left := min(time.Until(end), time.Second)
		if left <= 0 {
			return
		}
		time.Sleep(left)
		if w.t.Failed() {
			w.t.FailNow()
		}
	}
}

// end stops every agent and waits for what is still under way: a bubble has to
// be empty in the end.
func (w *world) end() {
	for _, m := range w.nodes {
		m.rt.SetUnavailable(false)
		m.crash()
	}
	w.net.Heal()
	w.dead.Wait()
	time.Sleep(time.Minute)
}

func (w *world) names(ms []*machine) []string {
	var out []string
	for _, m := range ms {
		out = append(out, m.name)
	}
	return out
}

// failf reports a broken promise. It may be called from any goroutine.
func (w *world) failf(format string, args ...any) {
	w.t.Errorf("at %.3f s: %s", time.Since(w.began).Seconds(), fmt.Sprintf(format, args...))
}
