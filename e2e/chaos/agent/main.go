// Command agent is the smallest agent there can be: the real supervisor on a
// real containerd, with a file in the place of the ring. The chaos test kills
// it. It stops nothing when it ends.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/agentd/agentd/agent/supervise"
	"github.com/agentd/agentd/runtime/containerd"
	"github.com/agentd/agentd/runtime/logger"
	"github.com/agentd/agentd/spec"
)

// Wanted is the file that says what shall run.
type Wanted struct {
	Revision int
	Delete   bool   // of all daemons in it
	Daemons  string // TOML
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "chaos agent:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stderr io.Writer) error {
	fs := flag.NewFlagSet("agent", flag.ContinueOnError)
	address := fs.String("address", "", "containerd's `socket`")
	namespace := fs.String("namespace", "", "containerd `namespace`")
	state := fs.String("state", "", "containerd's state `folder`")
	program := fs.String("logger", "", "`path` of agentd-log")
	data := fs.String("data", "", "`folder` of the agent's own; wanted.json in it says what shall run")
	if err := fs.Parse(args); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	lock, err := supervise.Lock(*data, *address, *namespace)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	rt, err := containerd.New(containerd.Config{Address: *address, Namespace: *namespace, Node: "chaos", StateDir: *state, Log: log})
	if err != nil {
		return err
	}
	defer rt.Close()
	changed := make(chan struct{}, 1)
	s := supervise.New(supervise.Config{
		Node: spec.Node{Name: "chaos"}, Runtime: rt, DataDir: *data, Log: log,
		LogPath: func(d string) string { return filepath.Join(*data, "logs", d+".log") },
		LogURI:  func(d string) string { return logURI(log, *program, *data, d) },
		Changed: func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		},
	})
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	go func() { done <- s.Run(ctx) }()
	err = follow(ctx, s, *data, changed)
	cancel()
	return errors.Join(err, <-done)
}

// logURI sends output through the logger, except for one daemon, whose shim
// writes the file itself.
func logURI(log *slog.Logger, program, data, daemon string) string {
	if daemon == "neighbour" {
		return ""
	}
	o := logger.Options{Daemon: daemon, Sink: logger.SinkFile, Path: filepath.Join(data, "logs", daemon+".log")}
	uri, err := o.URI(program)
	if err != nil {
		log.Error("no logger", "daemon", daemon, "err", err)
	}
	return uri
}

// follow hands the supervisor what the file says, whenever that changes, and
// writes down what it reports.
func follow(ctx context.Context, s *supervise.Supervisor, data string, changed <-chan struct{}) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var last []byte
	for {
		b, err := os.ReadFile(filepath.Join(data, "wanted.json"))
		if err != nil {
			return err
		}
		if string(b) != string(last) {
			desired, err := parse(b)
			if err != nil {
				return err
			}
			s.Set(desired)
			last = b
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-changed:
			b, err := json.MarshalIndent(s.Reports(), "", " ")
			if err != nil {
				return err
			}
			part := filepath.Join(data, "reports.part")
			if err := os.WriteFile(part, b, 0o644); err != nil {
				return err
			}
			if err := os.Rename(part, filepath.Join(data, "reports.json")); err != nil {
				return err
			}
		}
	}
}

func parse(b []byte) ([]supervise.Desired, error) {
	var w Wanted
	if err := json.Unmarshal(b, &w); err != nil {
		return nil, err
	}
	daemons, err := spec.Parse([]byte(w.Daemons), "wanted.toml")
	if err != nil {
		return nil, err
	}
	desired := make([]supervise.Desired, 0, len(daemons))
	for _, d := range daemons {
		one := supervise.Desired{Daemon: d, Digest: d.Digest(), Generation: uint64(w.Revision), Revision: w.Revision}
		if w.Delete {
			one = supervise.Desired{Daemon: spec.Daemon{Name: d.Name}, Generation: uint64(w.Revision), Delete: true}
		}
		desired = append(desired, one)
	}
	return desired, nil
}
