package supervise

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/runtime/fake"
)

func TestReadSaid(t *testing.T) {
	long := strings.Repeat("x", 300)
	tests := []struct {
		name, output string
		want         Said
	}{
		{"nothing", "", Said{}},
		{"blank lines", "\n \n", Said{}},
		{"the last line", "one\ntwo\n\n", Said{Line: "two"}},
		{"Go", "ts=12:03:44 caller=main.go:12 err=\"listen tcp 0.0.0.0:9100: bind: address already in use\"\ngoodbye\n",
			Said{Line: "ts=12:03:44 caller=main.go:12 err=\"listen tcp 0.0.0.0:9100: bind: address already in use\"", Taken: true, Port: 9100}},
		{"nginx", "[emerg] bind() to [::]:80 failed (98: Address already in use)", Said{Line: "[emerg] bind() to [::]:80 failed (98: Address already in use)", Taken: true, Port: 80}},
		{"Node", "Error: listen EADDRINUSE: address already in use :::3000", Said{Line: "Error: listen EADDRINUSE: address already in use :::3000", Taken: true, Port: 3000}},
		{"Python names no port", "OSError: [Errno 98] Address already in use", Said{Line: "OSError: [Errno 98] Address already in use", Taken: true}},
		{"no port that exists", "address already in use :99999", Said{Line: "address already in use :99999", Taken: true}},
		{"a long line is cut, and what is no text replaced", "\xff" + long, Said{Line: "?" + long[:saidLimit-1] + "…"}},
	}
	for _, tt := range tests {
		if got := readSaid(tt.output); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func FuzzReadSaid(f *testing.F) {
	f.Add("listen tcp :80: bind: address already in use")
	f.Fuzz(func(t *testing.T, output string) {
		if s := readSaid(output); len(s.Line) > saidLimit+len("…") || strings.ContainsAny(s.Line, "\n\r") || s.Port < 0 || s.Port > 65535 {
			t.Fatalf("%+v", s)
		}
	})
}

// Who listens is asked of the kernel, about this very process.
func TestHolderOf(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	port := ln.Addr().(*net.TCPAddr).Port
	inits := map[string]int{"other": 1 << 30, "web": os.Getpid()}
	if got := holderOf(procDir, port, inits); got != "web" {
		t.Fatalf("port %d is held by %q", port, got)
	}
	delete(inits, "web")
	if got := holderOf(procDir, port, inits); got != "" {
		t.Fatalf("held by %q", got)
	}
}

// Of two daemons that want a port, the first keeps it, and the other says why
// it does not run; a new revision of the first gets its port back, since the
// old one is stopped before it starts.
//
// conformance: A7
// conformance: U2
func TestPortConflict(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var r *rig
		machine := fake.Config{Program: func(s runtime.Spec) fake.Program {
			first, there := r.rt.Instance("first")
			if s.ID == "second" && there && first.PID != 0 {
				return fake.Program{Exits: true, After: 100 * time.Millisecond, Code: 1}
			}
			return fake.Program{}
		}}
		r = newRig(t, machine, func(c *Config) {
			c.LastOutput = func(_ context.Context, daemon string) string {
				if daemon == "second" {
					return "starting\nlisten tcp :9100: bind: address already in use\n"
				}
				return ""
			}
		})
		defer r.end()
		r.set(want("first", 1))
		before := r.is("first", Running)
		r.set(want("first", 1), want("second", 1))
		r.after(20 * time.Second)
		rep := r.is("second", BackOff)
		words := strings.Join(rep.Reasons, "\n")
		if !strings.Contains(words, "its port is taken") || !strings.Contains(words, "listen tcp :9100") || !strings.Contains(rep.Reason, "exited with code 1") ||
			!strings.HasSuffix(rep.Reason, "; its port is taken") {
			t.Fatalf("reasons %s", words)
		}
		if rep := r.is("first", Running); rep.PID != before.PID || rep.Restarts != 0 {
			t.Fatalf("report %+v", rep)
		}
		r.set(want("first", 2), want("second", 1))
		r.after(time.Second)
		if rep := r.is("first", Running); rep.Revision != 2 || r.rt.Count("first") != 1 {
			t.Fatalf("report %+v", rep)
		}
		r.set(gone("first", 3), want("second", 1))
		r.after(time.Minute)
		r.is("second", Running)
	})
}
