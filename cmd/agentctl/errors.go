package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/agentd/agentd/api"
)

// usageError is misuse of the command line: exit code 2.
type usageError struct {
	msg  string
	hint string
}

func (e *usageError) Error() string { return e.msg }

func usagef(hint, format string, args ...any) error {
	return &usageError{msg: fmt.Sprintf(format, args...), hint: hint}
}

// exitError ends with a code of its own; err may be nil, when all is said.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// hinted is an error with a line that says what to do.
type hinted struct {
	err  error
	hint string
}

func (e *hinted) Error() string { return e.err.Error() }
func (e *hinted) Unwrap() error { return e.err }

func withHint(err error, format string, args ...any) error {
	return &hinted{err: err, hint: fmt.Sprintf(format, args...)}
}

// saidError is one that says by itself what failed.
type saidError struct{ err error }

func (e *saidError) Error() string { return e.err.Error() }
func (e *saidError) Unwrap() error { return e.err }

// cannot says which of the operator's wishes failed. An agentd that can't be
// reached is the same whatever was wished, and stays as it is.
func cannot(wish string, err error) error {
	if err == nil {
		return nil
	}
	var unreachable *api.UnreachableError
	var said *saidError
	if errors.As(err, &said) || errors.As(err, &unreachable) || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("cannot %s: %w", wish, err)
}

// report prints err on stderr and returns the exit code for it.
func (a *app) report(err error) int {
	code := exitFailed
	var exit *exitError
	if errors.As(err, &exit) {
		code = exit.code
		if exit.err == nil {
			return code
		}
	}
	var usage *usageError
	if errors.As(err, &usage) {
		code = exitUsage
	}
	if errors.Is(err, context.Canceled) {
		a.errorf("interrupted")
		return code
	}
	for _, one := range split(err) {
		a.errorf("%s", one)
		for _, hint := range a.hints(one) {
			a.hintf("%s", hint)
		}
	}
	return code
}

// errorList is several errors, each with a line and hints of its own.
type errorList []error

func (l errorList) Error() string {
	lines := make([]string, len(l))
	for i, err := range l {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

func (l errorList) Unwrap() []error { return l }

// split takes a list apart; any other error is a list of one.
func split(err error) []error {
	var list errorList
	if errors.As(err, &list) {
		return list
	}
	return []error{err}
}

// hints collects what to do about err, from the outside in.
func (a *app) hints(err error) []string {
	var hints []string
	add := func(h string) {
		if h != "" {
			hints = append(hints, h)
		}
	}
	var usage *usageError
	var given *hinted
	var problem *api.Problem
	var unreachable *api.UnreachableError
	if errors.As(err, &usage) {
		add(usage.hint)
	}
	if errors.As(err, &given) {
		add(given.hint)
	}
	if errors.As(err, &problem) {
		add(problem.Hint)
	}
	if errors.As(err, &unreachable) {
		add(unreachable.Hint)
		if strings.HasPrefix(unreachable.Hint, "agentd is not running") {
			if pids := a.agents(); len(pids) > 0 {
				add(fmt.Sprintf("an agentd runs as process %d, with another [api] socket; see --socket", pids[0]))
			}
		}
	}
	return hints
}

func (a *app) errorf(format string, args ...any) {
	fmt.Fprintf(a.stderr, "agentctl: %s\n", cleanLines(fmt.Sprintf(format, args...)))
}

func (a *app) hintf(format string, args ...any) {
	fmt.Fprintf(a.stderr, "hint: %s\n", cleanLines(fmt.Sprintf(format, args...)))
}

func (a *app) warnf(format string, args ...any) {
	fmt.Fprintf(a.stderr, "warning: %s\n", cleanLines(fmt.Sprintf(format, args...)))
}

func (a *app) notef(format string, args ...any) {
	fmt.Fprintf(a.stderr, "note: %s\n", cleanLines(fmt.Sprintf(format, args...)))
}
