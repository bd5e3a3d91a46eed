package main

import (
	"bufio"
	"context"
	"fmt"
	"strings"
)

// confirm asks a yes-or-no question when somebody is there to answer it: stdin
// and stderr are terminals and --yes was not given. Otherwise it agrees.
func (a *app) confirm(ctx context.Context, yes bool, format string, args ...any) error {
	if yes || !isTerminal(a.stdin) || !isTerminal(a.stderr) {
		return nil
	}
	fmt.Fprintf(a.stderr, "%s [y/N] ", clean(fmt.Sprintf(format, args...)))
	answer := make(chan string, 1)
	// A read from a terminal can't be interrupted; the process ends soon after.
	go func() {
		line, _ := bufio.NewReader(a.stdin).ReadString('\n')
		answer <- line
	}()
	select {
	case line := <-answer:
		switch strings.ToLower(strings.TrimSpace(line)) {
		case "y", "yes":
			return nil
		}
		return fmt.Errorf("not confirmed; nothing was changed")
	case <-ctx.Done():
		fmt.Fprintln(a.stderr)
		return ctx.Err()
	}
}
