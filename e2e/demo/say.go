package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// teller prints the story: headings, explanations, commands with their output,
// and what was observed.
type teller struct {
	out    io.Writer
	env    []string // of the commands; the reader is told to export the same
	step   int
	checks int
}

// heading starts a step.
func (t *teller) heading(format string, args ...any) {
	t.step++
	fmt.Fprintf(t.out, "\n--- %d. %s\n", t.step, fmt.Sprintf(format, args...))
}

// say explains.
func (t *teller) say(format string, args ...any) {
	for line := range strings.Lines(fmt.Sprintf(format, args...)) {
		fmt.Fprintf(t.out, "# %s\n", strings.TrimRight(line, "\n"))
	}
}

// observed notes a fact that was looked up, and counts it.
func (t *teller) observed(format string, args ...any) {
	t.checks++
	fmt.Fprintf(t.out, "  ok: %s\n", fmt.Sprintf(format, args...))
}

// sh shows a command line and runs exactly that with bash; an exit other than
// 0 is an error. Its output is shown and returned: stdout and stderr in the
// order in which they were written, as a terminal shows them.
func (t *teller) sh(ctx context.Context, line string) (string, error) {
	fmt.Fprintf(t.out, "$ %s\n", line)
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-o", "pipefail", "-c", line)
	cmd.Env = append(os.Environ(), t.env...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out // being one writer, they share one pipe
	// A grandchild that keeps the pipe open must not keep us.
	cmd.WaitDelay = 2 * time.Second
	err := cmd.Run()
	t.indent(out.String())
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return out.String(), fmt.Errorf("exit %d of: %s", exit.ExitCode(), line)
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		return out.String(), fmt.Errorf("run %q: %w", line, err)
	}
	return out.String(), nil
}

// show prints a command line that something else has just carried out.
func (t *teller) show(line string) { fmt.Fprintf(t.out, "$ %s\n", line) }

func (t *teller) indent(text string) {
	for line := range strings.Lines(text) {
		fmt.Fprintf(t.out, "  %s\n", strings.TrimRight(line, "\n"))
	}
}

// file writes a file and shows it as a command that would write the same.
func (t *teller) file(path, shown, text string) error {
	fmt.Fprintf(t.out, "$ cat > %s <<'END'\n%s\nEND\n", shown, strings.TrimSuffix(text, "\n"))
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", shown, err)
	}
	return nil
}
