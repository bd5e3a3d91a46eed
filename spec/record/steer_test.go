package record

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func anyVersion(t *rapid.T) Version {
	return Version{rapid.Uint64Range(1, MaxGeneration).Draw(t, "generation"), Digest{1, rapid.Byte().Draw(t, "digest")}}
}

func TestPauseRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		forgiven := rapid.SliceOfN(rapid.SampledFrom(nodes(9)), 0, 9).Draw(t, "forgiven")
		p := Pause{Daemon: "web", Paused: rapid.Bool().Draw(t, "paused"), Version: anyVersion(t), Forgiven: forgiven}
		b, err := EncodePause(p)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodePause(b)
		p.Forgiven = slices.Compact(slices.SortedFunc(slices.Values(forgiven), compareID))
		if err != nil || !reflect.DeepEqual(got, p) {
			t.Fatalf("%+v came back as %+v, %v from %s", p, got, err, b)
		}
		p.Forgiven = rapid.Permutation(forgiven).Draw(t, "order")
		if again, err := EncodePause(p); err != nil || string(again) != string(b) {
			t.Fatalf("the order of the forgiven matters: %s, %s, %v", b, again, err)
		}
	})
}

func TestSkipRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Skip{Daemon: "web", Node: rapid.StringMatching(`[a-zA-Z0-9 ._-]{1,60}`).Draw(t, "node"),
			ID: node(rapid.IntRange(0, 9).Draw(t, "id")), Version: anyVersion(t)}
		b, err := EncodeSkip(s)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := DecodeSkip(b); err != nil || got != s {
			t.Fatalf("%+v came back as %+v, %v from %s", s, got, err, b)
		}
	})
}

// Control records never share a key by accident, and every key is valid.
func TestControlKeys(t *testing.T) {
	long := strings.Repeat("x", MaxName)
	keys := map[Key]string{}
	for what, k := range map[string]Key{
		"pause web":             PauseKey("web"),
		"pause a long name":     PauseKey(long),
		"pause another":         PauseKey(long[1:]),
		"pause hash":            PauseKey("hash"),
		"skip web on n":         SkipKey("web", NodeID{1}),
		"skip web on a.b":       SkipKey("web", NodeID{2}),
		"skip we on b-n":        SkipKey("we", NodeID{1}),
		"skip a dotted daemon":  SkipKey("web.a", NodeID{1}),
		"skip long on n":        SkipKey(long, NodeID{1}),
		"skip long on m":        SkipKey(long, NodeID{2}),
		"skip a daemon hash":    SkipKey("hash", NodeID{1}),
		"forget web.n":          ForgetKey("web.n"),
		"forget a hash":         ForgetKey("hash.x"),
		"forget a long name":    ForgetKey(long),
		"skip nothing of sorts": SkipKey("", NodeID{}),
	} {
		if err := k.Valid(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if other, twice := keys[k]; twice {
			t.Errorf("%s and %s share %s", what, other, k)
		}
		keys[k] = what
	}
	for _, want := range []struct {
		got  Key
		text string
	}{
		{PauseKey("web"), "control/pause.web"},
		{SkipKey("web", NodeID{1}), "control/skip.web.01000000000000000000000000000000"},
	} {
		if want.got.String() != want.text {
			t.Errorf("%s, want %s", want.got, want.text)
		}
	}
}

func TestDecodeControlRefuses(t *testing.T) {
	version := fmt.Sprintf(`"generation":3,"digest":"%s"`, Digest{1})
	id := func(n byte) string { return `"` + NodeID{n}.String() + `"` }
	pause := func(rest string) string { return `{"schema":1,"daemon":"web","paused":true,` + rest + `}` }
	skip := func(rest string) string {
		return `{"schema":1,"daemon":"web","node":"n","id":` + id(1) + `,` + rest + `}`
	}
	tests := []struct {
		name, key, body string
		good, newer     bool
	}{
		{"a pause", "pause.web", pause(version), true, false},
		{"a pause that forgives", "pause.web", pause(version + `,"forgiven":[` + id(1) + `,` + id(2) + `]`), true, false},
		{"a skip", "skip.web." + NodeID{1}.String(), skip(version), true, false},
		{"a newer pause", "pause.web", `{"schema":2}`, false, true},
		{"a newer key of a pause", "pause.web", pause(version + `,"until":"x"`), false, true},
		{"a newer key of a skip", "skip.web." + NodeID{1}.String(), skip(version + `,"until":"x"`), false, true},
		{"no JSON", "pause.web", `paused`, false, false},
		{"no daemon", "pause.web", `{"schema":1,"paused":true,` + version + `}`, false, false},
		{"neither paused nor resumed", "pause.web", `{"schema":1,"daemon":"web",` + version + `}`, false, false},
		{"a word for a truth", "pause.web", `{"schema":1,"daemon":"web","paused":"yes",` + version + `}`, false, false},
		{"null for a truth", "pause.web", `{"schema":1,"daemon":"web","paused":null,` + version + `}`, false, false},
		{"a key twice", "pause.web", pause(version + `,"paused":false`), false, false},
		{"no version", "pause.web", `{"schema":1,"daemon":"web","paused":true}`, false, false},
		{"generation 0", "pause.web", pause(fmt.Sprintf(`"generation":0,"digest":"%s"`, Digest{1})), false, false},
		{"no digest", "pause.web", pause(`"generation":1`), false, false},
		{"a zero digest", "pause.web", pause(fmt.Sprintf(`"generation":1,"digest":"%s"`, Digest{})), false, false},
		{"forgives nobody", "pause.web", pause(version + `,"forgiven":[]`), false, false},
		{"forgives null", "pause.web", pause(version + `,"forgiven":null`), false, false},
		{"forgives twice", "pause.web", pause(version + `,"forgiven":[` + id(1) + `,` + id(1) + `]`), false, false},
		{"forgives in disorder", "pause.web", pause(version + `,"forgiven":[` + id(2) + `,` + id(1) + `]`), false, false},
		{"forgives no id", "pause.web", pause(version + `,"forgiven":["web-1"]`), false, false},
		{"pauses another daemon", "pause.other", pause(version), false, false},
		{"not the name of a daemon", "pause.web", `{"schema":1,"daemon":"Web","paused":true,` + version + `}`, false, false},
		{"skips no node", "skip.web." + NodeID{1}.String(), `{"schema":1,"daemon":"web","node":"","id":` + id(1) + `,` + version + `}`, false, false},
		{"skips nobody", "skip.web." + NodeID{1}.String(), `{"schema":1,"daemon":"web","node":"n","id":` + id(0) + `,` + version + `}`, false, false},
		{"skips a name only", "skip.web." + NodeID{1}.String(), `{"schema":1,"daemon":"web","node":"n",` + version + `}`, false, false},
		{"skips what is no id", "skip.web." + NodeID{1}.String(), `{"schema":1,"daemon":"web","node":"n","id":"n",` + version + `}`, false, false},
		{"a node with a line end", "skip.web." + NodeID{1}.String(), `{"schema":1,"daemon":"web","node":"a\nb","id":` + id(1) + `,` + version + `}`, false, false},
		{"skips another node", "skip.web.m", skip(version), false, false},
		{"skips of another daemon", "skip.we.b-n", skip(version), false, false},
		{"an operation of a newer agentd", "hold.web", `whatever`, true, false},
	}
	k := testKey(1)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			decode := func() (err error) { _, err = DecodePause([]byte(tt.body)); return err }
			if strings.HasPrefix(tt.key, "skip.") {
				decode = func() (err error) { _, err = DecodeSkip([]byte(tt.body)); return err }
			}
			if err := decode(); err != nil && !known(err) || errors.Is(err, ErrNewer) != tt.newer {
				t.Errorf("decoded with %v", err)
			}
			// Nonsense is refused where it is handed in; what a newer agentd
			// says is kept and passed on.
			key := Key{KindControl, tt.key}
			r := mustVerify(t, mustSign(t, Next(Entry{}, ringA(), key, "a", epoch()), []byte(tt.body), k), trustOf(k))
			if err := Admit(Entry{}, r); (err == nil) != (tt.good || tt.newer) {
				t.Errorf("admitted with %v", err)
			}
		})
	}
	for _, p := range []Pause{{}, {Daemon: "web"}, {Daemon: "web", Version: Version{1, Digest{1}}, Forgiven: nodes(maxForgiven + 1)}} {
		if _, err := EncodePause(p); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d forgiven of %q were encoded: %v", len(p.Forgiven), p.Daemon, err)
		}
	}
	if b, err := EncodePause(Pause{Daemon: "web", Version: Version{1, Digest{1}}, Forgiven: nodes(maxForgiven)}); err != nil || len(b) > MaxBody {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if _, err := EncodeSkip(Skip{Daemon: "web", Node: "n", Version: Version{1, Digest{1}}}); !errors.Is(err, ErrMalformed) {
		t.Errorf("a skip of nobody was encoded: %v", err)
	}
}

func FuzzDecodePause(f *testing.F) {
	f.Add([]byte(fmt.Sprintf(`{"schema":1,"daemon":"web","paused":false,"generation":3,"digest":"%s","forgiven":["%s"]}`, Digest{1}, NodeID{1})))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := DecodePause(b)
		if err != nil {
			if !known(err) {
				t.Fatalf("unexpected error: %v", err)
			}
			return
		}
		if err := PauseKey(p.Daemon).Valid(); err != nil {
			t.Fatal(err)
		}
		raw, err := EncodePause(p)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := DecodePause(raw); err != nil || !reflect.DeepEqual(again, p) {
			t.Fatalf("%+v came back as %+v, %v", p, again, err)
		}
	})
}

func FuzzDecodeSkip(f *testing.F) {
	f.Add([]byte(fmt.Sprintf(`{"schema":1,"daemon":"web","node":"n","id":"%s","generation":3,"digest":"%s"}`, NodeID{1}, Digest{1})))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeSkip(b)
		if err != nil {
			if !known(err) {
				t.Fatalf("unexpected error: %v", err)
			}
			return
		}
		if err := SkipKey(s.Daemon, s.ID).Valid(); err != nil {
			t.Fatal(err)
		}
		raw, err := EncodeSkip(s)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := DecodeSkip(raw); err != nil || again != s {
			t.Fatalf("%+v came back as %+v, %v", s, again, err)
		}
	})
}
