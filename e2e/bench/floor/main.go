// Command floor is the least that anybody could write to keep containers
// running: containerd's own client in a process that is there already, with the
// container setup that agentd uses and nothing of what agentd promises. The
// bench compares agentd with it.
//
// It takes commands on stdin, one per line, and answers each with a line: "ok",
// or what went wrong.
//
//	keep ID       run a container; when it ends, delete it and run it again
//	start N W     run N containers, W at a time
//	clear         end and delete all containers
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	fs := flag.NewFlagSet("floor", flag.ContinueOnError)
	address := fs.String("address", "", "containerd's `socket`")
	namespace := fs.String("namespace", "", "containerd `namespace`")
	image := fs.String("image", "", "`image` that all containers run")
	log := fs.String("log", "", "`URI` of the containers' output, with ID for the container's id; empty: dropped")
	if err := fs.Parse(args); err != nil {
		return err
	}
	f, err := connect(ctx, *address, *namespace, *image, *log)
	if err != nil {
		return err
	}
	defer f.close()
	lines := bufio.NewScanner(stdin)
	for lines.Scan() {
		answer := "ok"
		if err := f.obey(lines.Text()); err != nil {
			answer = strings.Join(strings.Fields(err.Error()), " ")
		}
		if _, err := fmt.Fprintln(stdout, answer); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (f *floor) obey(line string) error {
	var id string
	var n, wide int
	if _, err := fmt.Sscanf(line, "keep %s", &id); err == nil {
		return f.keep(id)
	}
	if _, err := fmt.Sscanf(line, "start %d %d", &n, &wide); err == nil {
		return f.many(n, wide)
	}
	if line == "clear" {
		return f.clear()
	}
	return fmt.Errorf("unknown command %q", line)
}

// keep returns when the container runs, and restarts it until clear.
func (f *floor) keep(id string) error {
	one, err := f.start(id)
	if err != nil {
		return err
	}
	f.add(one)
	f.kept.Go(func() {
		for {
			select {
			case <-f.ctx.Done():
				return
			case <-one.exited:
			}
			if !f.take(one) {
				return // clear has it
			}
			if err := one.remove(f.ctx); err != nil {
				fmt.Fprintln(os.Stderr, "floor: remove:", err)
				return
			}
			if one, err = f.start(id); err != nil {
				fmt.Fprintln(os.Stderr, "floor: start again:", err)
				return
			}
			f.add(one)
		}
	})
	return nil
}

// many starts n containers, wide at a time.
func (f *floor) many(n, wide int) error {
	todo := make(chan string, n)
	for i := range n {
		todo <- fmt.Sprintf("many-%d", i)
	}
	close(todo)
	var g sync.WaitGroup
	errs := make([]error, wide)
	for w := range wide {
		g.Go(func() {
			for id := range todo {
				one, err := f.start(id)
				if err != nil {
					errs[w] = err
					return
				}
				f.add(one)
			}
		})
	}
	g.Wait()
	return errors.Join(errs...)
}
