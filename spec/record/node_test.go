package record

import (
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func text(s string) *string { return &s }

func anyNode() *rapid.Generator[NodeBody] {
	return rapid.Custom(func(t *rapid.T) NodeBody {
		n := NodeBody{Cordoned: rapid.Bool().Draw(t, "cordoned"), Draining: rapid.Bool().Draw(t, "draining")}
		for k, v := range rapid.MapOfN(rapid.StringMatching(`([a-z]{1,5}/)?[a-zA-Z]{1,5}`), rapid.StringMatching(`[a-z0-9]{0,5}`), 0, 3).Draw(t, "labels") {
			if n.Labels == nil {
				n.Labels = map[string]*string{}
			}
			n.Labels[k] = &v
			if v == "" && rapid.Bool().Draw(t, "removed") {
				n.Labels[k] = nil
			}
		}
		if rapid.Bool().Draw(t, "tainted") {
			n.Taints = append([]string{}, rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z]{1,5}(=[a-z]{0,3})?:No(Execute|Schedule)`), 0, 3, rapid.ID).Draw(t, "taints")...)
		}
		return n
	})
}

func TestNodeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := anyNode().Draw(t, "node")
		b, err := EncodeNode(n)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeNode(b)
		if err != nil || !reflect.DeepEqual(got, n) {
			t.Fatalf("%+v came back as %+v, %v from %s", n, got, err, b)
		}
	})
}

// What the record says is laid over what the node's own file says.
func TestNodeOver(t *testing.T) {
	own, ownTaints := map[string]string{"role": "edge", "rack": "a"}, []string{"a:NoSchedule"}
	tests := []struct {
		name   string
		body   NodeBody
		labels map[string]string
		taints []string
	}{
		{"no record", NodeBody{}, own, ownTaints},
		{"set, replaced and removed", NodeBody{Labels: map[string]*string{"role": text("db"), "rack": nil, "new": text("")}},
			map[string]string{"role": "db", "new": ""}, ownTaints},
		{"other taints", NodeBody{Taints: []string{"b=c:NoExecute"}}, own, []string{"b=c:NoExecute"}},
		{"no taints", NodeBody{Taints: []string{}}, own, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			labels, taints := tt.body.Over(own, ownTaints)
			if !maps.Equal(labels, tt.labels) || !slices.Equal(taints, tt.taints) {
				t.Errorf("got %v and %v", labels, taints)
			}
		})
	}
	if len(own) != 2 || own["role"] != "edge" {
		t.Errorf("the node's own labels became %v", own)
	}
	if labels, _ := (NodeBody{Labels: map[string]*string{"a": text("b")}}).Over(nil, nil); labels["a"] != "b" {
		t.Errorf("a node without labels got %v", labels)
	}
}

func TestDecodeNodeRefuses(t *testing.T) {
	tests := []struct {
		name, body string
		newer      bool
	}{
		{"no JSON", `x`, false},
		{"no schema", `{"cordoned":true}`, false},
		{"a later schema", `{"schema":2}`, true},
		{"a later key", `{"schema":1,"zone":"a"}`, true},
		{"a key twice", `{"schema":1,"cordoned":true,"cordoned":false}`, false},
		{"a label twice", `{"schema":1,"labels":{"a":"b","a":"c"}}`, false},
		{"a label that is a number", `{"schema":1,"labels":{"a":1}}`, false},
		{"labels that are a list", `{"schema":1,"labels":["a"]}`, false},
		{"a label with a line end", `{"schema":1,"labels":{"a":"b\nc"}}`, false},
		{"a label without a name", `{"schema":1,"labels":{"":"b"}}`, false},
		{"a long value", `{"schema":1,"labels":{"a":"` + strings.Repeat("x", 64) + `"}}`, false},
		{"no taints", `{"schema":1,"taints":null}`, false},
		{"an empty taint", `{"schema":1,"taints":[""]}`, false},
		{"a taint twice", `{"schema":1,"taints":["a:NoExecute","a:NoExecute"]}`, false},
		{"a word for a truth", `{"schema":1,"draining":"yes"}`, false},
	}
	k := testKey(1)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := DecodeNode([]byte(tt.body))
			if err == nil || errors.Is(err, ErrNewer) != tt.newer || !tt.newer && !errors.Is(err, ErrMalformed) {
				t.Errorf("got %v", err)
			}
			// Nonsense is refused where it is handed in; what a newer agentd
			// says is kept and passed on.
			r := mustVerify(t, mustSign(t, Next(Entry{}, ringA(), NodeKey("web-1"), "a", epoch()), []byte(tt.body), k), trustOf(k))
			if err := Admit(Entry{}, r); (err == nil) != tt.newer {
				t.Errorf("admitted with %v", err)
			}
		})
	}
	if _, err := EncodeNode(NodeBody{Labels: map[string]*string{"a b": nil}}); !errors.Is(err, ErrMalformed) {
		t.Errorf("a label with a space was encoded: %v", err)
	}
	if err := NodeKey("web-1").Valid(); err != nil || NodeKey("web-1").String() != "node/web-1" {
		t.Errorf("%s: %v", NodeKey("web-1"), err)
	}
}

func FuzzDecodeNode(f *testing.F) {
	f.Add([]byte(`{"schema":1,"labels":{"a":"b","c":null},"taints":[],"cordoned":true}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := DecodeNode(b)
		if err != nil {
			return
		}
		again, err := EncodeNode(n)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := DecodeNode(again); err != nil || !reflect.DeepEqual(got, n) {
			t.Fatalf("%+v came back as %+v, %v", n, got, err)
		}
	})
}
