package spec_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/agentd/agentd/spec"
)

func TestParseTaint(t *testing.T) {
	for _, s := range []string{"dedicated=gpu:NoSchedule", "example.org/x:NoExecute", "a=:PreferNoSchedule"} {
		got, err := spec.ParseTaint(s)
		if err != nil || got.String() != strings.Replace(s, "=:", ":", 1) {
			t.Errorf("%s became %s, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "a", "a=b", ":NoSchedule", "a b:NoSchedule", "a=b c:NoSchedule", "a:noschedule", "a:"} {
		if got, err := spec.ParseTaint(s); err == nil {
			t.Errorf("%q became %s", s, got)
		}
	}
}

// The cases are those of Kubernetes' documentation of taints and tolerations.
func TestTolerates(t *testing.T) {
	gpu := spec.Taint{Key: "dedicated", Value: "gpu", Effect: "NoSchedule"}
	tests := []struct {
		name string
		tol  spec.Toleration
		want bool
	}{
		{"key, value and effect", spec.Toleration{Key: "dedicated", Operator: "Equal", Value: "gpu", Effect: "NoSchedule"}, true},
		{"Equal is what no operator means", spec.Toleration{Key: "dedicated", Value: "gpu", Effect: "NoSchedule"}, true},
		{"every effect", spec.Toleration{Key: "dedicated", Value: "gpu"}, true},
		{"every value", spec.Toleration{Key: "dedicated", Operator: "Exists", Effect: "NoSchedule"}, true},
		{"every taint", spec.Toleration{Operator: "Exists"}, true},
		{"every taint of an effect", spec.Toleration{Operator: "Exists", Effect: "NoSchedule"}, true},
		{"another value", spec.Toleration{Key: "dedicated", Value: "db"}, false},
		{"no value is a value", spec.Toleration{Key: "dedicated"}, false},
		{"another key", spec.Toleration{Key: "other", Operator: "Exists"}, false},
		{"another effect", spec.Toleration{Key: "dedicated", Operator: "Exists", Effect: "NoExecute"}, false},
		{"no key, and not Exists", spec.Toleration{Value: "gpu"}, false},
		{"an operator that does not exist", spec.Toleration{Key: "dedicated", Operator: "Like", Value: "gpu"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := spec.Daemon{Tolerations: []spec.Toleration{{Key: "unrelated", Operator: "Exists"}, tt.tol}}
			if got := d.Tolerates(gpu); got != tt.want {
				t.Errorf("tolerated: %v", got)
			}
		})
	}
	if !(spec.Daemon{Tolerations: []spec.Toleration{{Key: "a"}}}).Tolerates(spec.Taint{Key: "a", Effect: "NoExecute"}) {
		t.Error("a taint without a value is not tolerated by its key")
	}
}

// Only what no toleration covers keeps a daemon off, and a mere preference
// never does.
func TestUntolerated(t *testing.T) {
	a, b := spec.Taint{Key: "a", Effect: "NoSchedule"}, spec.Taint{Key: "b", Value: "1", Effect: "NoExecute"}
	c := spec.Taint{Key: "c", Effect: "PreferNoSchedule"}
	d := spec.Daemon{Tolerations: []spec.Toleration{{Key: "a", Operator: "Exists"}}}
	if got := d.Untolerated([]spec.Taint{c, a, b}); !slices.Equal(got, []spec.Taint{b}) {
		t.Errorf("got %v", got)
	}
	if got := (spec.Daemon{}).Untolerated([]spec.Taint{b, c, a}); !slices.Equal(got, []spec.Taint{b, a}) {
		t.Errorf("got %v", got)
	}
}
