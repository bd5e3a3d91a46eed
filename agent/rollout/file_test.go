package rollout

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func someStates() map[string]State {
	in := scene()
	holding(&in)
	lender := doneAt(2)
	lender.Lent = &Loan{To: idOf(3), For: at(2), Word: 7}
	return map[string]State{"web": in.State, "db": lender, "log": {Observed: vetoed(3), Failed: gen(3), Asks: idOf(1)}}
}

func sameStates(a, b map[string]State) bool {
	return maps.EqualFunc(a, b, State.Equal)
}

func statesOf(k *Keeper) map[string]State {
	out := map[string]State{}
	for _, name := range k.Names() {
		out[name] = k.State(name)
	}
	return out
}

// What is saved is what is opened.
func TestFileRoundTrip(t *testing.T) {
	f := File{filepath.Join(t.TempDir(), "rollout.state")}
	who := Identity{Node: idOf(0), Salt: "00ff", Past: []string{""}}
	if err := f.Save(who, someStates()); err != nil {
		t.Fatal(err)
	}
	k, lost, err := f.Open(idOf(0), false)
	if err != nil || lost != "" || k.ID() != who.ID() || !sameStates(statesOf(k), someStates()) {
		t.Errorf("id %v, lost %q, %v, states %+v", k.ID(), lost, err, statesOf(k))
	}
	if k.Past()[0] != idOf(0) {
		t.Errorf("past %v", k.Past())
	}
}

// A node is a member of lanes under its own id if it is new. One that was here
// before and has no state, another node's, or one that can't be read, is not.
func TestOpen(t *testing.T) {
	for _, c := range []struct {
		name  string
		isNew bool
		make  func(f File) error
		own   bool   // it is the node's own id
		lost  string // part of the reason
	}{
		{"a new node", true, nil, true, ""},
		{"a node that was here before", false, nil, false, "is gone"},
		{"rubbish", false, func(f File) error { return os.WriteFile(f.Path, []byte("rubbish"), 0o600) }, false, "the checksum does not match"},
		{"rubbish on a new node", true, func(f File) error { return os.WriteFile(f.Path, nil, 0o600) }, false, "the checksum does not match"},
		{"a folder", false, func(f File) error { return os.Mkdir(f.Path, 0o700) }, false, "is a directory"},
		{"of another key: the id is new already", false, func(f File) error { return f.Save(Identity{Node: idOf(1)}, someStates()) }, true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := File{filepath.Join(t.TempDir(), "rollout.state")}
			if c.make != nil {
				if err := c.make(f); err != nil {
					t.Fatal(err)
				}
			}
			k, lost, err := f.Open(idOf(0), c.isNew)
			if err != nil || (k.ID() == idOf(0)) != c.own || len(k.Names()) != 0 || !strings.Contains(lost, c.lost) || (lost == "") != (c.lost == "") {
				t.Errorf("id %v, states of %v, lost %q, %v", k.ID(), k.Names(), lost, err)
			}
			// The id is kept from then on.
			again, lost, err := f.Open(idOf(0), false)
			if err != nil || lost != "" || again.ID() != k.ID() {
				t.Errorf("opened again: id %v, lost %q, %v", again.ID(), lost, err)
			}
		})
	}
}

// A disk that can't be written to gives a keeper that changes nothing.
func TestOpenWithoutDisk(t *testing.T) {
	f := File{filepath.Join(t.TempDir(), "missing", "rollout.state")}
	k, _, err := f.Open(idOf(0), true)
	if err == nil {
		t.Fatal("no error")
	}
	if d := k.Advance(map[string]Input{"web": scene()})["web"]; d.Wait.Code != WaitDisk {
		t.Errorf("waits %+v", d.Wait)
	}
}

// Whichever byte is flipped, and wherever the file is cut off: it is put aside,
// and the node takes part under a new id, never with a wrong state.
func TestDamagedFile(t *testing.T) {
	f := File{filepath.Join(t.TempDir(), "rollout.state")}
	if err := f.Save(Identity{Node: idOf(0)}, someStates()); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(f.Path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := func(what string, at int, raw []byte) {
		if who, states, err := decodeFile(raw); err == nil {
			t.Fatalf("%s at %d: %v, %+v", what, at, who, states)
		}
		if at%97 != 0 {
			return // all the rest of Open is the same, and slow
		}
		if err := os.WriteFile(f.Path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		k, lost, err := f.Open(idOf(0), false)
		if err != nil || lost == "" || k.ID() == idOf(0) || len(k.Names()) != 0 {
			t.Fatalf("%s at %d: id %v, states of %v, lost %q, %v", what, at, k.ID(), k.Names(), lost, err)
		}
		if aside, err := os.ReadFile(f.Path + ".corrupt"); err != nil || string(aside) != string(raw) {
			t.Fatalf("%s at %d: not put aside: %v", what, at, err)
		}
	}
	for i := range good {
		for bit := range 8 {
			raw := append([]byte{}, good...)
			raw[i] ^= 1 << bit
			damaged("a flipped bit", i, raw)
		}
		damaged("an end", i, good[:i])
	}
	damaged("a byte more", 0, append(append([]byte{}, good...), ' '))
}

// FuzzDecodeFile: no bytes crash it, and what it takes it gives again.
func FuzzDecodeFile(f *testing.F) {
	file := File{filepath.Join(f.TempDir(), "rollout.state")}
	for _, states := range []map[string]State{nil, someStates()} {
		if err := file.Save(Identity{Node: idOf(0), Salt: "01"}, states); err != nil {
			f.Fatal(err)
		}
		raw, err := os.ReadFile(file.Path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw[:64], raw[65:])
	}
	f.Fuzz(func(t *testing.T, head, body []byte) {
		for _, raw := range [][]byte{append(append(append([]byte{}, head...), '\n'), body...), sealed(body)} {
			who, states, err := decodeFile(raw)
			if err != nil {
				continue
			}
			file := File{filepath.Join(t.TempDir(), "rollout.state")}
			if err := file.Save(who, states); err != nil {
				t.Fatal(err)
			}
			k, lost, err := file.Open(who.Node, false)
			if err != nil || lost != "" || k.ID() != who.ID() || !sameStates(statesOf(k), states) {
				t.Fatalf("%+v became %+v (lost %q, %v)", states, statesOf(k), lost, err)
			}
		}
	})
}
