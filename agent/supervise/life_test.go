package supervise

import (
	"testing"
	"time"

	"github.com/agentd/agentd/runtime"
)

// Since when an instance is ready: without a break, by whatever tells of one.
func TestLifeReady(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	same := runtime.Instance{ID: "web", PID: 7, State: runtime.StateRunning}
	another, ended := same, same
	another.PID = 8
	ended.PID, ended.State = 0, runtime.StateStopped
	long := Life{Of: "web", Looked: true, Running: &Seen{ID: "web", PID: 7}, ReadySince: ago(time.Hour)}
	probed := long.Felt(time.Hour, ago(time.Minute))
	tests := []struct {
		name string
		life Life
		is   bool
		want time.Time
	}{
		{"it is not", long, false, time.Time{}},
		{"as before", long.Observe(&same, now), true, ago(time.Hour)},
		{"for the first time", Life{}.Observe(&same, now), true, now},
		{"another instance, and nobody saw the first one end", long.Observe(&another, now), true, now},
		{"it ended", long.Observe(&ended, now), false, time.Time{}},
		{"it ended and was back before anybody decided", long.Observe(&ended, now).Observe(&same, now), true, now},
		{"its probes say that it was not, meanwhile", probed.Observe(&same, now), true, ago(time.Minute)},
		{"its probes have known it for longer than it counts", long.Felt(time.Hour, ago(2*time.Hour)), true, ago(time.Hour)},
	}
	for _, tt := range tests {
		if got := tt.life.ready(tt.is, now); !got.Equal(tt.want) {
			t.Errorf("%s: since %v, want %v", tt.name, got, tt.want)
		}
	}
}

// When somebody takes the old container away in the middle of a surge, the new
// one goes on with its own life.
func TestCast(t *testing.T) {
	now := time.Now()
	old, fresh := runtime.Instance{ID: "web", PID: 7, State: runtime.StateRunning}, runtime.Instance{ID: "web.next", PID: 8, State: runtime.StateRunning}
	h := History{Doomed: "web.next"}.Observe(&old, now)
	h.Beside = h.Beside.Observe(&fresh, now)
	h.Beside.ReadySince = now
	if got := h.Cast(&old); got.Of != "web" || got.Beside.Of != "web.next" || got.Doomed == "" {
		t.Errorf("nothing changed, and yet %+v", got)
	}
	if got := h.Cast(&fresh); got.Of != "web.next" || !got.ReadySince.Equal(now) || got.Beside.Looked || got.Doomed != "" {
		t.Errorf("the new one alone: %+v", got)
	}
	if got := h.Cast(nil); got.Of != "web" {
		t.Errorf("none is left: %+v", got)
	}
}
