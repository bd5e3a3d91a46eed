package chaos

import (
	"fmt"
	"testing"
)

func deal(seed uint64, n int) []Fault {
	s := NewSchedule(seed, 5)
	var all []Fault
	for range n {
		all = append(all, s.Next())
	}
	return all
}

// A seed is worth printing only if it brings back the same faults.
func TestScheduleReplays(t *testing.T) {
	a, b := deal(7, 3000), deal(7, 3000)
	for i := range a {
		if a[i] != b[i] {
			t.Fatalf("fault %d was %v, and is %v", i+1, a[i], b[i])
		}
	}
	if fmt.Sprint(deal(8, 20)) == fmt.Sprint(a[:20]) {
		t.Error("another seed deals the same faults")
	}
}

// Every kind of fault, every moment of a call and every daemon has its turn,
// and one kind's share depends on nothing but its weight.
func TestScheduleCovers(t *testing.T) {
	const n = 5000
	kinds, whens, methodsCut, daemons := map[Kind]int{}, map[When]int{}, map[string]int{}, map[int]int{}
	for i, f := range deal(1, n) {
		if f.N != i+1 {
			t.Fatalf("fault %d is numbered %d", i+1, f.N)
		}
		kinds[f.Kind]++
		daemons[f.Daemon]++
		if f.Kind == CutCall {
			whens[f.Cut.When]++
			methodsCut[f.Cut.Method]++
		}
	}
	sum := 0
	for _, w := range weights {
		sum += w.share
		if got, want := kinds[w.kind], n*w.share/100; got < want*7/10 || got > want*13/10 {
			t.Errorf("%s came %d times in %d, want about %d", w.kind, got, n, want)
		}
	}
	if sum != 100 {
		t.Errorf("the weights add up to %d", sum)
	}
	if len(whens) != 3 || len(methodsCut) != len(methods)+1 || len(daemons) != 5 {
		t.Errorf("moments %v, methods %v, daemons %v: some never come", whens, methodsCut, daemons)
	}
}
